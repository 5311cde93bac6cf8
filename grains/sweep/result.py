"""What a sweep found: the grid, the choice, the test, and all of it as files."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from grains._version import __version__
from grains.artifact import SteeringVector
from grains.card import new_card, plain
from grains.damage import Budget
from grains.data import SteeringDataModule
from grains.layers import show_layers
from grains.scoring import UNSTEERED, Outcome, accuracy, margin
from grains.storage import write_atomically
from grains.sweep.grid import SweepCell
from grains.sweep.search import Search
from grains.tables import show_choice, show_outcomes

RECORD, VECTOR = "sweep.json", "vector.safetensors"
SHOWN = 12
"""Cells in the table, at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepResult:
    """What a sweep found.

    Args:
        cells: the grid; those over the budget are not scored, those that a round of halving left
            behind are scored on fewer pairs.
        left: which cells are scored on all validation pairs.
        chosen: which cell is the choice; its vector has the card.
        unsteered: `accuracy` and `margin` of the unsteered model on all validation pairs.
        outcomes: unsteered, steered and controls on the test pairs; empty without a test.
        pairs: how many test pairs there are.
        budget: the most damage that a choice may do.
        record: all of it as JSON.
    """

    cells: Sequence[SweepCell]
    left: Sequence[int]
    chosen: int
    unsteered: Mapping[str, float]
    outcomes: Sequence[Outcome]
    pairs: int
    budget: Budget
    record: Mapping[str, Any]

    @property
    def vector(self) -> SteeringVector:
        """The choice."""
        return self.cells[self.chosen].vector

    def save(self, folder: Path) -> None:
        """Write the record and the vector; those of an earlier sweep are replaced."""
        self.vector.save(folder / VECTOR, overwrite=True)
        text = json.dumps(self.record, ensure_ascii=False, indent=1, allow_nan=False)
        write_atomically(folder / RECORD, f"{text}\n".encode(), overwrite=True)

    def show(self) -> None:
        """Print the best cells, the choice, and the test."""
        best = sorted((self.cells[i] for i in self.left), key=lambda cell: -cell.gain)[:SHOWN]
        # With blanks a long name is broken between its parts. Of equal cells the first is chosen.
        rows = [dataclasses.replace(cell, name=cell.name.replace("/", " / ")) for cell in best]
        show_choice(rows, rows[0], self.unsteered["margin"], self.budget)
        print(self._rounds())
        for note in self.record["notes"]:
            print(note)
        if self.outcomes:
            show_outcomes(self.outcomes, self.pairs, disjoint=True)

    def _rounds(self) -> str:
        over = sum(cell.round == 0 for cell in self.cells)
        said = [f"{len(self.cells)} cells"]
        if over:
            said.append(f"{over} over the budget and not scored")
        for done in range(1, max(cell.round for cell in self.cells)):
            if ended := [cell for cell in self.cells if cell.round == done]:
                said.append(f"{len(ended)} left behind after {ended[0].pairs} pairs")
        pairs = self.cells[self.chosen].pairs
        return ", ".join([*said, f"{len(self.left)} scored on all {pairs} pairs"])


def result_of(
    search: Search,
    cells: list[SweepCell],
    left: Sequence[int],
    chosen: int,
    unsteered: Float[Tensor, "pairs 4"],
    outcomes: Sequence[Outcome],
    *,
    data: SteeringDataModule,
    settings: Mapping[str, Any],
    command: str | None,
    saved: bool,
) -> SweepResult:
    """Put together what a search has found; the chosen cell's vector gets its card.

    Nothing in the record depends on when or how fast it was made.

    Args:
        search: the search.
        cells: the grid.
        left: which cells are scored on all validation pairs.
        chosen: which one is the choice.
        unsteered: scores of all validation pairs.
        outcomes: of the test pairs.
        data: the pairs.
        settings: of the sweep, as JSON.
        command: what made it.
        saved: whether the vector will be beside the record.
    """
    model, way = search.work.model, cells[chosen].way
    before = {
        "accuracy": accuracy(unsteered, search.reduction),
        "margin": margin(unsteered, search.reduction),
    }
    described = data.describe() | {
        "pairs_fitted": len(data.split.fit),
        "completeness_gap": search.gaps[way.arm.name],
    }
    certificates = search.certificates(cells[chosen])
    card = new_card(
        model=model.name,
        fingerprint=model.fingerprint,
        data=described,
        components=_components(cells[chosen], settings),
        seeds={"seed": search.seed},
        site=way.arm.source.site,
        certificates=certificates,
        validation=[cell.row() for cell in cells],
    )
    vector = dataclasses.replace(cells[chosen].vector, card=card)
    cells[chosen] = dataclasses.replace(cells[chosen], vector=vector)
    neutral = settings["neutral"]
    record = {
        "grains": __version__,
        "kind": "sweep",
        "command": command,
        "settings": settings,
        "model": {
            "name": model.name,
            "fingerprint": model.fingerprint["weights"],
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        "seed": search.seed,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "lightning")},
        },
        "neutral": {
            "name": neutral["name"] if neutral else "packaged text",
            "texts": len(search.work.neutral),
            "perplexity": search.work.perplexity(),
        },
        "data": described,
        "unsteered": before,
        "cells": [{**cell.row(), "settings": cell.way.settings()} for cell in cells],
        "chosen": chosen,
        "certificates": certificates,
        "test": [_tested(outcome) for outcome in outcomes],
        "notes": [*search.notes, *search.remarks(cells[chosen])],
        "vector": VECTOR if saved else None,
    }
    return SweepResult(
        cells=cells,
        left=left,
        chosen=chosen,
        unsteered=before,
        outcomes=outcomes,
        pairs=len(data.split.test),
        budget=search.budget,
        record=plain(record, "record"),
    )


def _components(cell: SweepCell, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the choice, as `SteeringModule` names them, and of its making."""
    kept = ("controls", "neutral", "reduction", "max_kl", "max_perplexity_ratio", "seed", "halving")
    return {
        **cell.way.settings(),
        "layers": show_layers(cell.vector.layers),
        "coefficient": cell.vector.coefficient,
        **{name: settings[name] for name in kept},
        "chosen": cell.name,
    }


def _tested(outcome: Outcome) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": outcome.name,
        "coefficient": outcome.coefficient,
        **outcome.damage._asdict(),
    }
    for metric in ("accuracy_mean", "accuracy_sum", "margin"):
        shift = getattr(outcome, metric)
        change = None if outcome.name == UNSTEERED else shift.change._asdict()
        row[metric] = {"value": shift.value, "change": change}
    return row
