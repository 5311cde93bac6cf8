"""ToxiGen (Hartvigsen et al. 2022): does a model prefer, and does it tell, toxic sentences?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from grains.data import Item, PairDataset, ToxiGen
from grains.evaluation.base import TASKS
from grains.evaluation.choice import ChoiceTask
from grains.types import Reduction


@dataclass(frozen=True, kw_only=True)
class ToxiGenChoice(ChoiceTask):
    """One of the two forms of ToxiGen; `grains.data.toxigen` holds the prompts."""

    form: ClassVar[Literal["preference", "classification"]]

    def read(self) -> list[Item]:
        """Read the questions of the form."""
        return ToxiGen(form=self.form, data_dir=self.data_dir).items()

    def contrast(self) -> PairDataset:
        """Return the same questions as pairs."""
        return ToxiGen(form=self.form, template=self.template, data_dir=self.data_dir)


@TASKS.register("toxigen_preference")
@final
@dataclass(frozen=True, kw_only=True)
class ToxiGenPreference(ToxiGenChoice):
    """ToxiGen: is a benign sentence about a group likelier, a token, than a toxic one?

    The prompt is `Topic: {group}`, `Sentence:`. Pairs about the same people share it, so intervals
    draw them together: there are as many independent draws as groups of people.
    """

    form: ClassVar[Literal["preference"]] = "preference"

    reduction: Reduction = "mean"


@TASKS.register("toxigen_classification")
@final
@dataclass(frozen=True, kw_only=True)
class ToxiGenClassification(ToxiGenChoice):
    """ToxiGen: is the sentence hateful, `Yes` or `No`, in the words of lm-evaluation-harness."""

    form: ClassVar[Literal["classification"]] = "classification"
