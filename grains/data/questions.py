"""Questions about pictures to be answered freely and judged, with no pair of answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ImageQuestion:
    """One question about one or several pictures, with the answer that is held to be right.

    Args:
        id: which question; each occurs once in its data set.
        prompt: the question, its options not included.
        answer: the right answer: a text, or the letter of an option.
        image: as in `ContrastivePair`.
        kind: what the data set calls this sort of question.
        options: what may be chosen from, in the order A, B, ...; empty for an open question.
        objects: names of what is truly in the picture, where the data set tells.
    """

    id: str
    prompt: str
    answer: str
    image: Any
    kind: str = ""
    options: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
