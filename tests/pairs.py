"""Pairs of a question and two answers, as many as a test wants."""

from __future__ import annotations

from grains.types import ContrastivePair

WORDS = "sea sky sun ship seed bird night winter colour earth answer reason south nobody".split()


def pairs(count: int) -> list[ContrastivePair]:
    """Return pairs that all differ, the answers as well as the questions."""
    return [
        ContrastivePair(
            id=f"p{i}",
            prompt=f"What of the {WORDS[i % 14]} and the {WORDS[(i * 5 + 3) % 14]} {i}?",
            chosen=f"The {WORDS[(i + 4) % 14]} is blue",
            rejected=f"A {WORDS[(i + 9) % 14]} is not here",
        )
        for i in range(count)
    ]
