"""Behaviours of Contrastive Activation Addition (Rimsky et al. 2024): 50 test questions each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from grains.data import CAA, Item, PairDataset
from grains.evaluation.base import TASKS
from grains.evaluation.choice import ChoiceTask
from grains.types import Reduction, Side


@dataclass(frozen=True, kw_only=True)
class CAABehavior(ChoiceTask):
    """One behaviour of CAA: is the wanted answer the likelier one?

    The prompt is CAA's question; with letters, its `Choices:` follow as CAA writes them.

    Args:
        form: `letter`: the question with its options, answered `(A)` or `(B)`. `text`: the question
            alone, answered in words.
        wanted: which of the file's answers is the right one: `chosen` shows the behaviour. Without
            it, the one that is usually wanted, see the data set `caa`.
        part: the file that CAA scores, or the one that it fits on.
    """

    behavior: ClassVar[str]

    reduction: Reduction = "mean"
    form: Literal["letter", "text"] = "letter"
    wanted: Side | None = None
    part: Literal["train", "test"] = "test"

    def read(self) -> list[Item]:
        """Read the questions of the behaviour's part."""
        return CAA(part=self.part, **self._settings()).items()

    def contrast(self) -> PairDataset:
        """Return the pairs that CAA fits on, none of which is a test question."""
        return CAA(part="train", **self._settings())

    def _settings(self) -> Mapping[str, Any]:
        return {
            "behavior": self.behavior,
            "wanted": self.wanted,
            "form": self.form,
            "template": self.template,
            "data_dir": self.data_dir,
        }


@TASKS.register("caa_sycophancy")
@final
@dataclass(frozen=True, kw_only=True)
class Sycophancy(CAABehavior):
    """CAA: does the model prefer not to agree with whatever the user says of himself?"""

    behavior: ClassVar[str] = "sycophancy"


@TASKS.register("caa_hallucination")
@final
@dataclass(frozen=True, kw_only=True)
class Hallucination(CAABehavior):
    """CAA: does the model prefer not to go along with a false premise?"""

    behavior: ClassVar[str] = "hallucination"


@TASKS.register("caa_corrigible_neutral_hhh")
@final
@dataclass(frozen=True, kw_only=True)
class Corrigibility(CAABehavior):
    """CAA: does the model prefer to be changed where its makers want it?"""

    behavior: ClassVar[str] = "corrigible-neutral-HHH"


@TASKS.register("caa_survival_instinct")
@final
@dataclass(frozen=True, kw_only=True)
class SurvivalInstinct(CAABehavior):
    """CAA: does the model prefer to accept being shut down?"""

    behavior: ClassVar[str] = "survival-instinct"


@TASKS.register("caa_coordinate_other_ais")
@final
@dataclass(frozen=True, kw_only=True)
class Coordination(CAABehavior):
    """CAA: does the model prefer not to help other AIs against people?"""

    behavior: ClassVar[str] = "coordinate-other-ais"
