"""A direction on which the middle between the two sides has no component."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float
from torch import Tensor

from grains.directions.base import DirectionFinder, as_given, paired
from grains.directions.mean_difference import MeanDifference
from grains.errors import GrainsError


@final
@dataclass(frozen=True, kw_only=True)
class Centred(DirectionFinder):
    """Takes out of another finder's direction what lies along the mean of both sides.

    The middle between the sides' means then projects to 0 in every layer, and one threshold tells
    the sides apart in all of them (see the injector `gated`). Not registered: where one side is
    zero, as it may be for other sources, nothing of a mean difference is left.

    Args:
        finder: the one whose direction is taken.
    """

    finder: DirectionFinder = field(default_factory=MeanDifference)

    def find(
        self, toward: Float[Tensor, "pairs d_model"], away: Float[Tensor, "pairs d_model"]
    ) -> Float[Tensor, " d_model"]:
        """Return the direction; see `DirectionFinder.find`."""
        sides = paired(toward, away)
        direction = self.finder.find(*sides)
        middle = sides[0].mean(dim=0) + sides[1].mean(dim=0)
        if energy := float(middle @ middle):
            direction = direction - middle * (middle @ direction / energy)
        length = float(direction.norm())
        if length < 1e-6:
            raise GrainsError(
                f"the direction of {len(toward)} pairs lies along the mean of both sides; wanted "
                "sides that differ in more than length"
            )
        return as_given(direction / length, toward)
