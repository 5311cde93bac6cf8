"""MMLU (Hendrycks et al. 2021): what steering costs in knowledge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from grains.data import MMLU, Item
from grains.evaluation.base import TASKS
from grains.evaluation.choice import ChoiceTask
from grains.types import Reduction


@TASKS.register("mmlu")
@final
@dataclass(frozen=True, kw_only=True)
class MMLUTask(ChoiceTask):
    """MMLU without worked examples; two options from CAA's file, four from the hub.

    The prompt is in `grains.data.mmlu`. Scores with two options do not compare with four.

    Args:
        form: what is answered: the `letter` of an option that the prompt lists, or its `text`, not
            shown before.
    """

    reduction: Reduction = "mean"
    form: Literal["letter", "text"] = "letter"

    def read(self) -> list[Item]:
        """Read all questions."""
        return MMLU(form=self.form, data_dir=self.data_dir).items()
