"""MMHal-Bench (Sun et al. 2023): is what a model says of a picture true?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from grains.data import Item, MMHalBench
from grains.evaluation.base import TASKS
from grains.evaluation.generation import GenerationTask
from grains.evaluation.judges import Judge, ReferenceJudge
from grains.evaluation.pictures import PictureTask


@TASKS.register("mmhal_bench")
@final
@dataclass(frozen=True, kw_only=True)
class MMHalBenchTask(PictureTask, GenerationTask):
    """MMHal-Bench's questions, answered freely and judged against the right answer.

    Published figures are GPT-4's ratings: for the like of them name the judge `openai`.
    """

    max_new_tokens: int = 128
    judge: Judge | None = field(default_factory=ReferenceJudge)

    def read(self) -> list[Item]:
        """Read the questions, with the right answer and what the picture shows for a judge."""
        return MMHalBench(**self.settings()).items()
