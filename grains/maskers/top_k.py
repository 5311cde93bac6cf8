"""The k most positive and the k most negative positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grains.errors import GrainsError
from grains.maskers.base import MASKERS, Masker
from grains.maskers.ranking import largest_of_each_sign
from grains.types import Selection


@final
@MASKERS.register("top_k")
@dataclass(frozen=True, kw_only=True)
class TopK(Masker):
    """Picks the k most positive and the k most negative positions: the published choice.

    Fewer of a sign where there are fewer; of equal scores the earlier position. Source: GrAInS
    (arXiv 2507.18043), which takes 10 tokens of text or 50 with an image.

    Args:
        k: positions of each sign.
    """

    k: int = 4

    def __post_init__(self) -> None:
        """Refuse a k that picks nothing."""
        if self.k < 1:
            raise GrainsError(f"k is {self.k}; wanted 1 or more")

    def select(
        self, scores: Float[Tensor, "batch seq"], allowed: Bool[Tensor, "batch seq"]
    ) -> Selection:
        """Pick positions; see `Masker.select`."""
        count = allowed.new_full((len(scores),), self.k, dtype=torch.long)
        return largest_of_each_sign(scores, allowed, count)
