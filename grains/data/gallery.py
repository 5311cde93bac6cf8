"""Rows with pictures: where the files lie, opened once each, skipped only where that is asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from grains.data.images import ImageError, open_image
from grains.data.origins import VARIABLE, find_file
from grains.data.origins import hub_rows as whole_rows
from grains.data.rows import SUFFIXES, Row, read_rows, shown
from grains.errors import GrainsError
from grains.types import checked_choice

Broken = Literal["refuse", "skip"]
"""What becomes of a row whose picture is missing, broken or too large."""

T = TypeVar("T")
_NAMED = 3  # rows that the warning quotes


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Finds the pictures of rows and opens each once, so that a fault shows before any work.

    Args:
        folders: where a picture that is given by its path may lie, in the order of the search.
    """

    folders: tuple[Path, ...]
    _known: dict[Path | bytes, tuple[Path | bytes, str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def one(self, row: Row, name: str) -> Path | bytes:
        """Return the picture in a row's field; else as `find`, and no picture is an error too."""
        picture = self.find(row, name)
        if picture is None:
            raise ImageError(f"{row.place}: {name} is empty; wanted an image")
        return picture

    def find(self, row: Row, name: str) -> Path | bytes | None:
        """Return the picture in a row's field, or None if the field is absent or empty.

        Equal bytes in many rows come back as one object.

        Raises:
            ImageError: if the picture is missing, or is refused by `open_image`.
            GrainsError: if the field holds no picture, or a path that leads out of the folders.
        """
        picture = self._located(row, name, row.fields.get(name))
        if picture is None:
            return None
        if picture not in self._known:
            self._known[picture] = (picture, _fault(picture))
        picture, fault = self._known[picture]
        if fault:
            raise ImageError(f"{row.place}: {fault}")
        return picture

    def _located(self, row: Row, name: str, given: Any) -> Path | bytes | None:
        if isinstance(given, Mapping):  # as the hub's parquet files hold it
            content = given.get("bytes")
            return self._located(row, name, given.get("path") if content is None else content)
        if given is None or given == "":
            return None
        if isinstance(given, bytes):
            return given
        if not isinstance(given, str):
            raise row.fault(f"{name} is {given!r}; wanted a path or bytes")
        if "://" in given:
            raise row.fault(
                f"{name} is the address {shown(given)}; wanted a file, so download it first"
            )
        places = [(folder / given).resolve() for folder in self.folders]
        # A file of rows is shared: it must not reach other files.
        inside = [
            place
            for place, folder in zip(places, self.folders, strict=True)
            if place.is_relative_to(folder.resolve())
        ]
        listed = " or ".join(map(str, self.folders)) or "(none was given)"
        if places and not inside:
            raise row.fault(f"{name} is {shown(given)}; wanted a path inside the folder {listed}")
        for place in inside:
            if place.is_file():
                return place
            if place.is_dir():
                raise row.fault(f"{name} is {given!r}, a folder; wanted a picture file in it")
        raise ImageError(
            f"{row.place}: {name} is {shown(given)}; there is no such file in the folder {listed}"
        )


def _fault(picture: Path | bytes) -> str:
    try:
        open_image(picture)
    except ImageError as error:
        return str(error)
    return ""


def sound(rows: Sequence[Row], make: Callable[[Row, int], Iterable[T]], broken: Broken) -> list[T]:
    """Return what `make` makes of each row and its number, counted from 0.

    Args:
        rows: all rows.
        make: raises `ImageError` for a row whose picture is of no use.
        broken: `refuse` lets that error through; `skip` leaves the row out, and says so in one
            warning.

    Raises:
        GrainsError: if all rows are left out.
    """
    checked_choice(broken, Broken, "broken")
    made: list[T] = []
    faults: list[str] = []
    for number, row in enumerate(rows):
        try:
            made.extend(make(row, number))
        except ImageError as error:
            if broken == "refuse":
                raise
            faults.append(str(error))
    if not faults:
        return made
    more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    counted = f"{len(faults)} of {len(rows)} rows have a broken or missing image"
    said = f"{counted}: {'; '.join(faults[:_NAMED])}{more}"
    if len(faults) == len(rows):
        raise GrainsError(f"{said}; wanted at least one that can be opened")
    warnings.warn(f"left out {said}", stacklevel=3)
    return made


def find_rows(
    dataset: str,
    stem: str,
    *,
    data_dir: str | None,
    image_dir: str | None,
    hub: Callable[[], list[Row] | None],
    folders: Sequence[str] = ("images",),
) -> tuple[list[Row], Gallery]:
    """Read a data set with pictures from a folder, or from the hub.

    Args:
        dataset: who asks, for the errors.
        stem: name of the file inside the folder, without its suffix (`.jsonl`, `.csv`, `.parquet`).
        data_dir: the folder; without it, the one in GRAINS_DATA; without both, the hub is asked.
        image_dir: where pictures given by path lie; without it, the folder of the file.
        hub: reads the rows from the hub, or returns None where that is not installed.
        folders: folders beside the file that may hold the pictures too.
    """
    path = _find_any(dataset, stem, data_dir)
    if path is None:
        rows = hub()
        if rows is None:
            raise GrainsError(
                f"dataset {dataset!r} was given no place to read from; give data_dir, or set "
                f"{VARIABLE}, to a folder that holds {stem}{SUFFIXES[0]}, or read it from the hub: "
                "pip install 'grains-steering[hub]'"
            )
        return rows, Gallery(folders=(Path(image_dir).expanduser(),) if image_dir else ())
    if image_dir is None:
        within = (path.parent, *(path.parent / name for name in folders))
    elif (folder := Path(image_dir).expanduser()).is_dir():
        within = (folder,)
    else:
        raise GrainsError(f"image_dir is {str(folder)!r}; wanted a folder of images")
    return read_rows(path), Gallery(folders=within)


def _find_any(dataset: str, stem: str, data_dir: str | None) -> Path | None:
    faults = []
    for suffix in SUFFIXES:
        try:
            return find_file(f"{stem}{suffix}", data_dir, dataset)
        except GrainsError as error:
            faults.append(error)
    raise faults[0]


def hub_rows(repository: str, config: str | None, split: str) -> list[Row] | None:
    """Read a data set from the hub as `origins.hub_rows` does, pictures as bytes, not decoded."""
    return whole_rows(repository, config, split, prepare=_undecoded)


def _undecoded(datasets: Any, data: Any) -> Any:
    for name, feature in data.features.items():
        if isinstance(feature, datasets.Image):  # decoded, all would lie in memory at once
            data = data.cast_column(name, datasets.Image(decode=False))
    return data
