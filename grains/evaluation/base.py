"""Benchmarks by name: which questions, in which words, and how a model is scored on them."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from grains.card import plain
from grains.data import DATASETS, Item, PairDataset, draw, unseen
from grains.data.base import image_sha256, sha256_of
from grains.data.images import listed
from grains.errors import GrainsError
from grains.evaluation.judges.base import JUDGES
from grains.metrics import Interval, paired_bootstrap, paired_ratio_bootstrap
from grains.models import SteerableModel
from grains.models.prompts import Prompter
from grains.registry import Registry
from grains.types import ContrastivePair


class Share(NamedTuple):
    """What one question adds to a figure of all questions that is a ratio of sums.

    Precision, recall and F1 are such, and the share of all objects named that are not there: a
    question without an object to name adds nothing to either sum, and has no value of its own.
    """

    part: float
    whole: float


Metrics = Mapping[str, float | Share]
"""The metrics of one question."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What a model did on some questions: numbers of each question, so that runs can be paired.

    Args:
        ids: the questions', in the order of the values.
        values: metric to its value for each question.
        answers: what was answered, where answers are written.
        shares: metrics that are ratios of sums: numerator and denominator of each question.
        groups: `Item.group` of each question; empty where each stands by itself.
    """

    ids: tuple[str, ...]
    values: Mapping[str, Float[Tensor, " items"]]
    answers: tuple[str, ...] = ()
    shares: Mapping[str, Float[Tensor, "items 2"]] = field(default_factory=dict)
    groups: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, items: Sequence[Item], rows: Sequence[Metrics], answers: Sequence[str] = ()
    ) -> Scores:
        """Collect one row of metrics an item."""
        columns = {
            name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]
        }
        return cls(
            ids=tuple(item.id for item in items),
            values={name: column for name, column in columns.items() if column.ndim == 1},
            answers=tuple(answers),
            shares={name: column for name, column in columns.items() if column.ndim == 2},
            groups=tuple(item.group() for item in items),
        )

    def means(self) -> dict[str, float]:
        """Return the mean of every metric that each question has a value of."""
        return {name: float(value.mean()) for name, value in self.values.items()}

    def figures(self) -> dict[str, float]:
        """Return the figure of every metric: means, then ratios of sums; NaN for one over 0."""
        ratios = {name: share.sum(0) for name, share in self.shares.items()}
        return self.means() | {name: float(part / whole) for name, (part, whole) in ratios.items()}

    def changes(self, after: Scores, *, seed: int = 0) -> dict[str, Interval]:
        """Return by how much every figure changes to another run of the same questions.

        A ratio that cannot be formed in one of the runs has no change and is left out.

        Args:
            after: the other run.
            seed: of the bootstrap over the questions, those of a group drawn together.

        Raises:
            GrainsError: if there are fewer than two questions or groups, or not as many questions.
        """
        groups = self.groups or None
        found = {
            name: paired_bootstrap(value, after.values[name], seed=seed, groups=groups)
            for name, value in self.values.items()
        }
        return found | {
            name: paired_ratio_bootstrap(share, after.shares[name], seed=seed, groups=groups)
            for name, share in self.shares.items()
            if share[:, 1].sum() > 0 and after.shares[name][:, 1].sum() > 0
        }


_PLACES = ("data_dir", "image_dir")  # where files lie says nothing of what is asked


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
            items: questions that `items` returned. How they are batched depends on them alone, not
                on an instruction before them, so that unsteered and steered runs differ by the
                steering and nothing else.
            quiet: without a progress bar.

        Returns:
            One value, or one share, a question and metric, in the order of `items`.
        """

    def label(self) -> str:
        """Return the name, and the settings that are not the default ones."""
        changed = _changed(self)
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
        """Return the questions that are scored: the first part of `ask`, which says more."""
        return self.ask(exclude=exclude, limit=limit, seed=seed)[0]

    def ask(
        self, *, exclude: Collection[str] = (), limit: int | None = None, seed: int = 0
    ) -> tuple[list[Item], int]:
        """Return the questions that are scored, and how many were left out as seen.

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
        return draw(left, limit, seed), len(every) - len(left)

    def describe(self, model: SteerableModel, items: Sequence[Item]) -> dict[str, Any]:
        """Return what a report needs to name the task, as JSON: one question in full included."""
        settings = TASKS.spec(self)
        return {
            "name": settings.pop("name"),
            "settings": plain(settings),
            "items": len(items),
            "sha256": sha256_of(map(_content, items)),
            "prompt": self.text(model, items[0]),
            "options": list(items[0].options),
        }


TASKS: Registry[Task] = Registry("task", Task)


def _changed(component: Any) -> list[str]:
    """Return the settings of a component that are not the default ones, in words."""
    return [
        f"{setting.name}={_in_words(value)}"
        for setting in dataclasses.fields(component)
        if setting.name not in _PLACES
        and (value := getattr(component, setting.name)) != _default(setting)
    ]


def _in_words(value: Any) -> str:
    if isinstance(value, JUDGES.base):
        return " ".join([JUDGES.name_of(value), *_changed(value)])
    if isinstance(value, DATASETS.base):
        return " ".join([DATASETS.name_of(value), *_changed(value)])
    return str(value)


def _default(setting: dataclasses.Field[Any]) -> Any:
    made = setting.default_factory
    return setting.default if made is dataclasses.MISSING else made()


def rendered(model: SteerableModel, item: Item, template: str) -> str:
    """Return a question in its template, with whatever stands for its pictures."""
    return model.encoder.prompter.render(item.prompt, template, len(listed(item.image)))[0]


def positions(model: SteerableModel, item: Item, template: str) -> int:
    """Return how many positions a question takes, its pictures written out.

    An instruction before it is not counted: it is steering, and no batch may hang on that.
    """
    known = model.encoder.prompter
    bare = Prompter(known.tokenizer, known.images, known.prefix)
    if item.image is None:
        return len(model.tokenizer(bare.render(item.prompt, template)[0])["input_ids"])
    pair = ContrastivePair(
        id=item.id,
        prompt=item.prompt,
        chosen="yes",
        rejected="no",
        template=template,
        image=item.image,
    )
    return len(bare.read(pair, item.id).ids)


def _content(item: Item) -> str:
    """Return what makes up a question; a picture counts by its bytes, wherever it lies."""
    texts = [item.prompt, item.options, item.right]
    told = [text for text in (item.reference, item.objects) if text]
    return str([*texts, *told, *filter(None, [image_sha256(item.image)])])
