"""One bar over work of several kinds, with the time that is left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from tqdm.auto import tqdm

Item = TypeVar("Item")


class Progress:
    """Shows how much is done, and how long the rest will take at each kind's own pace.

    Amounts are in passes of one text through the model. A kind of which nothing is done yet is
    taken to go at the pace of the others. What was done by an earlier run does not count.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._left: dict[str, float] = {}
        self._kind = ""
        self._done: dict[str, float] = defaultdict(float)
        self._seconds: dict[str, float] = defaultdict(float)
        self._bar: Any = tqdm(
            total=1,
            desc="Sweep",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}",
            miniters=0,
            disable=quiet,
        )

    def expect(self, kind: str, amount: float) -> None:
        """Say how much of a kind is to come."""
        self._left[kind], self._kind = amount, kind
        self._show()

    def over(
        self, kind: str, items: Sequence[Item], amount: float, later: float = 0.0
    ) -> Iterator[Item]:
        """Yield each item of a kind, of about that amount each, with some more of it to come."""
        for index, item in enumerate(items):
            self.expect(kind, amount * (len(items) - index) + later)
            yield item
        self.expect(kind, later)

    def did(self, kind: str, amount: float, seconds: float) -> None:
        """Say what was done just now, and how long it took."""
        self._done[kind] += amount
        self._seconds[kind] += seconds
        self._left[kind] = max(0.0, self._left.get(kind, 0.0) - amount)
        self._show()

    def seconds_left(self) -> float | None:
        """Return how long the rest will take, or None before anything is done."""
        done, seconds = sum(self._done.values()), sum(self._seconds.values())
        if not done:
            return None
        paces = {kind: self._seconds[kind] / amount for kind, amount in self._done.items()}
        return sum(left * paces.get(kind, seconds / done) for kind, left in self._left.items())

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # what was expected and not needed is not to come
            self._left.clear()
            self._show()
        self._bar.close()

    def _show(self) -> None:
        done = sum(self._done.values())
        self._bar.total = max(done + sum(self._left.values()), 1)
        self._bar.n = done
        left = self.seconds_left()
        if left is not None:
            shown = tqdm.format_interval(left)
            self._bar.set_postfix_str(f"{shown} left ({self._kind})", refresh=False)
        self._bar.update(0)
