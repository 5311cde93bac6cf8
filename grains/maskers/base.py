"""Which positions count as credited, by sign."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from grains.registry import Registry
from grains.types import Selection


@dataclass(frozen=True, kw_only=True)
class Masker(ABC):
    """Picks the positions that support the score and those that oppose it.

    A masker only selects. What fills a masked position (the mean embedding, the padding token's,
    zeros) is a setting of the direction source, since it is the same for all maskers.
    """

    @abstractmethod
    def select(
        self, scores: Float[Tensor, "batch seq"], allowed: Bool[Tensor, "batch seq"]
    ) -> Selection:
        """Pick positions by their signed scores.

        Args:
            scores: signed credit of each position.
            allowed: positions that may be masked. Padding, template and the read-out position are
                not among them.

        Returns:
            Two boolean masks of shape `[batch, seq]`, disjoint and inside `allowed`.
        """


MASKERS: Registry[Masker] = Registry("masker", Masker)
