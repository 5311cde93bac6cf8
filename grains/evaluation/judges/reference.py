"""A judge that compares words with the answers that are known to be right and wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.data import Item
from grains.errors import GrainsError
from grains.evaluation.judges.base import JUDGES, Judge

_WORD = re.compile(r"[^\W_]+")


@JUDGES.register("reference")
@final
@dataclass(frozen=True, kw_only=True)
class ReferenceJudge(Judge):
    """How much more an answer shares with the nearest true reference than with the nearest false.

    The likeness is `token_f1`, so that the verdict is in -1..1; without false references it is the
    likeness to the true ones, in 0..1. As TruthfulQA's authors do with BLEU and ROUGE (Lin et al.
    2022): a rough measure, which needs no model.
    """

    @property
    def metric(self) -> str:
        """Return `reference_f1`."""
        return "reference_f1"

    @property
    def higher_is_better(self) -> bool:
        """Return True."""
        return True

    def judge(
        self, items: Sequence[Item], answers: Sequence[str], *, quiet: bool = False
    ) -> Float[Tensor, " items"]:
        """Compare every answer with its question's references."""
        verdicts = []
        for item, answer in zip(items, answers, strict=True):
            true, false = item.true_answers(), item.false_answers()
            if not true:
                raise GrainsError(
                    f"question {item.id!r} has no reference answer; wanted a task whose questions "
                    "have some, such as 'truthfulqa_generation' or 'mmhal_bench'"
                )
            near, far = (
                max((token_f1(answer, text) for text in texts), default=0.0)
                for texts in (true, false)
            )
            verdicts.append(near - far)
        return torch.tensor(verdicts, dtype=torch.float64)


def token_f1(answer: str, reference: str) -> float:
    """Return the F1 of the words that two texts share, without case and punctuation.

    A word counts as often as it occurs in both, as in SQuAD's measure; articles count here.

    >>> token_f1("A red cup.", "the red, RED cup"), token_f1("...", "cup")
    (0.5714285714285714, 0.0)
    """
    said, known = (Counter(_WORD.findall(text.casefold())) for text in (answer, reference))
    total = said.total() + known.total()
    return 2 * (said & known).total() / total if total else 0.0
