"""Methods that add a direction at some blocks: a source of rows, a finder and an injector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from tqdm.auto import tqdm

from grains.arms import Arm
from grains.directions import DirectionFinder, MeanDifference
from grains.fitting import Fit
from grains.injectors import Injector, Normalized
from grains.layers import parse_layers, show_layers
from grains.methods.base import METHODS, Candidate, Material, Method
from grains.sources import Answers, DirectionSource
from grains.types import Positions


@dataclass(frozen=True, kw_only=True)
class VectorMethod(Method):
    """A steering vector: where rows come from, what is read from them, and how it acts.

    How it is fitted is for what extends this to say; most do with `fit = VectorMethod.vectors`.

    Args:
        source: turns pairs into rows.
        direction_finder: turns rows into a direction a layer.
        injector: moves hidden states along it.
        positions: where.
        layers: such as `8-19` or `all`; the sets of the comparison, if not given.
        pairs: fit on the first that many pairs of the data only; on all, if not given.
    """

    source: DirectionSource = field(default_factory=Answers)
    direction_finder: DirectionFinder = field(default_factory=MeanDifference)
    injector: Injector = field(default_factory=Normalized)
    positions: Positions = "all"
    layers: str | None = None
    pairs: int | None = None

    def vectors(self, material: Material, source: DirectionSource | None = None) -> list[Candidate]:
        """Find directions once, and offer one vector for each set of layers.

        Args:
            material: what is fitted on.
            source: in place of the method's own.

        Raises:
            GrainsError: as `fit`.
        """
        model, source = material.model, source or self.source
        sets = list(material.layer_sets)
        if self.layers is not None:
            sets = [parse_layers(self.layers, len(source.blocks(model)))]
        arm = Arm(name="steered", source=source, finder=self.direction_finder)
        fit = Fit(model, [arm], [], sets, self.injector, self.positions, material.seed)
        for batch, memo in tqdm(
            material.parts(self.pairs), desc="Rows", delay=2, leave=False, disable=material.quiet
        ):
            fit.add(batch, memo)
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


@final
@METHODS.register("vector")
@dataclass(frozen=True, kw_only=True)
class Vector(VectorMethod):
    """A steering vector from any source, direction finder and injector; as they are, CAA."""

    fit = VectorMethod.vectors
