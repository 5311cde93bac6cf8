"""Tasks in which a model writes its answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tqdm.auto import tqdm

from grains.data import Item
from grains.errors import GrainsError
from grains.evaluation.base import TASKS, Metrics, Scores, Task, positions, rendered
from grains.evaluation.judges.base import Judge
from grains.metrics import distinct_n
from grains.models import SteerableModel

_BATCH = 16  # prompts answered together
_POSITIONS = 8192  # in one batch of prompts: a picture may take thousands


@dataclass(frozen=True, kw_only=True)
class GenerationTask(Task):
    """A task that reads what a model writes, greedily.

    Args:
        template: how prompts are put to the model: `qa` (`Q: ...`, `A:`), `plain`, `chat` (the
            tokenizer's own), or a text that holds `{prompt}`.
        max_new_tokens: the longest answer.
        judge: gives each answer a number more: a name, or `{name: ..., settings}`; see
            `grains components judge`.
    """

    higher_is_better: ClassVar[Mapping[str, bool]] = {"accuracy": True}

    template: str = "chat"
    max_new_tokens: int = 64
    judge: Judge | None = None

    def __post_init__(self) -> None:
        """Refuse an answer without room."""
        if self.max_new_tokens < 1:
            raise GrainsError(f"max_new_tokens is {self.max_new_tokens}; wanted 1 or more")
        if self.judge is not None and (better := self.judge.higher_is_better) is not None:
            directions = {**type(self).higher_is_better, self.judge.metric: better}
            object.__setattr__(self, "higher_is_better", directions)

    def text(self, model: SteerableModel, item: Item) -> str:
        """Return the prompt in its template."""
        return rendered(model, item, self.template)

    def score(self, model: SteerableModel, items: Sequence[Item], *, quiet: bool = False) -> Scores:
        """Let the model answer, and measure every answer."""
        answers = [""] * len(items)
        with tqdm(
            total=len(items), desc=TASKS.name_of(self), leave=False, delay=2, disable=quiet
        ) as bar:
            for batch in self._batches(model, items):
                said = model.generate(
                    [items[row].prompt for row in batch],
                    [items[row].image for row in batch],
                    template=self.template,
                    max_new_tokens=self.max_new_tokens,
                )
                for row, answer in zip(batch, said, strict=True):
                    answers[row] = answer
                bar.update(len(batch))
        rows = [self.measure(item, answer) for item, answer in zip(items, answers, strict=True)]
        if self.judge is not None:
            verdicts = self.judge.judge(items, answers, quiet=quiet).tolist()
            rows = [
                {**row, self.judge.metric: verdict}
                for row, verdict in zip(rows, verdicts, strict=True)
            ]
        return Scores.of(items, rows, answers)

    def measure(self, item: Item, answer: str) -> Metrics:
        """Return the metrics of one answer: how little it repeats itself, and its length in words.

        A distinct-n of one answer, not of all together, so that answers can be paired.
        """
        return {
            "distinct_1": distinct_n([answer], 1),
            "distinct_2": distinct_n([answer], 2),
            "words": float(len(answer.split())),
        }

    def _batches(self, model: SteerableModel, items: Sequence[Item]) -> Iterator[list[int]]:
        """Yield the numbers of questions of like length; each batch depends on the items alone."""
        sizes = [positions(model, item, self.template) for item in items]
        batch: list[int] = []
        for row in sorted(range(len(items)), key=lambda row: sizes[row]):
            if len(batch) == _BATCH or (batch and (len(batch) + 1) * sizes[row] > _POSITIONS):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch
