"""What a report is made of, whether it becomes HTML or Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from grains.report.record import Credited, Number

OWN = "own"
"""The level of a method without strength: it stands at its own damage."""


class Look(NamedTuple):
    """How a method is told from others: its number on the page, a class of the style, a mark."""

    number: int
    role: str
    colour: str
    shape: int
    label: str


class Span(NamedTuple):
    """An interval to be drawn, the ends of its scale, and the sign of what is better (1 or -1)."""

    low: float
    mean: float
    high: float
    start: float
    end: float
    sign: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A cell of a table.

    Args:
        text: what is written.
        value: by which a column is sorted; what has none comes last.
        look: of the method that it names.
        span: drawn beside the text.
        share: the colour behind it, -1 to 1.
        weight: `strong`, `faint`, or neither.
        tip: shown when pointed at.
    """

    text: str
    value: Number = None
    look: Look | None = None
    span: Span | None = None
    share: Number = None
    weight: str = ""
    tip: str = ""


Tags = Mapping[str, str]
"""By these a reader of the HTML chooses what is shown: `level`, `metric`, `main`, `method`."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table."""

    entries: tuple[Entry, ...]
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; columns are numbers, except for the first `texts`. `pinned` rows are not sorted."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    pinned: tuple[Row, ...] = ()
    texts: int = 1
    caption: str = ""
    sortable: bool = True


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph."""

    text: str
    faint: bool = False


@dataclass(frozen=True, kw_only=True)
class Points:
    """Sentences, each behind a word that says what it is about."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Code:
    """Text that is kept as it is; `copy` offers to copy it."""

    text: str
    language: str = ""
    copy: bool = False


@dataclass(frozen=True, kw_only=True)
class Plots:
    """Drawings of the same kind, as SVG, under one legend. Their numbers are in tables as well."""

    drawings: tuple[str, ...]
    legend: tuple[Look, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The credits of a sequence."""

    credits: Credited
    place: int


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A prompt, and who answered what; `look` is None for the unsteered model."""

    prompt: str
    answers: tuple[tuple[str, Look | None, str], ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Picker:
    """A choice of the method whose answers stand beside the unsteered ones."""

    methods: tuple[Look, ...]
    first: Look


@dataclass(frozen=True, kw_only=True)
class Section:
    """Blocks under a heading; without a title, blocks side by side where there is room.

    `folded` ones open when their heading is clicked.
    """

    title: str
    blocks: tuple[Block, ...]
    depth: int = 2
    folded: bool = False
    tags: Tags = field(default_factory=dict)


Block = Section | Table | Text | Points | Code | Plots | Tokens | Answers | Picker


@dataclass(frozen=True, kw_only=True)
class Document:
    """A whole report.

    Args:
        title: of the page.
        facts: a line under it.
        levels: between which the reader chooses, as tags.
        metrics: likewise.
        measure: what the levels are of.
        blocks: in the order in which they are read.
    """

    title: str
    facts: tuple[str, ...]
    levels: tuple[str, ...]
    metrics: tuple[str, ...]
    blocks: tuple[Block, ...]
    measure: str = ""
