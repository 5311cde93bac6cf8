"""The same share of the positions in every example, short or long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jaxtyping import Bool, Float
from torch import Tensor

from grains.errors import GrainsError
from grains.maskers.base import MASKERS, Masker
from grains.maskers.ranking import largest_of_each_sign
from grains.types import Selection


@final
@MASKERS.register("top_fraction")
@dataclass(frozen=True, kw_only=True)
class TopFraction(Masker):
    """Picks the strongest share of the allowed positions for each sign, so that k follows length.

    `fraction` of the allowed positions, rounded, is the k of each sign, one at the least. Fewer of
    a sign where there are fewer; of equal scores the earlier position.

    Args:
        fraction: share of the allowed positions, more than 0 and at most 1, for each sign.
    """

    fraction: float = 0.2

    def __post_init__(self) -> None:
        """Refuse a share that picks nothing, or more than there is."""
        if not 0 < self.fraction <= 1:
            raise GrainsError(f"fraction is {self.fraction}; wanted more than 0 and at most 1")

    def select(
        self, scores: Float[Tensor, "batch seq"], allowed: Bool[Tensor, "batch seq"]
    ) -> Selection:
        """Pick positions; see `Masker.select`."""
        count = (allowed.sum(dim=1) * self.fraction).round().long().clamp(min=1)
        return largest_of_each_sign(scores, allowed, count)
