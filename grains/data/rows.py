"""Rows of files, each with the place where it stands, so that a fault can be named."""

from __future__ import annotations

import csv
import difflib
import importlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grains.errors import GrainsError, did_you_mean
from grains.types import ContrastivePair


@dataclass(frozen=True, kw_only=True)
class Row:
    """One record, and its place: file and line."""

    place: str
    fields: Mapping[str, Any]

    def text(self, field: str, default: str | None = None) -> str:
        """Return a field that holds text; `default` stands in where it is absent or empty."""
        if default is not None and self.fields.get(field) in (None, ""):
            return default
        return self._checked(field, lambda value: isinstance(value, str), "some text")

    def texts(self, field: str) -> list[str]:
        """Return a field that holds a list of texts."""
        return self._checked(field, _all_of(str), "a list of texts")

    def integer(self, field: str) -> int:
        """Return a field that holds an integer."""
        return self._checked(field, lambda value: type(value) is int, "an integer")

    def integers(self, field: str) -> list[int]:
        """Return a field that holds a list of integers."""
        return self._checked(field, _all_of(int), "a list of integers")

    def pair(self, **values: Any) -> ContrastivePair:
        """Make a pair; a refusal names this row's place."""
        try:
            return ContrastivePair(**values)
        except GrainsError as error:
            raise self.fault(str(error)) from error

    def refuse_near_misses(self, columns: Mapping[str, Collection[str]]) -> None:
        """Refuse a field that looks like a column that this row lacks: it would not be read.

        Args:
            columns: those that are read, and words that stand for each elsewhere.
        """
        lacking = {name: words for name, words in columns.items() if name not in self.fields}
        for given in self.fields:
            if given not in columns and (meant := _nearest(given, lacking)):
                raise self.fault(f"unknown column {given!r}; did you mean {meant!r}?")

    def fault(self, what: str) -> GrainsError:
        """Return the error that says what is wrong with this row, and where it stands."""
        return GrainsError(f"{self.place}: {what}")

    def _checked(self, field: str, fits: Callable[[Any], bool], wanted: str) -> Any:
        if field not in self.fields:
            raise self.fault(f"no field {field!r}; {did_you_mean(field, self.fields)}")
        value = self.fields[field]
        if not fits(value):
            raise self.fault(f"{field} is {shown(value)}; wanted {wanted}")
        return value


def shown(value: Any) -> str:
    """Return a value as Python writes it; of a long text, such as a picture in base64, the start.

    >>> shown("a.png"), len(shown("a" * 20_000))
    ("'a.png'", 86)
    """
    if isinstance(value, str) and len(value) > 120:
        return f"{value[:60]!r} ... ({len(value):,} characters)"
    return repr(value)


def _nearest(given: str, columns: Mapping[str, Collection[str]]) -> str | None:
    name = given.strip().lower()
    parts = {part.removesuffix("s") for part in re.split(r"[\W_]+", name)}
    for column, words in columns.items():
        if name == column or not parts.isdisjoint((*words, column) if words else ()):
            return column
    long = [column for column in columns if len(column) > 2]  # of `id`, too much is near
    return next(iter(difflib.get_close_matches(name, long, n=1, cutoff=0.75)), None)


def _all_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(item) is kind for item in value)


def read_rows(path: Path) -> list[Row]:
    """Read a file of rows; its suffix (`.jsonl`, `.csv`, `.parquet`) says how.

    Raises:
        GrainsError: if the file is missing, has another suffix, holds no row, or a row is broken.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise GrainsError(
            f"{path} ends in {path.suffix!r}; wanted a file that ends in {' or '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise GrainsError(f"{path} does not exist; wanted a file of pairs")
    try:
        rows = list(reader(path))
    except UnicodeDecodeError as error:
        raise GrainsError(f"{path} is not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise GrainsError(f"{path} cannot be read: {error.strerror or error}") from error
    if not rows:
        raise GrainsError(f"{path} holds no row; wanted at least one")
    return rows


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except json.JSONDecodeError as error:
                raise GrainsError(
                    f"{place}: not JSON ({error.msg} at column {error.colno}); wanted one object"
                ) from error
            if not isinstance(fields, dict):
                raise GrainsError(f"{place}: {line.strip()[:40]!r}; wanted one JSON object")
            yield Row(place=place, fields=fields)


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        start = 1
        try:
            width = len(reader.fieldnames or [])  # reads the header
            start = reader.line_num + 1
            for fields in reader:
                place, start = f"{path}, line {start}", reader.line_num + 1
                if None in fields:
                    raise GrainsError(
                        f"{place}: more cells than the header's {width}; "
                        "text that holds a comma wants quotes"
                    )
                yield Row(place=place, fields=fields)
        except csv.Error as error:
            raise GrainsError(f"{path}, line {start}: not CSV ({error})") from error


def _parquet(path: Path) -> Iterable[Row]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise GrainsError(
            f"{path} wants pyarrow, which is not installed: pip install 'grains-steering[parquet]'"
        ) from error
    try:
        # One file, not a folder of partitions: a folder `id=3/` above it must not add a column.
        table = parquet.ParquetFile(path).read()
    except ValueError as error:  # pyarrow's own errors extend it
        raise GrainsError(f"{path} is not a parquet file ({str(error).splitlines()[0]})") from error
    for number, fields in enumerate(table.to_pylist(), start=1):
        yield Row(place=f"{path}, row {number}", fields=fields)


_READERS: dict[str, Callable[[Path], Iterable[Row]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
SUFFIXES = tuple(_READERS)
