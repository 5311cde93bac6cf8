"""Pairs from a file of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from grains.data.base import DATASETS, PairDataset
from grains.data.gallery import Broken, Gallery, sound
from grains.data.rows import Row, read_rows, shown
from grains.errors import GrainsError
from grains.types import ContrastivePair

_COLUMNS = {
    **dict.fromkeys(("prompt", "chosen", "rejected", "id", "template"), ()),
    "image": ("img", "picture", "photo", "pic"),
}
"""What is read, and words that stand for the same elsewhere."""

_LONGEST = 255  # characters of a picture's path; a picture in base64 has more


@DATASETS.register("file")
@final
@dataclass(frozen=True, kw_only=True)
class PairFile(PairDataset):
    """Pairs from a `.jsonl`, `.csv` or `.parquet` file.

    Columns: `prompt`, `chosen`, `rejected`; optional `image` (a path inside the file's folder, or
    in parquet the bytes of a picture, or both as the hub writes them; but in csv, a list of these
    is several pictures; left empty, there is none), `id` (default: the file's name and the row's
    number) and `template` (default: `qa`). Others are passed over, unless they are nearly these.

    Args:
        path: the file.
        broken: `refuse` a picture that is missing or broken, or `skip` its pair with a warning.
        count: how many rows, the first ones; no other picture is opened. None: all.
    """

    path: str | Path
    broken: Broken = "refuse"
    count: int | None = None

    def __post_init__(self) -> None:
        """Refuse a count of none."""
        if self.count is not None and self.count < 1:
            raise GrainsError(f"count is {self.count}; wanted 1 or more, or null for all")

    def pairs(self) -> list[ContrastivePair]:
        """Read the pairs of the file."""
        path = Path(self.path).expanduser()
        gallery = Gallery(folders=(path.parent,))
        ids: set[str] = set()

        def make(row: Row, number: int) -> list[ContrastivePair]:
            row.refuse_near_misses(_COLUMNS)
            pair = row.pair(
                prompt=row.text("prompt"),
                chosen=row.text("chosen"),
                rejected=row.text("rejected"),
                id=row.text("id", f"{path.stem}-{number + 1:04d}"),
                template=row.text("template", "qa"),
                image=_pictures(gallery, row),
            )
            if pair.id in ids:
                raise row.fault(f"id is {pair.id!r}, as in a row before; wanted another")
            ids.add(pair.id)
            return [pair]

        return sound(read_rows(path)[: self.count], make, self.broken)


def _pictures(gallery: Gallery, row: Row) -> Any:
    """Return a row's picture, a tuple of several, or None."""
    given = row.fields.get("image")
    several = given if isinstance(given, list) else [given]
    for one in several:
        if isinstance(one, str) and len(one) > _LONGEST:
            raise row.fault(f"image is {shown(one)}; wanted a path, or bytes in parquet")
    if not isinstance(given, list):
        return gallery.find(row, "image")
    names = {f"image {place}": one for place, one in enumerate(given, start=1)}
    listed = Row(place=row.place, fields=names)
    return tuple(gallery.one(listed, name) for name in names) or None
