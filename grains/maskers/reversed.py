"""The control of any masker: its ranking, read from the other end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from jaxtyping import Bool, Float
from torch import Tensor

from grains.maskers.base import MASKERS, Masker
from grains.maskers.top_k import TopK
from grains.types import Selection


@final
@MASKERS.register("reversed")
@dataclass(frozen=True, kw_only=True)
class Reversed(Masker):
    """Picks by the reversed ranking: what opposes is taken for what supports, and conversely.

    An effect that stays the same under it owes nothing to the sign of the credits.

    Args:
        masker: the one that sees the scores with the other sign.
    """

    masker: Masker = field(default_factory=TopK)

    def select(
        self, scores: Float[Tensor, "batch seq"], allowed: Bool[Tensor, "batch seq"]
    ) -> Selection:
        """Pick positions; see `Masker.select`."""
        return self.masker.select(-scores, allowed)
