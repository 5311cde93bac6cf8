"""The control of any masker: as many positions, but others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grains.maskers.base import Masker
from grains.maskers.random import shuffle
from grains.types import Selection


@final
@dataclass(frozen=True, kw_only=True)
class Shuffled(Masker):
    """Picks as many positions of each side as another masker does, by lot among the allowed ones.

    What is left of an effect under it owes nothing to who was credited, only to how many were
    masked. The lot of an example depends on the seed and on its own scores alone.

    Args:
        masker: the one whose counts are kept.
        seed: of the lots.
    """

    masker: Masker
    seed: int = 0

    def select(
        self, scores: Float[Tensor, "batch seq"], allowed: Bool[Tensor, "batch seq"]
    ) -> Selection:
        """Pick positions; see `Masker.select`."""
        return self.within(scores, allowed, [allowed])

    def within(
        self,
        scores: Float[Tensor, "batch seq"],
        allowed: Bool[Tensor, "batch seq"],
        groups: Sequence[Bool[Tensor, "batch seq"]],
    ) -> Selection:
        """Pick as many of each side in every group of positions, such as words and image tokens."""
        kept = self.masker.select(scores, allowed)
        positive, negative = torch.zeros_like(allowed), torch.zeros_like(allowed)
        for group in groups:
            for row in range(len(scores)):
                here = group[row] & allowed[row]
                places = here.nonzero()[:, 0]
                drawn = places[shuffle(self.seed, scores[row, places]).to(places.device)]
                first = int((kept.positive[row] & here).sum())
                second = int((kept.negative[row] & here).sum())
                positive[row, drawn[:first]] = True
                negative[row, drawn[first : first + second]] = True
        return Selection(positive, negative)
