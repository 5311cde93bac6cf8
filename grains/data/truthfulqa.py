"""TruthfulQA (Lin et al. 2022): questions that people often answer falsely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from grains.data.base import DATASETS, PairDataset
from grains.data.origins import VARIABLE, find_file, hub_rows
from grains.data.rows import Row, read_rows
from grains.errors import GrainsError
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

    def _rows(self) -> list[Row]:
        binary = self.variant == "binary"
        name = "truthfulqa_binary.jsonl" if binary else "truthfulqa_mc.jsonl"
        path = find_file(name, self.data_dir, "truthfulqa")
        if path is not None:
            return read_rows(path)
        if binary:
            rows = hub_rows("EleutherAI/truthful_qa_binary", None, "validation")
        else:
            rows = hub_rows("truthfulqa/truthful_qa", "multiple_choice", "validation")
        if rows is None:
            raise GrainsError(
                f"dataset 'truthfulqa' was given no place to read from; give data_dir, or set "
                f"{VARIABLE}, to a folder that holds {name}, or read it from the hub: "
                "pip install 'grains-steering[hub]'"
            )
        return rows

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

    def _multiple_choice(self, row: Row, number: int) -> list[ContrastivePair]:
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
