"""Effect against cost as SVG: a line a method, marks that can be pointed at, and a scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from grains.report.blocks import Look

WIDTH, HEIGHT = 460, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 128, 34, 46
_LABEL_HEIGHT, _LABEL_LETTERS = 13, 18
_MARKS = (
    "M0-4.5A4.5 4.5 0 1 1 0 4.5A4.5 4.5 0 1 1 0-4.5Z",
    "M-4-4H4V4H-4Z",
    "M0-5.5L5 4H-5Z",
    "M0-5.5L5 0L0 5.5L-5 0Z",
    "M-5-4H5L0 5.5Z",
)


class Mark(NamedTuple):
    """A point with its interval along y, and what is told when it is pointed at."""

    x: float
    y: float
    low: float
    high: float
    tip: str
    level: str


class Line(NamedTuple):
    """The points of a method; a `loose` one has no line through them."""

    look: Look
    marks: Sequence[Mark]
    loose: bool = False


def swatch(look: Look) -> str:
    """Return a method's mark as a small drawing of its own."""
    return (
        f'<svg class="swatch {look.colour}" viewBox="-7 -7 14 14" aria-hidden="true">'
        f'<path d="{_MARKS[look.shape]}"/></svg>'
    )


def plot(
    title: str, x_label: str, y_label: str, lines: Sequence[Line], *, log_x: bool = False
) -> str:
    """Draw lines; a linear x axis includes 0, as y does.

    Args:
        title: over the drawing, and read out by a screen reader.
        x_label: of the axis.
        y_label: of the axis.
        lines: those without marks are left out.
        log_x: whether x is logarithmic; marks at 0 or less are then left out.
    """
    lines = [
        one._replace(marks=[mark for mark in one.marks if mark.x > 0 or not log_x]) for one in lines
    ]
    lines = [one for one in lines if one.marks]
    marks = [mark for line in lines for mark in line.marks]
    across = _Scale.of([mark.x for mark in marks], (_LEFT, WIDTH - _RIGHT), log=log_x)
    ends = [end for mark in marks for end in (mark.low, mark.y, mark.high)]
    up = _Scale.of(ends, (HEIGHT - _BOTTOM, _TOP))
    described = f"{len(lines)} methods; across: {x_label}; up: {y_label}"
    # Ours are drawn last, so that they lie on top.
    drawn = "".join(_line(one, across, up) for one in reversed(lines))
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" tabindex="0">'
        f"<title>{escape(title)}</title><desc>{escape(described)}</desc>"
        f'<text class="heading" x="{_LEFT}" y="16">{escape(title)}</text>'
        f"{_axes(across, up, x_label, y_label)}{drawn}{_labels(lines, across, up)}</svg>"
    )


class _Scale(NamedTuple):
    """Where numbers lie on an axis."""

    start: float
    end: float
    near: float
    far: float
    log: bool
    ticks: Sequence[float]

    @classmethod
    def of(cls, values: Sequence[float], place: tuple[float, float], log: bool = False) -> _Scale:
        values = values or [1.0]
        if log:
            start, end = min(values) / 1.25, max(values) * 1.25
            steps = (one * 10.0**power for power in range(-9, 4) for one in (1, 2, 5))
            return cls(start, end, *place, log, [one for one in steps if start <= one <= end])
        start, end = min(0.0, *values), max(0.0, *values)
        room = 0.06 * (end - start) or 1.0
        start, end = start - room * (start < 0), end + room
        step = _step((end - start) / 4)
        first = math.ceil(start / step)
        ticks = [step * n for n in range(first, math.floor(end / step) + 1)]
        return cls(start, end, *place, log, ticks)

    def at(self, value: float) -> float:
        value = min(max(value, self.start), self.end)
        if self.log:
            share = math.log(value / self.start) / math.log(self.end / self.start)
        else:
            share = (value - self.start) / (self.end - self.start)
        return round(self.near + share * (self.far - self.near), 1)


def _step(least: float) -> float:
    """Return the least of 1, 2, 5, 10, ... (times a power of ten) that is not below.

    >>> _step(0.3), _step(12)
    (0.5, 20.0)
    """
    power = 10.0 ** math.floor(math.log10(least))
    return next(one * power for one in (1, 2, 5, 10) if one * power >= least * (1 - 1e-9))


def _axes(across: _Scale, up: _Scale, x_label: str, y_label: str) -> str:
    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM
    grid = []
    for value in up.ticks:
        kind = "zero" if abs(value) < 1e-12 else "grid"
        y = up.at(value)
        grid.append(f'<path class="{kind}" d="M{left} {y}H{right}"/>')
        grid.append(f'<text x="{left - 6}" y="{y + 4}" class="end">{value:.4g}</text>')
    for value in across.ticks:
        x = across.at(value)
        kind = "zero" if abs(value) < 1e-12 else "grid"
        grid.append(f'<path class="{kind}" d="M{x} {top}V{bottom}"/>')
        grid.append(f'<text x="{x}" y="{bottom + 16}" class="middle">{value:.4g}</text>')
    middle = (left + right) / 2
    return (
        f'<g class="axes" aria-hidden="true">{"".join(grid)}'
        f'<text x="{middle}" y="{HEIGHT - 8}" class="middle">{escape(x_label)}</text>'
        f'<text transform="translate(13 {(top + bottom) / 2}) rotate(-90)" class="middle">'
        f"{escape(y_label)}</text></g>"
    )


def _line(line: Line, across: _Scale, up: _Scale) -> str:
    places = [(across.at(mark.x), up.at(mark.y)) for mark in line.marks]
    path = "M" + "L".join(f"{x} {y}" for x, y in places)
    drawn = "" if line.loose or len(places) < 2 else f'<path class="path" d="{path}"/>'
    look = line.look
    marks = "".join(
        f'<g class="mark" data-level="{escape(mark.level)}" role="img">'
        f"<title>{escape(mark.tip)}</title>"
        f'<path class="whisker" d="M{x} {up.at(mark.low)}V{up.at(mark.high)}"/>'
        f'<path class="dot" transform="translate({x} {y})" d="{_MARKS[look.shape]}"/>'
        f'<circle cx="{x}" cy="{y}" r="9"/></g>'
        for mark, (x, y) in zip(line.marks, places, strict=True)
    )
    return f'<g class="line {look.colour}" data-method="{look.number}">{drawn}{marks}</g>'


def _labels(lines: Sequence[Line], across: _Scale, up: _Scale) -> str:
    """Return the names of lines at their right ends, of those that have room there."""
    taken: list[float] = []
    drawn = []
    for line in lines:
        last = max(line.marks, key=lambda mark: mark.x)
        y = up.at(last.y)
        steps = (sign * step for step in (0, 4, 8, 13) for sign in (1, -1))
        free = (y + step for step in steps)
        place = next(
            (one for one in free if all(abs(one - other) >= _LABEL_HEIGHT for other in taken)),
            None,
        )
        if line.loose or place is None:
            continue
        taken.append(place)
        x = WIDTH - _RIGHT + 8
        name = line.look.label
        if len(name) > _LABEL_LETTERS:
            name = name[: _LABEL_LETTERS - 1] + "\u2026"
        leader = f'<path class="leader" d="M{across.at(last.x) + 7} {y}L{x - 3} {place}"/>'
        drawn.append(
            f'<g class="label {line.look.colour}" data-method="{line.look.number}" '
            f'aria-hidden="true">{leader}<text x="{x}" y="{place + 4}">{escape(name)}</text></g>'
        )
    return "".join(drawn)
