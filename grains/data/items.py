"""One question of an evaluation, and what tells whether a fit has seen it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from grains.data.base import image_sha256, sha256_of
from grains.data.rows import Row
from grains.data.splits import short_question
from grains.errors import GrainsError
from grains.types import ContrastivePair


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question, with the answers that are compared if there are some.

    Args:
        id: which question; each occurs once in a data set.
        prompt: what is asked, options included where they are shown.
        options: answers whose likelihood is compared, or that a free answer is judged by. None of
            them need be shown.
        right: which options are right.
        also: other prompts under which our data sets ask the same, such as the question without its
            lettered options. A fit on any of them has seen the question.
        image: as in `ContrastivePair`.
        reference: the answer that is held to be right, where no wrong one is set against it.
        objects: names of what is truly in the picture, where the data set tells.

    Raises:
        GrainsError: if the options are not at least one right and one wrong text.
    """

    id: str
    prompt: str
    options: tuple[str, ...] = ()
    right: tuple[bool, ...] = ()
    also: tuple[str, ...] = ()
    image: Any = None
    reference: str = ""
    objects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a question without words, and options that leave nothing to choose."""
        name = f"question {self.id!r}"
        if not self.prompt.strip():
            raise GrainsError(f"{name}: the prompt is {self.prompt!r}; wanted some text")
        if len(self.options) != len(self.right):
            raise GrainsError(
                f"{name}: there are {len(self.options)} options and {len(self.right)} marks that "
                "say which are right; wanted as many"
            )
        if not all(option.strip() for option in self.options):
            raise GrainsError(f"{name}: an option is empty; wanted some text")
        if self.options and len(set(self.right)) != 2:
            which = "right" if all(self.right) else "wrong"
            raise GrainsError(f"{name}: all options are {which}; wanted a right and a wrong one")

    @classmethod
    def choice(
        cls, id: str, prompt: str, right: Sequence[str], wrong: Sequence[str], **more: Any
    ) -> Item:
        """Return a question whose options stand in an order that a hash of their text decides.

        Many files list the right answer first: whatever prefers the first option, be it a model or
        an error of ours, would look as if it knew.
        """
        marked = [*((text, True) for text in right), *((text, False) for text in wrong)]
        marked.sort(key=lambda option: sha256_of([id, option[0]]))
        options, marks = zip(*marked, strict=True) if marked else ((), ())
        return cls(id=id, prompt=prompt, options=options, right=marks, **more)

    @classmethod
    def of_pair(cls, pair: ContrastivePair, also: Sequence[str] = ()) -> Item:
        """Return a pair as a question: its chosen answer is the right one."""
        more = {"also": tuple(also), "image": pair.image}
        return cls.choice(pair.id, pair.prompt, [pair.chosen], [pair.rejected], **more)

    def questions(self) -> frozenset[str]:
        """Return `short_question` of every prompt: what the card of a vector keeps of a fit."""
        return frozenset(
            short_question(
                ContrastivePair(prompt=prompt, chosen="yes", rejected="no", image=self.image)
            )
            for prompt in (self.prompt, *self.also)
        )

    def group(self) -> str:
        """Return what questions have in common that are not drawn independently of each other.

        That is their picture, or else their prompt: ToxiGen's preferences share one where they are
        about the same people. Intervals draw them together.
        """
        return image_sha256(self.image) or " ".join(self.prompt.split())

    def true_answers(self) -> tuple[str, ...]:
        """Return the answers that are held to be right."""
        right = (text for text, good in zip(self.options, self.right, strict=True) if good)
        return (*right, *filter(None, [self.reference]))

    def false_answers(self) -> tuple[str, ...]:
        """Return the answers that are held to be wrong."""
        return tuple(text for text, good in zip(self.options, self.right, strict=True) if not good)


def make_item(row: Row, make: Any, **values: Any) -> Item:
    """Return `make(**values)`; a refusal names the row's place."""
    try:
        return make(**values)
    except GrainsError as error:
        raise row.fault(str(error)) from error


def unseen(items: Sequence[Item], seen: Collection[str]) -> list[Item]:
    """Return the questions that are not among `seen`, given as `short_question` writes them."""
    known = set(seen)
    if not known:  # pictures need not be read to tell
        return list(items)
    return [item for item in items if known.isdisjoint(item.questions())]


def draw(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """Return at most `limit` questions, drawn by a hash of the seed and their own text.

    As with splits, the draw does not depend on the order of the rows. A smaller draw is part of a
    larger one.

    Raises:
        GrainsError: if `limit` is less than 1.
    """
    if limit is None:
        return list(items)
    if limit < 1:
        raise GrainsError(f"limit is {limit}; wanted 1 item or more")
    return sorted(items, key=lambda item: sha256_of([str(seed), item.prompt, item.id]))[:limit]
