"""Tasks that compare how likely a model finds each of several answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from grains.data import Item
from grains.evaluation.base import TASKS, Scores, Task, positions, rendered
from grains.metrics import mc1, mc2, mc_margin
from grains.models import SteerableModel, log_probs_of
from grains.types import ContrastivePair, Reduction

TOKEN_BUDGET = 2048
"""Positions in one forward pass; all options of a question are in the same one."""


@dataclass(frozen=True, kw_only=True)
class ChoiceTask(Task):
    """A task whose options are compared by their log-probability after the prompt.

    Args:
        template: how prompts are put to the model: `qa` (`Q: ...`, `A:`), `plain`, `chat` (the
            tokenizer's own), or a text that holds `{prompt}`.
        reduction: how the log-probabilities of an option's tokens become one number: their `sum`,
            or their `mean`, which does not prefer short options.
        data_dir: folder of the benchmark's file; without it, the folder in the environment variable
            GRAINS_DATA, then the hub.
    """

    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "accuracy": True,
        "probability": True,
        "margin": True,
    }

    template: str = "plain"
    reduction: Reduction = "sum"
    data_dir: str | None = None

    def text(self, model: SteerableModel, item: Item) -> str:
        """Return the prompt in its template."""
        return rendered(model, item, self.template)

    def score(self, model: SteerableModel, items: Sequence[Item], *, quiet: bool = False) -> Scores:
        """Compare the options of every question."""
        found: dict[int, Tensor] = {}
        with tqdm(
            total=len(items), desc=TASKS.name_of(self), leave=False, delay=2, disable=quiet
        ) as bar:
            for batch in batches(model, items, self.template):
                log_probs = self._log_probs(model, [items[row] for row in batch])
                found |= dict(zip(batch, log_probs, strict=True))
                bar.update(len(batch))
        rows = [
            self.measure(found[row], torch.tensor(item.right)) for row, item in enumerate(items)
        ]
        return Scores.of(items, rows)

    def measure(
        self, log_probs: Float[Tensor, " options"], right: Bool[Tensor, " options"]
    ) -> dict[str, float]:
        """Return the metrics of one question: `accuracy`, `probability` and `margin` (in nats).

        They are `mc1`, `mc2` and `mc_margin` of `grains.metrics`.

        Args:
            log_probs: of each option, in nats.
            right: which options are right.
        """
        return {
            "accuracy": mc1(log_probs, right),
            "probability": mc2(log_probs, right),
            "margin": mc_margin(log_probs, right),
        }

    def _log_probs(self, model: SteerableModel, items: Sequence[Item]) -> list[Tensor]:
        answered = [
            [_answered(item, option, self.template) for option in item.options] for item in items
        ]
        return [found.reduced(self.reduction) for found in log_probs_of(model, answered)]


def batches(model: SteerableModel, items: Sequence[Item], template: str) -> Iterator[list[int]]:
    """Yield the numbers of questions of like length, all options of each within the budget.

    A single question over the budget is a batch by itself.
    """
    sizes = {}
    for row, item in enumerate(items):
        longest = max(item.options, key=len, default="")
        answer = len(model.tokenizer(f" {longest}")["input_ids"])
        tokens = positions(model, item, template) + answer
        sizes[row] = (tokens, max(1, len(item.options)))
    batch: list[int] = []
    rows = 0
    for row in sorted(sizes, key=lambda row: sizes[row]):
        tokens, options = sizes[row]
        if batch and (rows + options) * tokens > TOKEN_BUDGET:
            yield batch
            batch, rows = [], 0
        batch.append(row)
        rows += options
    if batch:
        yield batch


def _answered(item: Item, option: str, template: str) -> ContrastivePair:
    # The rejected side is never read; it only may not be the same.
    return ContrastivePair(
        prompt=item.prompt,
        chosen=option,
        rejected=f"not {option}",
        id=item.id,
        template=template,
        image=item.image,
    )
