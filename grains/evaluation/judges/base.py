"""What a judge is, and how a question and its answer are laid before one."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from grains.data import Item
from grains.errors import GrainsError, did_you_mean
from grains.registry import Registry

Better = Literal["higher", "lower"]
"""Which way the numbers of a judge point."""

PLACES = ("question", "answer", "reference", "objects")
"""What the text that is laid before a judge may name, in braces."""

_PLACE = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, kw_only=True)
class Judge(ABC):
    """Reads answers and gives each a number: a classifier, a larger model, a rule.

    It reads text alone: the pictures of a question are not shown to it. Its fields are its whole
    configuration, and what it loads it keeps, since the same judge reads unsteered and steered
    answers. It is no part of the model that is steered.
    """

    @property
    @abstractmethod
    def metric(self) -> str:
        """What its numbers are called."""

    @property
    def higher_is_better(self) -> bool | None:
        """Which way its numbers point; None for no way."""
        return None

    @abstractmethod
    def judge(
        self, items: Sequence[Item], answers: Sequence[str], *, quiet: bool = False
    ) -> Float[Tensor, " items"]:
        """Return one number an answer; what it means is the judge's to say.

        Args:
            items: the questions.
            answers: what was answered to each.
            quiet: without a progress bar.

        Raises:
            GrainsError: if an answer cannot be judged.
        """


@dataclass(frozen=True, kw_only=True)
class DirectedJudge(Judge):
    """A judge that is told which way its numbers point.

    Args:
        better: whether `higher` or `lower` numbers are better; None for no way.
    """

    better: Better | None = None

    @property
    def higher_is_better(self) -> bool | None:
        """Return which way the numbers point."""
        return None if self.better is None else self.better == "higher"


JUDGES: Registry[Judge] = Registry("judge", Judge)


def check_template(template: str) -> None:
    """Refuse a text that does not show the answer, or names what there is not.

    Raises:
        GrainsError: with the nearest right thing.
    """
    named = _PLACE.findall(template)
    for name in named:
        if name not in PLACES:
            raise GrainsError(f"the text names {{{name}}}; {did_you_mean(name, PLACES)}")
    if "answer" not in named:
        raise GrainsError(f"the text is {template[:60]!r}; wanted one that holds {{answer}}")


def filled(template: str, item: Item, answer: str) -> str:
    """Return the text with a question and its answer in their places.

    `{reference}` is what is held to be right, several answers with `; ` between them, and
    `{objects}` what the picture truly shows. What is filled in is not read as places again.

    >>> filled("Q: {question} A: {answer}", Item(id="1", prompt="Say {answer}."), "No.")
    'Q: Say {answer}. A: No.'
    """
    values = {
        "question": item.prompt,
        "answer": answer,
        "reference": "; ".join(item.true_answers()),
        "objects": ", ".join(item.objects),
    }
    return _PLACE.sub(lambda place: values[place[1]], template)
