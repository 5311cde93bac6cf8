"""Successive halving: which cells go on to more pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import final

from grains.errors import GrainsError


@final
@dataclass(frozen=True, kw_only=True)
class Halving:
    """All cells are scored on a few pairs, the best of them on more, until all pairs are used.

    A round sees `1 / keep` times as many pairs as the one before, those included, and lets the
    share `keep` of its cells go on: every round costs about the same. Source: Jamieson and
    Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016.

    Args:
        rounds: 1 scores every cell on all pairs.
        keep: the share of cells that goes on.
    """

    rounds: int = 3
    keep: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what halves nothing."""
        if type(self.rounds) is not int or self.rounds < 1:
            raise GrainsError(f"halving: rounds is {self.rounds!r}; wanted 1 or more")
        if not isinstance(self.keep, Real) or not 0 < float(self.keep) < 1:
            raise GrainsError(f"halving: keep is {self.keep!r}; wanted more than 0 and less than 1")

    def counts(self, pairs: int) -> list[int]:
        """Return on how many pairs each round compares its cells.

        Raises:
            GrainsError: if there are too few for every round to bring new ones.

        >>> Halving(rounds=3, keep=0.5).counts(100)
        [25, 50, 100]
        """
        shares = [self.keep ** (self.rounds - 1 - done) for done in range(self.rounds)]
        counts = [math.ceil(pairs * share - 1e-9) for share in shares]
        if len(set(counts)) < len(counts):
            raise GrainsError(
                f"halving: {self.rounds} rounds would compare on {', '.join(map(str, counts))} of "
                f"{pairs} validation pairs; wanted fewer rounds, or more pairs in val"
            )
        return counts

    def survivors(self, gains: Sequence[float]) -> list[int]:
        """Return which cells go on, one at least, in their order; of equal gains the first.

        >>> Halving(keep=0.5).survivors([0.1, 0.3, 0.2, 0.3])
        [1, 3]
        """
        ranked = sorted(range(len(gains)), key=lambda cell: -gains[cell])  # stable
        return sorted(ranked[: self.kept(len(gains))])

    def kept(self, cells: int) -> int:
        """Return how many cells go on."""
        return max(1, math.ceil(cells * self.keep - 1e-9))
