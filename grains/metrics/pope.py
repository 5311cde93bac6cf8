"""How well yes-or-no questions about objects are answered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics import Metric

from grains.errors import GrainsError

Answers = Sequence[str | bool]
_YES = re.compile(r"\byes\b", re.IGNORECASE)


def says_yes(answer: str) -> bool:
    """Read an answer as POPE's evaluation script does (Li et al. 2023, `evaluate.py`).

    Of the text before the first full stop, without commas and split at spaces, one of the words
    `No`, `no` and `not` makes a no. Everything else is a yes, be it "NO", "None" or nothing.

    >>> says_yes("No, there is none."), says_yes("Yes. It is not far."), says_yes("I cannot tell.")
    (False, True, True)
    """
    return not {"No", "no", "not"} & set(_first_sentence(answer).split(" "))


def is_clear(answer: str) -> bool:
    """Return whether an answer that is read as a yes says so: the word is in its first sentence.

    >>> is_clear("no"), is_clear("Yes, a cup."), is_clear("A cup."), is_clear("NO")
    (True, True, False, False)
    """
    return not says_yes(answer) or bool(_YES.search(_first_sentence(answer)))


def pope_counts(answers: Answers, labels: Answers) -> Int[Tensor, "questions 4"]:
    """Return for each question which it is: true yes, false yes, true no, false no.

    Accuracy is the mean of `counts[:, [0, 2]].sum(1)`, for `paired_bootstrap`; precision, recall
    and F1 are ratios of sums, for `paired_ratio_bootstrap`.

    >>> pope_counts(["Yes", "no"], ["yes", "yes"])
    tensor([[1, 0, 0, 0],
            [0, 0, 0, 1]])

    Args:
        answers: what was answered: a text, or True for yes.
        labels: what is right: `yes`, `no`, `Yes`, `No` or a boolean.

    Raises:
        GrainsError: if the lengths differ, or an answer or a label is none of these.
    """
    if isinstance(answers, str) or isinstance(labels, str):
        raise GrainsError("answers or labels are one text; wanted a list, one a question")
    if len(answers) != len(labels):
        raise GrainsError(f"there are {len(answers)} answers and {len(labels)} labels")
    counts = torch.zeros(len(answers), 4, dtype=torch.long)
    for row, answer, label in zip(counts, answers, labels, strict=True):
        if not isinstance(answer, str | bool):
            raise GrainsError(f"an answer is {answer!r}; wanted a text, or True for yes")
        positive = says_yes(answer) if isinstance(answer, str) else answer
        row[(0 if positive else 3) if _label(label) else (1 if positive else 2)] = 1
    return counts


@final
class PopeScore(Metric):
    """Accuracy, precision, recall, F1 and yes-ratio of yes-or-no answers; yes is the positive.

    Texts are read by `says_yes`, so that figures compare with published ones. `unclear` is the
    share of answers that were taken for a yes and do not say it: where it is large, the other
    figures say little. A share of nothing is NaN.

    >>> score = PopeScore()
    >>> score.update(["Yes.", "Yes.", "No.", "A cup"], ["yes", "no", "no", "yes"])
    >>> shares = score.compute()
    >>> shares["accuracy"], shares["recall"], shares["unclear"]
    (tensor(0.7500), tensor(1.), tensor(0.2500))
    >>> list(shares)
    ['accuracy', 'precision', 'recall', 'f1', 'yes_ratio', 'unclear']
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    counts: Tensor
    unclear: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(4, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("unclear", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, answers: Answers, labels: Answers) -> None:
        """Count a batch of questions; arguments and errors as in `pope_counts`."""
        self.counts += pope_counts(answers, labels).sum(0).to(self.device)
        self.unclear += sum(isinstance(given, str) and not is_clear(given) for given in answers)

    def compute(self) -> dict[str, Tensor]:
        """Return the six shares of all questions seen."""
        true_yes, false_yes, true_no, false_no = self.counts
        total = self.counts.sum()
        return {
            "accuracy": (true_yes + true_no) / total,
            "precision": true_yes / (true_yes + false_yes),
            "recall": true_yes / (true_yes + false_no),
            "f1": 2 * true_yes / (2 * true_yes + false_yes + false_no),
            "yes_ratio": (true_yes + false_yes) / total,
            "unclear": self.unclear / total,
        }


def _first_sentence(answer: str) -> str:
    return answer.partition(".")[0].replace(",", "")


def _label(label: str | bool) -> bool:
    if isinstance(label, bool):
        return label
    if label not in ("yes", "no", "Yes", "No"):
        raise GrainsError(f"a label is {label!r}; wanted 'yes' or 'no'")
    return label.lower() == "yes"
