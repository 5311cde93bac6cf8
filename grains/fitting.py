"""From batches of rows to directions: what a fit keeps, and what it finds."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from grains.arms import Arm, control_arms
from grains.artifact import SteeringVector
from grains.data import PairBatch
from grains.directions import Certificate, DirectionFinder
from grains.injectors import Injector
from grains.models import SteerableModel
from grains.sources import Memo, Rows
from grains.types import Positions, Site


class RowStore:
    """The rows of all pairs seen so far: one a pair, layer and side, and nothing else."""

    def __init__(self) -> None:
        self._pairs: list[tuple[int, str]] = []
        self._parts: list[Rows] = []

    def add(self, batch: PairBatch, rows: Rows) -> None:
        """Keep a batch; its indices say where its pairs stand in the data."""
        names = [pair.id or pair.prompt[:40] for pair in batch.pairs]
        self._pairs += zip(batch.index.tolist(), names, strict=True)
        self._parts.append(rows)

    def gathered(self) -> tuple[list[str], Rows]:
        """Return the pairs' names and rows, of all processes, in data order, each pair once."""
        held = (self._pairs, self._parts)
        everyone = [held]
        if dist.is_available() and dist.is_initialized():
            everyone = [held] * dist.get_world_size()
            dist.all_gather_object(everyone, held)
        pairs = [pair for those, _ in everyone for pair in those]
        rows = Rows.cat([part for _, parts in everyone for part in parts])
        first = {index: row for row, (index, _) in reversed(list(enumerate(pairs)))}
        order = [first[index] for index in sorted(first)]
        return [pairs[row][1] for row in order], rows.take(order)


@dataclass(frozen=True)
class Gap:
    """How far the credits of a fit's attributions are from adding up to the score.

    Args:
        median: of the pairs' completeness gaps.
        worst: the largest.
        worst_pair: whose it is.
        over: the pairs above `LIMIT`, whose credits are not to be trusted.
    """

    median: float
    worst: float
    worst_pair: str
    over: tuple[str, ...]

    LIMIT: ClassVar[float] = 0.05

    @classmethod
    def of(cls, names: Sequence[str], gaps: Float[Tensor, " pairs"]) -> Gap | None:
        """Return the summary, or None where the attributor promises no completeness."""
        known = [(g, n) for n, g in zip(names, gaps.tolist(), strict=True) if not math.isnan(g)]
        if not known:
            return None
        worst, whose = max(known)
        over = tuple(name for gap, name in known if gap > cls.LIMIT)
        return cls(statistics.median(gap for gap, _ in known), worst, whose, over)

    def __str__(self) -> str:
        shown = ", ".join(self.over[:5]) + (", ..." if len(self.over) > 5 else "")
        over = f"; over {self.LIMIT:.0%}: {len(self.over)} pairs ({shown})" if self.over else ""
        return f"median {self.median:.1%}, worst {self.worst:.1%} ({self.worst_pair}){over}"


@dataclass(frozen=True)
class Found:
    """Directions of all layers, from one source and finder.

    Args:
        directions: layer to a unit vector `[d_model]`.
        norms: layer to the mean length of the hidden states that were read.
        certificates: layer to what speaks for its direction.
    """

    directions: dict[int, Float[Tensor, " d_model"]]
    norms: dict[int, float]
    certificates: dict[int, Certificate]

    def unstable(self) -> list[int]:
        """Return the layers whose direction has no stable sign."""
        return [layer for layer, mark in self.certificates.items() if not mark.stable]


def find_directions(rows: Rows, finder: DirectionFinder) -> Found:
    """Find and certify one direction a layer."""
    directions, certificates = {}, {}
    for layer, toward in rows.toward.items():
        away = rows.away[layer]
        directions[layer] = finder.find(toward, away)
        certificates[layer] = finder.certify(toward, away, directions[layer])
    return Found(directions, _mean_norms(rows.norms), certificates)


class Fit:
    """Everything that one pass over the pairs finds: directions for each arm and control.

    Args:
        model: the frozen model.
        arms: the steering asked for, one arm a masker.
        controls: names of controls, of which some are arms of their own.
        layer_sets: the sets of layers that may be chosen.
        injector: how vectors will move hidden states.
        positions: where they will.
        seed: of the random direction.
    """

    def __init__(
        self,
        model: SteerableModel,
        arms: Sequence[Arm],
        controls: Sequence[str],
        layer_sets: Sequence[tuple[int, ...]],
        injector: Injector,
        positions: Positions,
        seed: int,
    ) -> None:
        self.model, self.arms, self.layer_sets = model, arms, layer_sets
        self.injector = injector
        self.positions: Positions = positions
        self.controls, self.seed = controls, seed
        self.all_arms = [*arms, *control_arms(controls, arms, seed)]
        self.site: Site = arms[0].source.site
        self.layers = sorted({layer for layers in layer_sets for layer in layers})
        self.found: dict[str, Found] = {}
        self.gap: Gap | None = None
        self.pairs = 0
        self._stores = {arm.name: RowStore() for arm in self.all_arms}

    def add(self, batch: PairBatch, memo: Memo | None = None) -> None:
        """Turn each pair of a batch into one row a layer, for every arm.

        A memo that other fits have filled for the same batch saves what they have computed.
        """
        memo = memo or Memo()
        for arm in self.all_arms:
            # Arms that differ in their finder alone read the same rows.
            rows = memo.get(
                (arm.source, tuple(self.layers)),
                functools.partial(arm.source.rows, self.model, batch.pairs, self.layers, memo),
            )
            self._stores[arm.name].add(batch, rows)

    def find(self, *, quiet: bool = False) -> None:
        """Find the directions from the rows of all processes, and let the rows go."""
        for arm in tqdm(self.all_arms, desc="Directions", disable=quiet, leave=False):
            names, rows = self._stores.pop(arm.name).gathered()
            self.found[arm.name] = find_directions(rows, arm.finder)
            if arm is self.arms[0]:
                self.pairs = len(names)
                self.gap = Gap.of(names, rows.gap)
        if "random_direction" in self.controls:
            found = self.found[self.arms[0].name]
            width = len(found.directions[self.layers[0]])
            self.found["random_direction"] = random_directions(found.norms, width, self.seed)

    def candidates(self) -> dict[str, list[SteeringVector]]:
        """Return arm to one vector of coefficient 1 for each set of layers."""
        return {
            arm.name: [self.vector(arm.name, layers) for layers in self.layer_sets]
            for arm in self.arms
        }

    def vector(self, name: str, layers: Sequence[int]) -> SteeringVector:
        """Return the vector of an arm or control, of coefficient 1, for some layers."""
        found = self.found[name]
        return as_vector(self.model, found, layers, self.injector, self.positions, self.site)

    def unstable(self) -> dict[str, list[int]]:
        """Return arm to the layers whose direction has no stable sign."""
        return {arm.name: self.found[arm.name].unstable() for arm in self.arms}


def as_vector(
    model: SteerableModel,
    found: Found,
    layers: Sequence[int],
    injector: Injector,
    positions: Positions,
    site: Site,
) -> SteeringVector:
    """Return directions of some layers as a vector of coefficient 1 for the model."""
    return SteeringVector(
        directions={layer: found.directions[layer] for layer in layers},
        norms={layer: found.norms[layer] for layer in layers},
        coefficient=1.0,
        injector=injector,
        positions=positions,
        site=site,
        card={"model": model.name, "fingerprint": model.fingerprint},
    )


def random_directions(norms: Mapping[int, float], width: int, seed: int) -> Found:
    """Return the control: an isotropic random direction a layer, with the same norms."""
    generator = torch.Generator().manual_seed(seed)
    directions = {}
    for layer in sorted(norms):
        drawn = torch.randn(width, generator=generator, dtype=torch.float64)
        directions[layer] = (drawn / drawn.norm()).float()
    return Found(directions, dict(norms), {})


def _mean_norms(norms: Mapping[int, Tensor]) -> dict[int, float]:
    return {layer: float(lengths.double().mean()) for layer, lengths in norms.items()}
