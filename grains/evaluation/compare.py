"""A model on several tasks, unsteered and steered, question by question."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tqdm.auto import tqdm

from grains.artifact import SteeringVector
from grains.card import plain, splits_of
from grains.data import Item
from grains.errors import GrainsError
from grains.evaluation.base import TASKS, Scores, Task
from grains.metrics import Interval
from grains.models import SteerableModel


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """A task with the questions that are put to a model.

    Args:
        task: the task.
        items: the questions.
        left_out: how many others were left out because a fit or a choice has seen them.
    """

    task: Task
    items: tuple[Item, ...]
    left_out: int

    @classmethod
    def of(
        cls,
        task: Any,
        seen: SteeringVector | Collection[str] | None = None,
        *,
        limit: int | None = None,
        seed: int = 0,
    ) -> Self:
        """Read a task's questions once, without those that a fit and a choice have seen.

        Args:
            task: as `TASKS.build` takes it.
            seen: the vector that will be scored, whose card tells; or the questions themselves, as
                `Split.record()["seen"]` has them.
            limit: at most that many questions, drawn by a hash.
            seed: of the draw.

        Raises:
            GrainsError: as `Task.items`.
        """
        built = TASKS.build(task)
        known = seen_by(seen) if isinstance(seen, SteeringVector) else seen
        items, left_out = built.ask(exclude=known or (), limit=limit, seed=seed)
        return cls(task=built, items=tuple(items), left_out=left_out)

    def check(self) -> None:
        """Refuse questions of which no interval can be made.

        Raises:
            GrainsError: if there is one alone, or all share their picture or prompt.
        """
        name, count = TASKS.name_of(self.task), len(self.items)
        if count < 2:
            raise GrainsError(
                f"task {name!r} has {count} question; wanted 2 or more, for an interval"
            )
        if len({item.group() for item in self.items}) < 2:
            what = "prompt" if self.items[0].image is None else "picture"
            raise GrainsError(
                f"task {name!r}: all {count} questions share one {what}; wanted 2 {what}s or more, "
                "for an interval"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a model did on a task, unsteered and, if a vector was given, steered.

    Args:
        asked: the task and its questions.
        unsteered: scores of the model as it is.
        steered: scores of the same questions under the steering.
        changes: metric to the change of its figure from unsteered to steered, with its
            paired-bootstrap interval over the questions, those under one picture or prompt drawn
            together.
    """

    asked: Asked
    unsteered: Scores
    steered: Scores | None
    changes: dict[str, Interval]

    def record(self, model: SteerableModel) -> dict[str, Any]:
        """Return everything as JSON, each question's values and answers included."""
        runs = {"unsteered": self.unsteered, "steered": self.steered}
        done = {name: run for name, run in runs.items() if run is not None}
        metrics = {
            name: {
                "higher_is_better": self.asked.task.higher_is_better.get(name),
                **{run: scores.figures()[name] for run, scores in done.items()},
                "change": self.changes[name]._asdict() if name in self.changes else None,
                "values": {
                    run: {**scores.values, **scores.shares}[name].tolist()
                    for run, scores in done.items()
                },
            }
            for name in self.unsteered.figures()
        }
        return plain(
            {
                **self.asked.task.describe(model, self.asked.items),
                "left_out": self.asked.left_out,
                "metrics": metrics,
                "ids": self.unsteered.ids,
                "answers": {run: scores.answers for run, scores in done.items() if scores.answers},
            }
        )


def evaluate(
    model: SteerableModel,
    asked: Sequence[Asked],
    vector: SteeringVector | None = None,
    coefficient: float | None = None,
    *,
    strict: bool = True,
    seed: int = 0,
    quiet: bool = False,
) -> list[Result]:
    """Score a model on every task, unsteered and steered on the same questions.

    Args:
        model: the model; no steering may be applied to it.
        asked: tasks with their questions.
        vector: the steering; None for the unsteered model alone.
        coefficient: instead of the vector's own.
        strict: as in `SteeringVector.applied_to`.
        seed: of the bootstrap.
        quiet: without progress bars.

    Raises:
        GrainsError: if the vector is for another model, or a task has fewer than two questions to
            make an interval of, or none but of one picture or prompt.
    """
    for one in asked:
        if vector is not None:
            one.check()
    if vector is not None:
        vector.applied_to(model, coefficient, strict=strict)  # refuses before any work
    results = []
    for one in tqdm(asked, desc="Tasks", leave=False, delay=2, disable=quiet):
        unsteered, steered = one.task.score(model, one.items, quiet=quiet), None
        changes: dict[str, Interval] = {}
        if vector is not None:
            with vector.applied_to(model, coefficient, strict=strict):
                steered = one.task.score(model, one.items, quiet=quiet)
            changes = unsteered.changes(steered, seed=seed)
        results.append(Result(asked=one, unsteered=unsteered, steered=steered, changes=changes))
    return results


def seen_by(vector: SteeringVector) -> set[str]:
    """Return the questions that the fit and the choice of a vector saw, as its card has them."""
    return {question for split in splits_of(vector.card) for question in split.get("seen", [])}


def tells_what_it_saw(vector: SteeringVector) -> bool:
    """Return whether a vector's card lists the questions that its fit and choice saw."""
    splits = splits_of(vector.card)
    return bool(splits) and all("seen" in split for split in splits)
