"""The control of any source: half of the pairs have their answers swapped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from typing import final

from grains.errors import GrainsError
from grains.models import SteerableModel
from grains.sources.answers import Answers
from grains.sources.base import SOURCES, DirectionSource, Memo, Rows
from grains.types import ContrastivePair


@final
@SOURCES.register("shuffled_labels")
@dataclass(frozen=True, kw_only=True)
class ShuffledLabels(DirectionSource):
    """Another source, on pairs of which some have chosen and rejected swapped, by lot.

    What is left of an effect under it owes nothing to which answer is wanted. A pair's lot is a
    hash of its content: it is the same in any batch, in any order and on any process. So `share`
    is met in expectation; the method `shuffled_labels` sets it such that half of a fit's pairs are
    swapped exactly, and their contrasts cancel.

    Args:
        source: what reads the pairs.
        share: pairs whose lot, between 0 and 1, is below this are swapped; from 0 to 1.
        seed: of the lots.
    """

    source: DirectionSource = field(default_factory=Answers)
    share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a share that is none, and stand where the other source does."""
        super().__post_init__()
        if not 0 <= self.share <= 1:
            raise GrainsError(f"share is {self.share}; wanted 0 to 1")
        object.__setattr__(self, "site", self.source.site)

    def blocks(self, model: SteerableModel) -> Sized:
        """Return the other source's."""
        return self.source.blocks(model)

    def lot(self, pair: ContrastivePair) -> float:
        """Return the pair's lot, at least 0 and below 1."""
        content = repr((self.seed, pair.id, pair.prompt, pair.chosen, pair.rejected))
        digest = hashlib.blake2b(content.encode(), digest_size=6).digest()
        return int.from_bytes(digest, "big") / 2**48

    def rows(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        layers: Sequence[int],
        memo: Memo,
    ) -> Rows:
        """Swap, and let the other source read."""
        shuffled = [pair.swapped() if self.lot(pair) < self.share else pair for pair in pairs]
        # With a memo of its own: what is known of the batch is known of the pairs as they were.
        return self.source.rows(model, shuffled, layers, Memo())
