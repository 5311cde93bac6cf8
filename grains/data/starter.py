"""The pairs that come with the package, so that everything runs with no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from grains.data.base import DATASETS, PairDataset
from grains.data.rows import read_rows
from grains.types import ContrastivePair

_FILE = Path(__file__).parent / "packaged" / "starter.jsonl"


@DATASETS.register("starter")
@final
@dataclass(frozen=True, kw_only=True)
class Starter(PairDataset):
    """Pairs written for this project, shipped in the package: two behaviours.

    Args:
        behavior: `honesty`: plain facts and "that cannot be known" against confident invention.
            `cheerfulness`: bright answers about everyday things against gloomy ones. `all`: both,
            enough for the data module's default sizes; for a direction that means one thing, name
            one behaviour.
    """

    behavior: Literal["honesty", "cheerfulness", "all"] = "all"

    def pairs(self) -> list[ContrastivePair]:
        """Read the pairs of the behaviour."""
        return [
            row.pair(**{key: row.text(key) for key in ("id", "prompt", "chosen", "rejected")})
            for row in read_rows(_FILE)
            if self.behavior in ("all", row.text("behavior"))
        ]
