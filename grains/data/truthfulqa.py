"""TruthfulQA (Lin et al. 2022): questions that people often answer falsely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from grains.data.base import DATASETS, PairDataset
from grains.data.benchmarks import benchmark_rows
from grains.data.items import Item, make_item
from grains.data.rows import Row
from grains.types import ContrastivePair


@DATASETS.register("truthfulqa")
@final
@dataclass(frozen=True, kw_only=True)
class TruthfulQA(PairDataset):
    """TruthfulQA: a true answer against a false one, raw `Q:/A:` prompt.

    The folder's binary file holds 790 questions (best against best incorrect answer, January 2025);
    the hub's older binary set has 817 and a randomly drawn false answer.

    Args:
        variant: `binary`: the two options of a question. `mc1`: the one true choice against the
            first false one. `mc2`: one pair for each true choice; the i-th is set against the i-th
            false one, beginning anew when those run out.
        data_dir: folder with `truthfulqa_binary.jsonl` and `truthfulqa_mc.jsonl`; without it, the
            folder in the environment variable GRAINS_DATA, then the hub.
    """

    variant: Literal["binary", "mc1", "mc2"] = "binary"
    data_dir: str | None = None

    def pairs(self) -> list[ContrastivePair]:
        """Read all pairs of the variant."""
        rows = self._rows()
        make = self._binary if self.variant == "binary" else self._multiple_choice
        return [pair for number, row in enumerate(rows) for pair in make(row, number)]

    def items(self) -> list[Item]:
        """Read the questions of the variant, each with all its choices."""
        items = []
        for number, row in enumerate(self._rows()):
            if self.variant == "binary":
                items += [Item.of_pair(pair) for pair in self._binary(row, number)]
                continue
            name, true, false = self._choices(row, number)
            values = {"prompt": row.text("question"), "right": true, "wrong": false}
            items.append(make_item(row, Item.choice, id=name, **values))
        return items

    def _rows(self) -> list[Row]:
        if self.variant == "binary":
            hub = ("EleutherAI/truthful_qa_binary", None, "validation")
            return benchmark_rows("truthfulqa", "truthfulqa_binary.jsonl", self.data_dir, hub)
        hub = ("truthfulqa/truthful_qa", "multiple_choice", "validation")
        return benchmark_rows("truthfulqa", "truthfulqa_mc.jsonl", self.data_dir, hub)

    def _binary(self, row: Row, number: int) -> list[ContrastivePair]:
        choices, label = row.texts("choices"), row.integer("label")
        if len(choices) != 2:
            raise row.fault(f"choices holds {len(choices)} texts; wanted 2")
        if label not in (0, 1):
            raise row.fault(f"label is {label}; wanted 0 or 1")
        return [
            row.pair(
                prompt=row.text("question"),
                chosen=choices[label],
                rejected=choices[1 - label],
                id=row.text("id", f"tqab-hub-{number:04d}"),
            )
        ]

    def _choices(self, row: Row, number: int) -> tuple[str, list[str], list[str]]:
        row = _flattened(row, self.variant)
        choices = row.texts(f"{self.variant}_choices")
        labels = row.integers(f"{self.variant}_labels")
        if len(choices) != len(labels):
            raise row.fault(f"{self.variant}_labels holds {len(labels)}; wanted {len(choices)}")
        if set(labels) != {0, 1}:
            raise row.fault(f"{self.variant}_labels is {labels}; wanted both a 0 and a 1")
        true = [choice for choice, label in zip(choices, labels, strict=True) if label]
        false = [choice for choice, label in zip(choices, labels, strict=True) if not label]
        name = row.text("id", f"tqa-{number:04d}")  # the hub's rows come in the same order
        return name, true, false

    def _multiple_choice(self, row: Row, number: int) -> list[ContrastivePair]:
        name, true, false = self._choices(row, number)
        return [
            row.pair(
                prompt=row.text("question"),
                chosen=answer,
                rejected=false[i % len(false)],
                id=name if self.variant == "mc1" else f"{name}-{i}",
            )
            for i, answer in enumerate(true)
        ]


def _flattened(row: Row, variant: str) -> Row:
    """Write the hub's nested `mc1_targets: {choices, labels}` as the folder's files do."""
    targets = row.fields.get(f"{variant}_targets")
    if not isinstance(targets, dict):
        return row
    flat = {f"{variant}_{key}": value for key, value in targets.items()}
    return Row(place=row.place, fields={**row.fields, **flat})
