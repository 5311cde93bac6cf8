"""The plain difference of means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from grains.directions.base import DIRECTION_FINDERS, DirectionFinder, as_given, paired, unit


@final
@DIRECTION_FINDERS.register("mean_difference")
@dataclass(frozen=True, kw_only=True)
class MeanDifference(DirectionFinder):
    """Points from the mean of the away rows to the mean of the toward rows.

    Source: contrastive activation addition, Rimsky et al., ACL 2024 (arXiv 2312.06681).
    """

    def find(
        self, toward: Float[Tensor, "pairs d_model"], away: Float[Tensor, "pairs d_model"]
    ) -> Float[Tensor, " d_model"]:
        """Return the direction; see `DirectionFinder.find`."""
        sides = paired(toward, away)
        return as_given(unit(sides[0].mean(dim=0) - sides[1].mean(dim=0), sides), toward)
