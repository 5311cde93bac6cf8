"""How little a text repeats itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

from grains.errors import GrainsError

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Return the share of n-grams of words that are distinct, over all texts (Li et al. 2016).

    A model that steering has broken says the same over and over: its share falls. The share also
    falls with length, so compare answers of like length. Case is not told apart. A text of fewer
    than `n` words counts as one n-gram; where there is no word at all, the share is 0.

    >>> distinct_n(["the cat and the cat"], 1), distinct_n(["the cat and the cat"], 2)
    (0.6, 0.75)

    Raises:
        GrainsError: if `n` is less than 1, or `texts` is one text.
    """
    if isinstance(texts, str):
        raise GrainsError(f"texts is {texts[:40]!r}; wanted a list of texts")
    if n < 1:
        raise GrainsError(f"n is {n}; wanted 1 word or more")
    grams: list[tuple[str, ...]] = []
    for text in texts:
        words = _WORD.findall(text.casefold())
        last = max(1, len(words) - n + 1) if words else 0
        grams += [tuple(words[start : start + n]) for start in range(last)]
    return len(set(grams)) / len(grams) if grams else 0.0
