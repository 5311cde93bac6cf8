"""Splits that no question crosses, drawn from the content of the pairs alone."""

from __future__ import annotations

import hashlib
import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grains.data.base import image_sha256, pair_sha256, sha256_of
from grains.errors import GrainsError
from grains.types import ContrastivePair

PARTS = ("fit", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Three parts with no question in common.

    Args:
        fit: pairs that directions are found from.
        val: pairs that settings are chosen on.
        test: pairs that neither has seen.
        left_out: pairs that are in no part: not asked for, or of a question that another part took.
        seed: that the split was drawn with.
    """

    fit: tuple[ContrastivePair, ...]
    val: tuple[ContrastivePair, ...]
    test: tuple[ContrastivePair, ...]
    left_out: int
    seed: int

    def record(self) -> dict[str, Any]:
        """Return seed, sizes and the sha256 of each part's ids, ready for JSON."""
        parts = {name: getattr(self, name) for name in PARTS}
        return {
            "seed": self.seed,
            "sizes": {name: len(part) for name, part in parts.items()},
            "left_out": self.left_out,
            # By these a later test notices a pair that the fit or the choice has seen.
            "seen": sorted({short_question(pair) for pair in (*self.fit, *self.val)}),
            "ids_sha256": {
                name: sha256_of(pair.id or pair_sha256(pair) for pair in part)
                for name, part in parts.items()
            },
        }


def question_of(pair: ContrastivePair) -> str:
    """Return what makes two pairs ask the same: the normalised prompt, and the picture.

    Case, white space and ways to write the same character in Unicode are not told apart.
    """
    prompt = " ".join(unicodedata.normalize("NFKC", pair.prompt).casefold().split())
    return sha256_of([prompt, image_sha256(pair.image)])


def short_question(pair: ContrastivePair) -> str:
    """Return the first 12 digits of `question_of`, enough to tell a data set's questions apart."""
    return question_of(pair)[:12]


def check_counts(**counts: int | None) -> None:
    """Refuse counts of parts that no data could meet.

    Raises:
        GrainsError: for a negative count, one that is no integer, or more than one that is None.
    """
    for name, count in counts.items():
        if count is not None and (type(count) is not int or count < 0):
            raise GrainsError(f"{name} is {count!r}; wanted 0 or more pairs, or None for the rest")
    rest = [name for name, count in counts.items() if count is None]
    if len(rest) > 1:
        raise GrainsError(f"{' and '.join(rest)} are None; only one part can be the rest")


def split_pairs(
    pairs: Sequence[ContrastivePair],
    *,
    fit: int | None,
    val: int | None,
    test: int | None,
    seed: int,
) -> Split:
    """Draw the three parts, in the order fit, val, test, and the rest (None) last.

    Questions are sorted by a hash of the seed and their own text, and dealt out in that order. So
    the split depends on nothing else: not on the order of the rows, the platform or the version.
    Pairs of a question that is only partly needed are left out of every other part.

    Args:
        pairs: the whole data set.
        fit: number of pairs, or None for all that remain.
        val: likewise.
        test: likewise.
        seed: of the draw.

    Raises:
        GrainsError: if more pairs are wanted than there are.
    """
    counts = {"fit": fit, "val": val, "test": test}
    check_counts(**counts)
    keyed = sorted(
        (
            (_shuffle_key(seed, question_of(pair)), _shuffle_key(seed, _answers_of(pair)), pair)
            for pair in pairs
        ),
        key=lambda item: item[:2],
    )
    questions = [
        [pair for *_, pair in group] for _, group in itertools.groupby(keyed, lambda item: item[0])
    ]
    remaining = iter(questions)
    parts: dict[str, list[ContrastivePair]] = {}
    for name in sorted(PARTS, key=lambda part: counts[part] is None):
        count, part = counts[name], []
        while count is None or len(part) < count:
            question = next(remaining, None)
            if question is None:
                break
            part += question if count is None else question[: count - len(part)]
        if count is not None and len(part) < count:
            raise GrainsError(_too_few(counts, pairs=len(pairs), questions=len(questions)))
        parts[name] = part
    used = sum(map(len, parts.values()))
    return Split(
        **{name: tuple(part) for name, part in parts.items()},
        left_out=len(pairs) - used,
        seed=seed,
    )


def _answers_of(pair: ContrastivePair) -> str:
    return sha256_of([pair.chosen, pair.rejected, pair.id])


def _shuffle_key(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed} {text}".encode()).hexdigest()


def _too_few(counts: dict[str, int | None], *, pairs: int, questions: int) -> str:
    wanted = sum(count or 0 for count in counts.values())
    listed = ", ".join(f"{name}={count}" for name, count in counts.items() if count is not None)
    held = f"there are {pairs}"
    if questions < pairs:
        held += f", of {questions} questions, and all pairs of a question stay in one part"
    return f"{listed} want {wanted} pairs; {held}"
