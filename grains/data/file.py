"""Pairs from a file of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from grains.data.base import DATASETS, PairDataset
from grains.data.rows import Row, read_rows
from grains.types import ContrastivePair


@DATASETS.register("file")
@final
@dataclass(frozen=True, kw_only=True)
class PairFile(PairDataset):
    """Pairs from a `.jsonl`, `.csv` or `.parquet` file.

    Columns: `prompt`, `chosen`, `rejected`; optional `image` (a path inside the file's folder),
    `id` (default: the file's name and the row's number) and `template` (default: `qa`).

    Args:
        path: the file.
    """

    path: str | Path

    def pairs(self) -> list[ContrastivePair]:
        """Read all pairs of the file."""
        path = Path(self.path).expanduser()
        pairs: dict[str, ContrastivePair] = {}
        for number, row in enumerate(read_rows(path), start=1):
            pair = _pair(row, path, number)
            if pair.id in pairs:
                raise row.fault(f"id is {pair.id!r}, as in a row before; wanted another")
            pairs[pair.id] = pair
        return list(pairs.values())


def _pair(row: Row, path: Path, number: int) -> ContrastivePair:
    return row.pair(
        prompt=row.text("prompt"),
        chosen=row.text("chosen"),
        rejected=row.text("rejected"),
        id=row.text("id", f"{path.stem}-{number:04d}"),
        template=row.text("template", "qa"),
        image=_image(row, path.parent),
    )


def _image(row: Row, folder: Path) -> Path | None:
    given = row.text("image", "")
    if not given:
        return None
    path = (folder / given).resolve()  # a file of pairs is shared: it must not reach other files
    if not path.is_relative_to(folder.resolve()):
        raise row.fault(f"image is {given!r}; wanted a path inside the folder {folder}")
    if not path.is_file():
        raise row.fault(f"image is {given!r}; there is no such file in the folder {folder}")
    return path
