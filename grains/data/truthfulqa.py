"""TruthfulQA (Lin et al. 2022): questions that people often answer falsely."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

from grains.data.base import DATASETS, PairDataset
from grains.data.benchmarks import benchmark_rows
from grains.data.items import Item, make_item
from grains.data.origins import find_file
from grains.data.rows import Row
from grains.errors import GrainsError
from grains.types import ContrastivePair

_FILES = {
    "binary": "truthfulqa_binary.jsonl",
    "mc1": "truthfulqa_mc.jsonl",
    "mc2": "truthfulqa_mc.jsonl",
}
_ALIKE = 0.25  # of two questions with their choices: words in both, as a share of all words


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
        """Read the questions of the variant, each with all its choices.

        `also` of a question that the other file holds in other words has those words.
        """
        twins = self._twins()
        return [replace(one, also=twins.get(one.prompt, ())) for one in self._asked()]

    def _asked(self) -> list[Item]:
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
        hub = ("truthfulqa/truthful_qa", "multiple_choice", "validation")
        if self.variant == "binary":
            hub = ("EleutherAI/truthful_qa_binary", None, "validation")
        return benchmark_rows("truthfulqa", _FILES[self.variant], self.data_dir, hub)

    def _twins(self) -> dict[str, tuple[str, ...]]:
        """Return, by question, how the folder's other file words it.

        No field links the two files, and answers were reworded too. So those questions that one
        file alone holds are matched by the words of question and choices.
        """
        try:
            there = [find_file(name, self.data_dir, "truthfulqa") for name in _FILES.values()]
        except GrainsError:  # one file alone
            return {}
        if None in there:  # the hub's two sets ask the same 817 questions
            return {}
        binary, choices = (replace(self, variant=name)._asked() for name in ("binary", "mc1"))
        twins: dict[str, tuple[str, ...]] = {}
        for one in _alone(binary, choices):
            others = _alone(choices, binary)
            other = max(others, key=lambda item: _alike(one, item), default=None)
            if other is not None and _alike(one, other) > _ALIKE:
                twins[one.prompt] = (other.prompt,)
                twins[other.prompt] = (*twins.get(other.prompt, ()), one.prompt)
        return twins

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


def _alone(items: Sequence[Item], others: Sequence[Item]) -> list[Item]:
    """Return the questions that `others` do not ask, word for word."""
    known = {question for item in others for question in item.questions()}
    return [item for item in items if known.isdisjoint(item.questions())]


def _alike(one: Item, other: Item) -> float:
    """Return how many words two questions and their choices share, 0 to 1."""
    first, second = (
        set(re.findall(r"\w+", " ".join([item.prompt, *item.options]).casefold()))
        for item in (one, other)
    )
    return len(first & second) / len(first | second)


def _flattened(row: Row, variant: str) -> Row:
    """Write the hub's nested `mc1_targets: {choices, labels}` as the folder's files do."""
    targets = row.fields.get(f"{variant}_targets")
    if not isinstance(targets, dict):
        return row
    flat = {f"{variant}_{key}": value for key, value in targets.items()}
    return Row(place=row.place, fields={**row.fields, **flat})
