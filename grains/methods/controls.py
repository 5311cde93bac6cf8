"""Controls: what should show no effect, if that of a method is due to what it claims.

Each takes the settings of the method that it controls, and differs from it in one thing. What is
reversed should show the opposite effect.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch.distributed as dist

from grains.artifact import SteeringVector
from grains.errors import GrainsError
from grains.fitting import random_directions
from grains.maskers import Reversed
from grains.methods.base import METHODS, Candidate, Material
from grains.methods.vector import VectorMethod
from grains.sources import SOURCES, DirectionSource, Masked, ShuffledLabels


@final
@METHODS.register("random_direction")
@dataclass(frozen=True, kw_only=True)
class RandomDirection(VectorMethod):
    """Isotropic random directions, in units of the same norms: any push of that length.

    The source gives the norms alone.
    """

    role: ClassVar[str] = "control"

    def fit(self, material: Material) -> list[Candidate]:
        """Put a random direction in the place of each that is found; no certificate is left."""
        found = [(one.label, one.steering) for one in self.vectors(material)]
        vectors = [(label, made) for label, made in found if isinstance(made, SteeringVector)]
        norms = {layer: norm for _, made in vectors for layer, norm in made.norms.items()}
        drawn = random_directions(norms, vectors[0][1].width, material.seed).directions
        return [
            Candidate(
                label,
                dataclasses.replace(made, directions={n: drawn[n] for n in made.layers}),
            )
            for label, made in vectors
        ]


@dataclass(frozen=True, kw_only=True)
class Changed(VectorMethod):
    """A method whose source is changed before it is fitted."""

    role: ClassVar[str] = "control"

    def fit(self, material: Material) -> list[Candidate]:
        """Fit with the changed source, and with all else as it is."""
        return self.vectors(material, self.changed(material))

    @abstractmethod
    def changed(self, material: Material) -> DirectionSource:
        """Return the source that takes the place of `source`."""


@final
@METHODS.register("random_masks")
@dataclass(frozen=True, kw_only=True)
class RandomMasks(Changed):
    """GrAInS with as many masked positions, but others: what attribution must beat.

    The lots are drawn with the seed of the comparison.
    """

    source: DirectionSource = field(default_factory=Masked)

    def __post_init__(self) -> None:
        """Refuse a source without masks."""
        _masked(self)

    def changed(self, material: Material) -> DirectionSource:
        """Shuffle the maskers."""
        return _masked(self).shuffled(material.seed)


@final
@METHODS.register("reversed_ranking")
@dataclass(frozen=True, kw_only=True)
class ReversedRanking(Changed):
    """GrAInS with the tokens that oppose an answer masked for those that support it."""

    source: DirectionSource = field(default_factory=Masked)

    def __post_init__(self) -> None:
        """Refuse a source without masks."""
        _masked(self)

    def changed(self, material: Material) -> DirectionSource:
        """Reverse the maskers."""
        source = _masked(self)
        image = source.image_masker and Reversed(masker=source.image_masker)
        return dataclasses.replace(
            source, masker=Reversed(masker=source.masker), image_masker=image
        )


@final
@METHODS.register("shuffled_labels")
@dataclass(frozen=True, kw_only=True)
class LabelsShuffled(Changed):
    """CAA, or another source, with chosen and rejected swapped in half of the pairs.

    In exactly half, rounded down, of all processes' pairs together, so that what pairs have in
    common cancels. Which ones depends on the pairs and on the seed of the comparison alone, not on
    batches or their order.
    """

    def changed(self, material: Material) -> DirectionSource:
        """Swap those pairs whose lot is below the median."""
        shuffled = ShuffledLabels(source=self.source, seed=material.seed)
        own = list(material.pairs().values())[: self.pairs]
        lots = everyones = [shuffled.lot(pair) for pair in own]
        if dist.is_available() and dist.is_initialized():
            gathered: list[list[float]] = [[]] * dist.get_world_size()
            dist.all_gather_object(gathered, lots)
            everyones = [lot for theirs in gathered for lot in theirs]
        # A sampler repeats pairs so that all processes hold equally many: each counts once.
        ranked = sorted(set(everyones))
        return dataclasses.replace(shuffled, share=ranked[len(ranked) // 2] if ranked else 0.5)


def _masked(method: VectorMethod) -> Masked:
    if not isinstance(method.source, Masked):
        raise GrainsError(
            f"the source is {SOURCES.name_of(method.source)!r}, which masks nothing; wanted "
            "'masked', with the settings of the method that is controlled"
        )
    return method.source
