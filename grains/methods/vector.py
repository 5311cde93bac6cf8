"""Methods that add a direction at some blocks: a source of rows, a finder and an injector."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from tqdm.auto import tqdm

from grains.arms import Arm
from grains.directions import DirectionFinder, MeanDifference
from grains.fitting import Fit
from grains.injectors import Injector, Normalized
from grains.layers import parse_layers, show_layers
from grains.methods.base import Candidate, Material, Method
from grains.sources import Answers, DirectionSource
from grains.types import Positions


@dataclass(frozen=True, kw_only=True)
class VectorMethod(Method):
    """A steering vector: where rows come from, what is read from them, and how it acts.

    Args:
        source: turns pairs into rows.
        direction_finder: turns rows into a direction a layer.
        injector: moves hidden states along it.
        positions: where.
        layers: such as `8-19` or `all`; the sets of the comparison, if not given.
        pairs: fit on that many pairs only; on all, if not given.
    """

    source: DirectionSource = field(default_factory=Answers)
    direction_finder: DirectionFinder = field(default_factory=MeanDifference)
    injector: Injector = field(default_factory=Normalized)
    positions: Positions = "all"
    layers: str | None = None
    pairs: int | None = None

    def fit(self, material: Material) -> list[Candidate]:
        """Find directions once, and offer one vector for each set of layers."""
        model = material.model
        sets = list(material.layer_sets)
        if self.layers is not None:
            sets = [parse_layers(self.layers, len(self.source.blocks(model)))]
        arm = Arm(name="steered", source=self.source, finder=self.direction_finder)
        fit = Fit(model, [arm], [], sets, self.injector, self.positions, material.seed)
        left = self.pairs
        for batch, memo in tqdm(
            list(zip(material.batches, material.memos, strict=True)),
            desc="Rows",
            delay=2,
            leave=False,
            disable=material.quiet,
        ):
            if left is None:
                fit.add(batch, memo)
            elif left > 0:
                some = dataclasses.replace(
                    batch, index=batch.index[:left], pairs=batch.pairs[:left]
                )
                fit.add(some)
                left -= len(some.pairs)
        fit.find(quiet=material.quiet)
        marks = fit.found[arm.name].certificates
        return [
            Candidate(
                show_layers(layers),
                fit.vector(arm.name, layers),
                {layer: marks[layer] for layer in layers},
            )
            for layers in sets
        ]
