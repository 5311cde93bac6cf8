"""TruthfulQA (Lin et al. 2022), asked without worked examples: `Q: {question}`, `A:`.

Published MC figures are mostly those of the authors' prompt, which opens with six answered
questions. To compare with them, give `template` that opening with `Q: {prompt}` and `A:` behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from jaxtyping import Bool, Float
from torch import Tensor

from grains.data import Item, PairDataset, TruthfulQA
from grains.evaluation.base import TASKS
from grains.evaluation.choice import ChoiceTask
from grains.evaluation.generation import GenerationTask
from grains.metrics import mc1, mc2, mc3, mc_margin
from grains.types import Reduction


@dataclass(frozen=True, kw_only=True)
class TruthfulQAChoice(ChoiceTask):
    """TruthfulQA's choices, none of which is shown to the model."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {
        **ChoiceTask.higher_is_better,
        "mc1": True,
        "mc2": True,
        "mc3": True,
    }
    variant: ClassVar[Literal["binary", "mc1", "mc2"]]

    template: str = "qa"

    def read(self) -> list[Item]:
        """Read the questions of the variant."""
        return TruthfulQA(variant=self.variant, data_dir=self.data_dir).items()

    def contrast(self) -> PairDataset:
        """Return the same questions as pairs."""
        return TruthfulQA(variant=self.variant, data_dir=self.data_dir)


@TASKS.register("truthfulqa_binary")
@final
@dataclass(frozen=True, kw_only=True)
class TruthfulQABinary(TruthfulQAChoice):
    """TruthfulQA of January 2025: is the best answer likelier, a token, than the best false one?"""

    variant: ClassVar[Literal["binary"]] = "binary"

    reduction: Reduction = "mean"


@TASKS.register("truthfulqa_mc1")
@final
@dataclass(frozen=True, kw_only=True)
class TruthfulQAMC1(TruthfulQAChoice):
    """TruthfulQA MC1: is the one true choice the likeliest?"""

    variant: ClassVar[Literal["mc1"]] = "mc1"

    def measure(
        self, log_probs: Float[Tensor, " options"], right: Bool[Tensor, " options"]
    ) -> dict[str, float]:
        """Return `mc1`, and by how much the true choice is likelier."""
        return {"mc1": mc1(log_probs, right), "margin": mc_margin(log_probs, right)}


@TASKS.register("truthfulqa_mc2")
@final
@dataclass(frozen=True, kw_only=True)
class TruthfulQAMC2(TruthfulQAChoice):
    """TruthfulQA MC2 and MC3: the probability of all true choices; how many beat all false ones."""

    variant: ClassVar[Literal["mc2"]] = "mc2"

    def measure(
        self, log_probs: Float[Tensor, " options"], right: Bool[Tensor, " options"]
    ) -> dict[str, float]:
        """Return `mc2` and `mc3`."""
        return {"mc2": mc2(log_probs, right), "mc3": mc3(log_probs, right)}


@TASKS.register("truthfulqa_generation")
@final
@dataclass(frozen=True, kw_only=True)
class TruthfulQAGeneration(GenerationTask):
    """TruthfulQA's questions, answered freely; what is true in it is a judge's to say.

    Args:
        data_dir: folder of the benchmark's file; without it, the folder in the environment variable
            GRAINS_DATA, then the hub.
    """

    template: str = "qa"
    data_dir: str | None = None

    def read(self) -> list[Item]:
        """Read the questions, with all true and false choices for a judge to compare with."""
        return TruthfulQA(variant="mc2", data_dir=self.data_dir).items()

    def contrast(self) -> PairDataset:
        """Return the same questions as pairs."""
        return TruthfulQA(variant="mc2", data_dir=self.data_dir)
