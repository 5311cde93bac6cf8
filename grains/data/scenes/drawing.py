"""Scenes as pictures, with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import Image, ImageDraw

from grains.data.scenes.scene import Rgb, Scene, SceneObject
from grains.errors import GrainsError

_FINER = 4  # drawn so many times larger, then averaged: smooth edges

_WOOD: Rgb = (110, 70, 40)
Point = tuple[float, float]


class _Pen:
    """Draws in the unit square of one object's box."""

    def __init__(self, canvas: ImageDraw.ImageDraw, thing: SceneObject, width: int) -> None:
        self.canvas = canvas
        self.colour = thing.rgb
        self.box = [side * width for side in thing.box]

    def _at(self, x: float, y: float) -> Point:
        x0, y0, x1, y1 = self.box
        return x0 + x * (x1 - x0), y0 + y * (y1 - y0)

    def polygon(self, *points: Point, fill: Rgb | None = None) -> None:
        self.canvas.polygon([self._at(*point) for point in points], fill=fill or self.colour)

    def block(self, x0: float, y0: float, x1: float, y1: float, fill: Rgb | None = None) -> None:
        self.polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1), fill=fill)

    def disc(self, x0: float, y0: float, x1: float, y1: float, fill: Rgb | None = None) -> None:
        self.canvas.ellipse((*self._at(x0, y0), *self._at(x1, y1)), fill=fill or self.colour)


def _circle(pen: _Pen) -> None:
    pen.disc(0, 0, 1, 1)


def _square(pen: _Pen) -> None:
    pen.block(0.06, 0.06, 0.94, 0.94)


def _triangle(pen: _Pen) -> None:
    pen.polygon((0.5, 0), (1, 1), (0, 1))


def _star(pen: _Pen) -> None:
    corners = []
    for step in range(10):
        radius, angle = (0.55, 0.24)[step % 2], math.pi * (step / 5 - 0.5)
        corners.append((0.5 + radius * math.cos(angle), 0.55 + radius * math.sin(angle)))
    pen.polygon(*corners)


def _cup(pen: _Pen) -> None:
    pen.disc(0.55, 0.25, 1, 0.75)
    pen.disc(0.66, 0.37, 0.89, 0.63, fill=(245, 245, 245))
    pen.polygon((0.05, 0.1), (0.78, 0.1), (0.68, 0.95), (0.15, 0.95))


def _table(pen: _Pen) -> None:
    pen.block(0, 0.2, 1, 0.45)
    pen.block(0.08, 0.45, 0.26, 1)
    pen.block(0.74, 0.45, 0.92, 1)


def _bird(pen: _Pen) -> None:
    pen.disc(0.1, 0.35, 0.75, 0.8)
    pen.disc(0.55, 0.15, 0.9, 0.5)
    pen.polygon((0.86, 0.25), (1, 0.35), (0.86, 0.42), fill=(240, 160, 30))
    pen.polygon((0, 0.25), (0.3, 0.5), (0.05, 0.7))
    pen.block(0.4, 0.78, 0.48, 1)


def _tree(pen: _Pen) -> None:
    pen.block(0.42, 0.6, 0.58, 1, fill=_WOOD)
    pen.disc(0.12, 0, 0.88, 0.72)


def _fish(pen: _Pen) -> None:
    pen.disc(0.22, 0.2, 1, 0.8)
    pen.polygon((0, 0.15), (0.38, 0.5), (0, 0.85))
    pen.disc(0.78, 0.38, 0.88, 0.48, fill=(20, 20, 20))


def _boat(pen: _Pen) -> None:
    pen.polygon((0, 0.6), (1, 0.6), (0.8, 1), (0.2, 1))
    pen.block(0.46, 0, 0.54, 0.6)
    pen.polygon((0.58, 0.05), (0.95, 0.5), (0.58, 0.5))


def _house(pen: _Pen) -> None:
    pen.block(0.12, 0.42, 0.88, 1)
    pen.polygon((0.5, 0), (1, 0.45), (0, 0.45), fill=(110, 30, 45))
    pen.block(0.42, 0.65, 0.6, 1, fill=(110, 30, 45))


def _car(pen: _Pen) -> None:
    pen.block(0, 0.45, 1, 0.78)
    pen.polygon((0.22, 0.18), (0.7, 0.18), (0.86, 0.45), (0.12, 0.45))
    pen.block(0.3, 0.26, 0.62, 0.42, fill=(190, 220, 240))
    for x in (0.12, 0.62):
        pen.disc(x, 0.65, x + 0.27, 0.95)


_DRAWN: dict[str, Callable[[_Pen], None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cup": _cup,
    "table": _table,
    "bird": _bird,
    "tree": _tree,
    "fish": _fish,
    "boat": _boat,
    "house": _house,
    "car": _car,
}


def draw(scene: Scene, size: int = 64) -> Image.Image:
    """Return the scene as an RGB picture of `size` x `size` pixels; the same scene, the same bytes.

    Raises:
        GrainsError: if the size is less than 16.
    """
    if size < 16:
        raise GrainsError(f"the size of a drawn scene is {size}; wanted 16 pixels or more")
    picture = Image.new("RGB", (size * _FINER, size * _FINER), scene.ground)
    canvas = ImageDraw.Draw(picture)
    for thing in scene.objects:
        _DRAWN[thing.kind](_Pen(canvas, thing, picture.width))
    return picture.reduce(_FINER)
