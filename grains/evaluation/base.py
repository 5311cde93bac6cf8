"""Benchmarks by name: which questions, in which words, and how a model is scored on them."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from grains.card import plain
from grains.data import Item, PairDataset, draw, unseen
from grains.data.base import sha256_of
from grains.errors import GrainsError
from grains.models import SteerableModel
from grains.registry import Registry


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What a model did on some questions: one number a question, so that runs can be paired.

    Args:
        ids: the questions', in the order of the values.
        values: metric to its value for each question.
        answers: what was answered, where answers are written.
    """

    ids: tuple[str, ...]
    values: Mapping[str, Float[Tensor, " items"]]
    answers: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, items: Sequence[Item], rows: Sequence[Mapping[str, float]], answers: Sequence[str] = ()
    ) -> Scores:
        """Collect one row of values an item."""
        values = {
            name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]
        }
        return cls(ids=tuple(item.id for item in items), values=values, answers=tuple(answers))

    def means(self) -> dict[str, float]:
        """Return the mean of every metric over the questions."""
        return {name: float(value.mean()) for name, value in self.values.items()}


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A data set, the exact prompts, and the metrics. Its fields are its whole configuration.

    Attributes:
        higher_is_better: which way each metric points; one that is not listed points no way.
    """

    higher_is_better: ClassVar[Mapping[str, bool]] = {}

    @abstractmethod
    def read(self) -> list[Item]:
        """Read all questions, with the prompts in which they are asked.

        Returns:
            At least one; each `id` occurs once.

        Raises:
            GrainsError: if a file is missing or a row is broken, with the file, the line and the
                field.
        """

    @abstractmethod
    def score(self, model: SteerableModel, items: Sequence[Item], *, quiet: bool = False) -> Scores:
        """Score a model, under whatever steering is applied to it now.

        Args:
            model: the model.
            items: questions that `items` returned. How they are batched depends on them alone, so
                that unsteered and steered runs differ by the steering and nothing else.
            quiet: without a progress bar.

        Returns:
            One value a question and metric, in the order of `items`.
        """

    def label(self) -> str:
        """Return the name, and the settings that are not the default ones."""
        changed = [
            f"{field.name}={value}"
            for field in dataclasses.fields(self)
            if field.name != "data_dir" and (value := getattr(self, field.name)) != field.default
        ]
        return TASKS.name_of(self) + (f" ({', '.join(changed)})" if changed else "")

    def text(self, model: SteerableModel, item: Item) -> str:
        """Return a question exactly as the model reads it."""
        return item.prompt

    def contrast(self) -> PairDataset:
        """Return contrastive pairs of the same benchmark to find directions from.

        They may ask the questions that are scored here: give `items` what the fit and the choice of
        settings have seen.

        Raises:
            GrainsError: if the benchmark has none.
        """
        raise GrainsError(
            f"task {TASKS.name_of(self)!r} has no pairs to fit on; wanted a task such as "
            "'truthfulqa_binary'"
        )

    def items(
        self, *, exclude: Collection[str] = (), limit: int | None = None, seed: int = 0
    ) -> list[Item]:
        """Return the questions that are scored.

        Args:
            exclude: what a fit and a choice have seen, as `Split.record()["seen"]` and so the card
                of a vector write it. A question is left out if it was seen in any of the forms in
                which our data sets ask it.
            limit: at most that many, drawn by a hash; all if None.
            seed: of the draw.

        Raises:
            GrainsError: as `read`, or if nothing is left.
        """
        every = self.read()
        left = unseen(every, exclude)
        if not left:
            raise GrainsError(
                f"task {TASKS.name_of(self)!r}: all {len(every)} questions were fitted or chosen "
                "on; wanted some that were not"
            )
        return draw(left, limit, seed)

    def describe(self, model: SteerableModel, items: Sequence[Item]) -> dict[str, Any]:
        """Return what a report needs to name the task, as JSON: one question in full included."""
        content = (str([item.prompt, item.options, item.right]) for item in items)
        return {
            "name": TASKS.name_of(self),
            "settings": plain(dataclasses.asdict(self)),
            "items": len(items),
            "sha256": sha256_of(content),
            "prompt": self.text(model, items[0]),
            "options": list(items[0].options),
        }


TASKS: Registry[Task] = Registry("task", Task)


@dataclass(frozen=True, kw_only=True)
class Judge(ABC):
    """Reads answers and gives each a number: a classifier, a larger model, a rule."""

    name: ClassVar[str]
    """What its numbers are called."""

    @abstractmethod
    def judge(self, items: Sequence[Item], answers: Sequence[str]) -> Float[Tensor, " items"]:
        """Return one number an answer; what it means is the judge's to say."""
