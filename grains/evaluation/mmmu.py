"""MMMU (Yue et al. 2024): what steering costs in knowledge that pictures ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from grains.data import MMMU, Item, PairDataset
from grains.evaluation.base import TASKS
from grains.evaluation.choice import ChoiceTask
from grains.evaluation.pictures import PictureTask
from grains.types import Reduction


@TASKS.register("mmmu")
@final
@dataclass(frozen=True, kw_only=True)
class MMMUTask(PictureTask, ChoiceTask):
    """MMMU's multiple-choice questions, all options shown; questions without options are left out.

    The prompt is in `grains.data.mmmu`.

    Args:
        part: `validation` (900 questions) or `dev` (150).
        subject: one of MMMU's 30; without it, all.
        form: what is answered: the `letter` of an option, or its `text`.
    """

    reduction: Reduction = "mean"
    part: Literal["dev", "validation"] = "validation"
    subject: str | None = None
    form: Literal["letter", "text"] = "letter"

    def read(self) -> list[Item]:
        """Read the questions that have options."""
        return self._data().items()

    def contrast(self) -> PairDataset:
        """Return the same questions as pairs."""
        return self._data()

    def _data(self) -> MMMU:
        return MMMU(
            part=self.part,
            subject=self.subject,
            form=self.form,
            template=self.template,
            **self.settings(),
        )
