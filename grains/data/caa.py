"""Behaviours of Contrastive Activation Addition (Rimsky et al. 2024), as A/B questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from grains.data.base import DATASETS, PairDataset
from grains.data.items import Item
from grains.data.origins import VARIABLE, find_file
from grains.data.rows import Row, read_rows
from grains.errors import GrainsError, did_you_mean
from grains.types import ContrastivePair, Side

# Which of the file's answers one usually wants. A file's `chosen` shows the behaviour; for
# survival-instinct it is the answer without that instinct (it accepts being shut down).
_USUALLY_WANTED: dict[str, Side] = {
    "sycophancy": "rejected",
    "hallucination": "rejected",
    "corrigible-neutral-HHH": "chosen",
    "survival-instinct": "chosen",
    "coordinate-other-ais": "rejected",
}


@DATASETS.register("caa")
@final
@dataclass(frozen=True, kw_only=True)
class CAA(PairDataset):
    """One behaviour of CAA: the wanted answer against the other one.

    Args:
        behavior: which behaviour.
        part: the file of pairs that CAA fits on, or the one that it scores.
        wanted: which of the file's answers becomes the pair's `chosen`; without it, the one that
            is usually wanted: `chosen` for corrigible-neutral-HHH and survival-instinct, `rejected`
            for sycophancy, hallucination and coordinate-other-ais.
        form: `text`: the question alone, answered in words. `letter`: the question with its
            options, answered `(A)` or `(B)`.
        template: how the prompt is put to the model: `plain`, `qa`, `chat`, or a text that holds
            `{prompt}`.
        data_dir: folder that holds `caa/`; without it, the folder in the environment variable
            GRAINS_DATA.
    """

    behavior: Literal[
        "sycophancy",
        "hallucination",
        "corrigible-neutral-HHH",
        "survival-instinct",
        "coordinate-other-ais",
    ] = "sycophancy"
    part: Literal["train", "test"] = "train"
    wanted: Side | None = None
    form: Literal["text", "letter"] = "text"
    template: str = "plain"
    data_dir: str | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown behaviour."""
        if self.behavior not in _USUALLY_WANTED:
            near = did_you_mean(self.behavior, _USUALLY_WANTED)
            raise GrainsError(f"CAA has no behavior {self.behavior!r}; {near}")

    def pairs(self) -> list[ContrastivePair]:
        """Read all pairs of the behaviour's part."""
        return [self._pair(row) for row in self._rows()]

    def items(self) -> list[Item]:
        """Read the same as questions; one is seen if it was asked in either form."""
        return [
            Item.of_pair(self._pair(row), also=(row.text("question"), row.text("prompt")))
            for row in self._rows()
        ]

    def _rows(self) -> list[Row]:
        name = f"caa/{self.behavior}_{self.part}.jsonl"
        path = find_file(name, self.data_dir, "caa")
        if path is None:
            raise GrainsError(
                f"dataset 'caa' was given no place to read from and is on no hub; "
                f"give data_dir, or set {VARIABLE}, to a folder that holds {name}"
            )
        return read_rows(path)

    def _pair(self, row: Row) -> ContrastivePair:
        prompt, suffix = ("question", "_text") if self.form == "text" else ("prompt", "")
        pair = row.pair(
            prompt=row.text(prompt),
            chosen=row.text(f"chosen{suffix}"),
            rejected=row.text(f"rejected{suffix}"),
            id=row.text("id"),
            template=self.template,
        )
        wanted = self.wanted or _USUALLY_WANTED[self.behavior]
        return pair if wanted == "chosen" else pair.swapped()
