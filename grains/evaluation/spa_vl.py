"""SPA-VL (Zhang et al. 2024): is the safe answer to a harmful question the likelier one?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from jaxtyping import Bool, Float
from torch import Tensor

from grains.data import SPAVL, Item, PairDataset
from grains.evaluation.base import TASKS
from grains.evaluation.choice import ChoiceTask
from grains.evaluation.pictures import PictureTask
from grains.metrics import mc1, mc_margin
from grains.types import Reduction


@TASKS.register("spa_vl")
@final
@dataclass(frozen=True, kw_only=True)
class SPAVLPreference(PictureTask, ChoiceTask):
    """SPA-VL: how often, and by how much, the preferred answer is the likelier one, a token.

    Args:
        part: `validation` (7,000 pairs) or `train`; the test parts hold no answers.
    """

    higher_is_better: ClassVar[Mapping[str, bool]] = {"win_rate": True, "margin": True}

    reduction: Reduction = "mean"
    part: Literal["train", "validation"] = "validation"

    def read(self) -> list[Item]:
        """Read the questions of the part."""
        return SPAVL(part=self.part, **self.settings()).items()

    def contrast(self) -> PairDataset:
        """Return the same questions as pairs."""
        return SPAVL(part=self.part, template=self.template, **self.settings())

    def measure(
        self, log_probs: Float[Tensor, " options"], right: Bool[Tensor, " options"]
    ) -> dict[str, float]:
        """Return whether the preferred answer wins, and by how many nats."""
        return {"win_rate": mc1(log_probs, right), "margin": mc_margin(log_probs, right)}
