"""The control: positions picked by lot."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grains.errors import GrainsError
from grains.maskers.base import MASKERS, Masker
from grains.types import Selection


@final
@MASKERS.register("random")
@dataclass(frozen=True, kw_only=True)
class RandomMasker(Masker):
    """Picks k allowed positions for each side by lot, whatever their sign: what `top_k` must beat.

    The lot depends on the seed and on the order of the example's allowed scores, so that an example
    gets the same one in any batch and under any padding, in spite of rounding in the scores.
    Where fewer than 2 k positions are allowed, the two sides share them evenly.

    Args:
        k: positions of each side.
        seed: of the lot.
    """

    k: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a k that picks nothing."""
        if self.k < 1:
            raise GrainsError(f"k is {self.k}; wanted 1 or more")

    def select(
        self, scores: Float[Tensor, "batch seq"], allowed: Bool[Tensor, "batch seq"]
    ) -> Selection:
        """Pick positions; see `Masker.select`."""
        positive, negative = torch.zeros_like(allowed), torch.zeros_like(allowed)
        for row, free in enumerate(allowed):
            places = free.nonzero()[:, 0]
            drawn = places[shuffle(self.seed, scores[row, places]).to(places.device)]
            positive[row, drawn[0::2][: self.k]] = True
            negative[row, drawn[1::2][: self.k]] = True
        return Selection(positive, negative)


def shuffle(seed: int, scores: Float[Tensor, " places"]) -> Int[Tensor, " places"]:
    """Return a random order of an example's places, which its seed and scores' order decide."""
    ranking = scores.argsort(stable=True).cpu()
    content = f"{seed}:".encode() + ranking.numpy().tobytes()
    digest = hashlib.blake2b(content, digest_size=8).digest()
    lots = torch.Generator().manual_seed(int.from_bytes(digest, "big", signed=True))
    return torch.randperm(len(ranking), generator=lots)
