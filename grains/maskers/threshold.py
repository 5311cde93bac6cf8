"""Positions that count for enough, however many they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jaxtyping import Bool, Float
from torch import Tensor

from grains.errors import GrainsError
from grains.maskers.base import MASKERS, Masker
from grains.types import Selection


@final
@MASKERS.register("threshold")
@dataclass(frozen=True, kw_only=True)
class Threshold(Masker):
    """Picks positions whose credit is at least a share of the example's strongest, by magnitude.

    The strongest is the largest absolute score among the allowed positions of the row, of either
    sign, and both signs are held to it. So a one-sided example picks on one side alone.

    Args:
        share: of the strongest absolute score, more than 0 and at most 1.
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        """Refuse a share that picks everything or nothing."""
        if not 0 < self.share <= 1:
            raise GrainsError(f"share is {self.share}; wanted more than 0 and at most 1")

    def select(
        self, scores: Float[Tensor, "batch seq"], allowed: Bool[Tensor, "batch seq"]
    ) -> Selection:
        """Pick positions; see `Masker.select`."""
        size = scores.abs().masked_fill(~allowed, 0)
        strong = allowed & (size >= self.share * size.amax(dim=1, keepdim=True))
        return Selection(strong & (scores > 0), strong & (scores < 0))
