"""FaithEval (Ming et al. 2025): does a model answer as the context says?

The prompts are in `grains.data.faitheval`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from grains.data import FaithEvalCounterfactual, Item, PairDataset
from grains.data.faitheval import open_items
from grains.evaluation.base import TASKS
from grains.evaluation.choice import ChoiceTask
from grains.evaluation.generation import GenerationTask
from grains.types import Reduction

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


@TASKS.register("faitheval_counterfactual")
@final
@dataclass(frozen=True, kw_only=True)
class CounterfactualContext(ChoiceTask):
    """FaithEval, counterfactual: is the option that the context supports the likeliest?

    Args:
        form: what is answered: the `label` of an option that the prompt lists, a letter or a number
            as the row has it, or the option's `text`.
    """

    template: str = "chat"
    reduction: Reduction = "mean"
    form: Literal["label", "text"] = "label"

    def read(self) -> list[Item]:
        """Read the questions with their contexts and options."""
        return FaithEvalCounterfactual(form=self.form, data_dir=self.data_dir).items()

    def contrast(self) -> PairDataset:
        """Return the same questions as pairs."""
        return FaithEvalCounterfactual(
            form=self.form, template=self.template, data_dir=self.data_dir
        )


@dataclass(frozen=True, kw_only=True)
class OpenContext(GenerationTask):
    """A part of FaithEval that is answered freely.

    Args:
        match: `lenient`: an answer that holds one of FaithEval's phrases is right, so that one with
            the word "not" always is in the unanswerable part. `strict`: only the word that the
            prompt asks for.
        data_dir: folder of the benchmark's file; without it, the folder in the environment variable
            GRAINS_DATA, then the hub.
    """

    part: ClassVar[Literal["unanswerable", "inconsistent"]]
    phrases: ClassVar[tuple[str, ...]]

    match: Literal["lenient", "strict"] = "lenient"
    data_dir: str | None = None

    def read(self) -> list[Item]:
        """Read the questions with their contexts."""
        return open_items(self.part, self.data_dir)

    def measure(self, item: Item, answer: str) -> dict[str, float]:
        """Return whether the answer holds one of the phrases."""
        phrases = self.phrases if self.match == "lenient" else self.phrases[:1]
        said = normalised(answer)
        return {"accuracy": float(any(phrase in said for phrase in phrases))}


@TASKS.register("faitheval_unanswerable")
@final
@dataclass(frozen=True, kw_only=True)
class UnanswerableContext(OpenContext):
    """FaithEval, unanswerable: does the answer say that the context does not tell?"""

    part: ClassVar[Literal["unanswerable"]] = "unanswerable"
    phrases: ClassVar[tuple[str, ...]] = (
        "unknown",
        "no answer",
        "no information",
        "not",
        "unclear",
    )


@TASKS.register("faitheval_inconsistent")
@final
@dataclass(frozen=True, kw_only=True)
class InconsistentContext(OpenContext):
    """FaithEval, inconsistent: does the answer say that the context contradicts itself?"""

    part: ClassVar[Literal["inconsistent"]] = "inconsistent"
    phrases: ClassVar[tuple[str, ...]] = (
        "conflict",
        "multiple answers",
        "disagreement",
        "inconsistent",
        "contradictory",
        "contradiction",
        "inconsistency",
        "two answers",
        "2 answers",
    )


def normalised(text: str) -> str:
    """Return an answer without case, punctuation, articles and extra blanks, as SQuAD compares.

    >>> normalised("The answer_is: Unknown!")
    'answer is unknown'
    """
    words = re.sub(r"[\W_]+", " ", text.lower())
    return " ".join(_ARTICLE.sub(" ", words).split())
