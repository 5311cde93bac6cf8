"""ITI: a probe for every attention head, and steering of those heads whose probes are right."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from tqdm.auto import tqdm

from grains.errors import GrainsError
from grains.fitting import RowStore, as_vector, find_directions
from grains.injectors import Additive, Injector
from grains.layers import parse_layers
from grains.methods.base import METHODS, Candidate, Material
from grains.methods.vector import VectorMethod
from grains.sources import DirectionSource, HeadOutputs, Rows

_SHARE = 48 / 1024  # of LLaMA-7B's heads, in the paper


@final
@METHODS.register("iti")
@dataclass(frozen=True, kw_only=True)
class ITI(VectorMethod):
    """ITI: moves those attention heads whose outputs tell chosen from rejected answers best.

    Heads are ranked by the accuracy with which a logistic probe, on pairs that it has not seen,
    tells the sides apart. The strength is in units of the standard deviation along the direction:
    a head's weight is that, divided by its norm.

    Source: inference-time intervention, Li et al., NeurIPS 2023 (arXiv 2306.03341), with its mean
    shift as direction. It reads true and false answers of its own, here those of the pairs; holds
    out a fixed part instead of each part in turn; and takes the deviation over other pairs, too.

    Args:
        layers: the heads among which the best are chosen, counted through all blocks, such as
            `0-63`; all, if not given.
        heads: how many are steered; if not given, as large a share as the paper's 48 of 1024.
        folds: parts of the pairs, each of which is held out once; 2 or more.
    """

    source: DirectionSource = field(default_factory=HeadOutputs)
    injector: Injector = field(default_factory=Additive)
    heads: int | None = None
    folds: int = 4

    def __post_init__(self) -> None:
        """Refuse a source that reads no heads, and numbers under which none is ranked."""
        if self.source.site != "heads":
            raise GrainsError(
                f"the source reads at the site {self.source.site!r}; wanted source 'heads'"
            )
        if self.heads is not None and self.heads < 1:
            raise GrainsError(f"heads is {self.heads}; wanted 1 or more")
        if self.folds < 2:
            raise GrainsError(f"folds is {self.folds}; wanted 2 or more")

    def fit(self, material: Material) -> list[Candidate]:
        """Rank all heads, and offer the best ones' vector."""
        model, count = material.model, len(self.source.blocks(material.model))
        among = parse_layers(self.layers or "all", count)
        rows = self._rows(material, among)
        accuracy = {
            head: probe_accuracy(rows.toward[head], rows.away[head], self.folds)
            for head in tqdm(among, desc="Probes", delay=2, leave=False, disable=material.quiet)
        }
        wanted = max(1, round(_SHARE * count)) if self.heads is None else self.heads
        # Of equally good ones the first.
        best = sorted(sorted(among, key=lambda head: -accuracy[head])[:wanted])
        toward, away, norms = (
            {head: side[head] for head in best} for side in (rows.toward, rows.away, rows.norms)
        )
        found = find_directions(
            dataclasses.replace(rows, toward=toward, away=away, norms=norms), self.direction_finder
        )
        vector = as_vector(model, found, best, self.injector, self.positions, self.source.site)
        weights = {
            head: _deviation(toward[head], away[head], found.directions[head]) / found.norms[head]
            for head in best
        }
        return [
            Candidate(
                f"{len(best)} heads",
                dataclasses.replace(vector, weights=weights),
                found.certificates,
            )
        ]

    def _rows(self, material: Material, heads: Sequence[int]) -> Rows:
        store = RowStore()
        for batch, memo in tqdm(
            material.parts(self.pairs),
            desc="Rows",
            delay=2,
            leave=False,
            disable=material.quiet,
        ):
            store.add(batch, self.source.rows(material.model, batch.pairs, heads, memo))
        return store.gathered()[1]


def probe_accuracy(toward: Tensor, away: Tensor, folds: int) -> float:
    """Return how often a logistic probe is right about pairs that it was not trained on.

    Args:
        toward: one row a pair, `[pairs, d_model]`.
        away: likewise. Both rows of a pair are held out together.
        folds: parts, each of which is held out once; no more than there are pairs.

    Raises:
        GrainsError: if there is one pair alone.
    """
    pairs = len(toward)
    if pairs < 2:
        raise GrainsError(f"heads are ranked on {pairs} pair; wanted 2 or more")
    rows = torch.cat([toward, away]).double().numpy()
    labels, part = np.repeat([1, 0], pairs), np.tile(np.arange(pairs) % folds, 2)
    right = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # good enough for a ranking
        for held_out in (part == fold for fold in range(min(folds, pairs))):
            seen = rows[~held_out]
            scaled = (rows - seen.mean(0)) / (seen.std(0) + 1e-12)
            probe = LogisticRegression(max_iter=1000).fit(scaled[~held_out], labels[~held_out])
            right += (probe.predict(scaled[held_out]) == labels[held_out]).sum()
    return float(right / len(rows))


def _deviation(toward: Tensor, away: Tensor, direction: Tensor) -> float:
    along = torch.cat([toward, away]).double() @ direction.double()
    return float(along.std(correction=0))
