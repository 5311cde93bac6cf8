"""The mean curves as a picture: deletion on the left, insertion on the right."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw
from PIL.Image import Resampling

from grains.faithfulness.curves import Curves
from grains.faithfulness.result import Faithfulness
from grains.pictures.colours import FAINT, INK, PAPER, Colour, font, mixed, printable

# Okabe and Ito's, which colour-blind readers tell apart.
COLOURS: tuple[Colour, ...] = (
    (230, 159, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167),
    (86, 180, 233), (213, 94, 0), (120, 110, 20),
)  # fmt: skip

_FINE = 3  # drawn that many times too large, then reduced: Pillow's lines have steps
_SIDE, _LEFT, _TOP, _GAP, _LINE = 300, 56, 44, 40, 24
_GRID = mixed(PAPER, FAINT, 0.3)
_PANELS = {
    "deletion": ("deletion: lower is better", "share of positions filled"),
    "insertion": ("insertion: higher is better", "share of positions put back"),
}


def plot(found: Faithfulness) -> Image.Image:
    """Draw the mean normalised curves of each attributor, whole, its reverse and random, dashed.

    Raises:
        GrainsError: if fewer than two pairs can be normalised.
    """
    means = {name: found.mean(curves) for name, curves in found.curves.items()}
    random = found.mean(found.random)
    low, high = _range([*means.values(), random])
    size = (_LEFT + 2 * (_SIDE + _GAP), _TOP + _SIDE + 56 + _LINE * (len(means) + 2))
    canvas = Image.new("RGB", (size[0] * _FINE, size[1] * _FINE), PAPER)
    for place, (kind, (title, below)) in enumerate(_PANELS.items()):
        panel = _Panel(canvas, _LEFT + place * (_SIDE + _GAP), _TOP, low, high)
        panel.frame(title, below)
        for colour, curves in zip(_colours(means), means.values(), strict=True):
            panel.line(getattr(curves.reversed(), kind).tolist(), colour, dashed=True)
        panel.line(getattr(random, kind).tolist(), INK, dashed=True)
        for colour, curves in zip(_colours(means), means.values(), strict=True):
            panel.line(getattr(curves, kind).tolist(), colour)
    _legend(canvas, _TOP + _SIDE + 56, means)
    return canvas.resize(size, Resampling.LANCZOS)


def _colours(means: Mapping[str, Curves]) -> list[Colour]:
    return [COLOURS[place % len(COLOURS)] for place in range(len(means))]


def _range(curves: Sequence[Curves]) -> tuple[float, float]:
    """Return the bounds of the vertical axis: 0 to 1, or as far as the curves go, in quarters."""
    every = [float(value) for one in curves for curve in one for value in curve]
    return min(0.0, min(every) // 0.25 * 0.25), max(1.0, -(-max(every) // 0.25) * 0.25)


class _Panel:
    """One pair of axes on a canvas; all lengths in pixels of the picture as it is handed out."""

    def __init__(self, canvas: Image.Image, left: int, top: int, low: float, high: float) -> None:
        self.draw = ImageDraw.Draw(canvas)
        self.left, self.top, self.low, self.high = left, top, low, high

    def at(self, share: float, value: float) -> tuple[float, float]:
        """Return the place of a point in pixels of the large canvas."""
        up = (value - self.low) / (self.high - self.low)
        return (self.left + share * _SIDE) * _FINE, (self.top + (1 - up) * _SIDE) * _FINE

    def text(self, place: tuple[float, float], text: str, anchor: str, shift: int = 0) -> None:
        """Write below or beside a place."""
        where = (place[0], place[1] + shift * _FINE)
        self.draw.text(where, text, INK, font(13 * _FINE), anchor=anchor)

    def frame(self, title: str, below: str) -> None:
        """Draw the axes with a line at every quarter."""
        steps = round((self.high - self.low) / 0.25)
        every = -(-steps // 8)  # no more than eight numbers
        for step in range(0, steps + 1, every):
            value = self.low + 0.25 * step
            self.draw.line([self.at(0.0, value), self.at(1.0, value)], _GRID, _FINE)
            x, y = self.at(0.0, value)
            self.text((x - 6 * _FINE, y), f"{value:g}", "rm")
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            self.draw.line([self.at(share, self.low), self.at(share, self.high)], _GRID, _FINE)
            self.text(self.at(share, self.low), f"{share:g}", "ma", 5)
        self.text(self.at(0.5, self.low), below, "ma", 24)
        self.text(self.at(0.5, self.high), title, "md", -8)

    def line(self, values: Sequence[float], colour: Colour, *, dashed: bool = False) -> None:
        """Draw one curve over evenly spaced shares."""
        last = len(values) - 1
        points = [self.at(place / last, value) for place, value in enumerate(values)]
        for start, end in itertools.pairwise(points):
            _stroke(self.draw, start, end, colour, dashed)


def _stroke(
    draw: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: Colour,
    dashed: bool,
) -> None:
    if not dashed:
        draw.line([start, end], colour, 2 * _FINE)
        return
    pieces = max(1, round(math.dist(start, end) / (10 * _FINE)))  # a dash and a blank each
    for piece in range(pieces):
        ends = [
            tuple(a + (b - a) * (piece + part) / pieces for a, b in zip(start, end, strict=True))
            for part in (0, 0.5)
        ]
        draw.line([(ends[0][0], ends[0][1]), (ends[1][0], ends[1][1])], colour, _FINE)


def _legend(canvas: Image.Image, top: int, means: Mapping[str, Curves]) -> None:
    draw = ImageDraw.Draw(canvas)
    rows = [
        (printable(name), colour, False)
        for name, colour in zip(means, _colours(means), strict=True)
    ]
    rows += [("the same ranking reversed", FAINT, True), ("random rankings", INK, True)]
    for place, (name, colour, dashed) in enumerate(rows):
        y = (top + place * _LINE) * _FINE
        _stroke(draw, (_LEFT * _FINE, y), ((_LEFT + 36) * _FINE, y), colour, dashed)
        draw.text(((_LEFT + 46) * _FINE, y), name, INK, font(13 * _FINE), anchor="lm")
