"""Any contrastive pairs as a task: a user's own file, or a data set by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from grains.data import Item, PairDataset, Starter
from grains.evaluation.base import TASKS
from grains.evaluation.choice import ChoiceTask
from grains.types import Reduction


@TASKS.register("preference")
@final
@dataclass(frozen=True, kw_only=True)
class Preference(ChoiceTask):
    """Pairs of a data set or file: is the chosen answer the likelier one?

    Args:
        dataset: any data set with pairs, by name or as `{name, settings}`.
    """

    template: str = "qa"
    reduction: Reduction = "mean"
    dataset: PairDataset = field(default_factory=Starter)

    def read(self) -> list[Item]:
        """Read all pairs."""
        return [Item.of_pair(pair) for pair in self.dataset.pairs()]

    def contrast(self) -> PairDataset:
        """Return the same pairs."""
        return self.dataset
