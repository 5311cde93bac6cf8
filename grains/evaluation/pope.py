"""POPE (Li et al. 2023): does a model tell what is in a picture from what is not?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from grains.data import POPE, Item, PairDataset
from grains.evaluation.base import TASKS, Metrics, Scores, Share
from grains.evaluation.choice import ChoiceTask
from grains.evaluation.generation import GenerationTask
from grains.evaluation.pictures import PictureTask
from grains.metrics.pope import is_clear, says_yes
from grains.models import SteerableModel

_HIGHER = {"accuracy": True, "precision": True, "recall": True, "f1": True}


@dataclass(frozen=True, kw_only=True)
class POPETask(PictureTask):
    """POPE's questions: is there such an object in the picture?

    Args:
        split: which objects the `no` questions ask for: `random` ones, those that are `popular` in
            the data, or `adversarial`: those that often stand beside what is there.
    """

    split: Literal["random", "popular", "adversarial"] = "random"

    def read(self) -> list[Item]:
        """Read the questions of the split."""
        return POPE(split=self.split, **self.settings()).items()

    def contrast(self) -> PairDataset:
        """Return the same questions as pairs."""
        return POPE(split=self.split, template=self.template, **self.settings())


@TASKS.register("pope")
@final
@dataclass(frozen=True, kw_only=True)
class POPELikelihood(POPETask, ChoiceTask):
    """POPE: is the true one of `Yes` and `No` the likelier? Yes is the positive."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {**ChoiceTask.higher_is_better, **_HIGHER}

    def score(self, model: SteerableModel, items: Sequence[Item], *, quiet: bool = False) -> Scores:
        """Compare the two answers of every question, and count what was said."""
        scores = super().score(model, items, quiet=quiet)
        rows: list[Metrics] = []
        for row, item in enumerate(items):
            values = {name: float(column[row]) for name, column in scores.values.items()}
            hit, label = values["accuracy"], _label(item)  # a tie says half a yes
            rows.append({**values, **_counted(hit if label else 1 - hit, label)})
        return Scores.of(items, rows)


@TASKS.register("pope_generation")
@final
@dataclass(frozen=True, kw_only=True)
class POPEGeneration(POPETask, GenerationTask):
    """POPE as published: the answer is written, and read as POPE's script does. Yes is positive.

    `unclear` is the share of answers that were taken for a yes and do not say it.
    """

    higher_is_better: ClassVar[Mapping[str, bool]] = {**_HIGHER, "unclear": False}

    max_new_tokens: int = 16

    def measure(self, item: Item, answer: str) -> Metrics:
        """Count what was said."""
        said, label = float(says_yes(answer)), _label(item)
        right = said if label else 1 - said
        unclear = float(not is_clear(answer))
        return {"accuracy": right, **_counted(said, label), "unclear": unclear}


def _label(item: Item) -> bool:
    return item.options[item.right.index(True)] == "Yes"


def _counted(said: float, label: bool) -> Metrics:
    """Return what a question adds: `said` is 1 for a yes, `label` whether that is right."""
    found = said * label
    return {
        "yes_ratio": said,
        "precision": Share(found, said),
        "recall": Share(found, float(label)),
        "f1": Share(2 * found, said + label),
    }
