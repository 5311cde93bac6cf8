"""What is in a picture and where, apart from how it is drawn and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass

Rgb = tuple[int, int, int]
Box = tuple[float, float, float, float]

COLOURS: dict[str, Rgb] = {
    "red": (215, 35, 40),
    "green": (50, 165, 50),
    "blue": (35, 85, 215),
    "yellow": (240, 200, 20),
}
"""The colours that a shape may have."""

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star")

THINGS: dict[str, Rgb] = {
    "cup": (160, 85, 185),
    "table": (135, 85, 45),
    "bird": (105, 110, 125),
    "tree": (20, 95, 60),
    "fish": (255, 130, 20),
    "boat": (0, 135, 145),
    "house": (235, 130, 165),
    "car": (45, 45, 50),
}
"""Things, each with the one colour that most of it has."""

PARTNERS: dict[str, str] = {"cup": "table", "bird": "tree", "fish": "boat"}
"""The planted pairs: the first is hardly ever without the second, the second often without it."""

NAMES: tuple[str, ...] = (
    *(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS),
    *THINGS,
)
"""Every object's name, in the order of captions: a thing's partner comes right after it."""

GRID = 3
"""Objects stand loosely in the cells of a grid of 3 x 3."""


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One object. A scene holds no two with the same name.

    Args:
        kind: one of `SHAPES` or `THINGS`.
        colour: one of `COLOURS` for a shape; empty for a thing, which has its own.
        box: x0, y0, x1, y1 in 0..1 of the picture, y downwards.
    """

    kind: str
    colour: str = ""
    box: Box

    @property
    def name(self) -> str:
        """Its name in captions, such as `red circle` or `cup`."""
        return f"{self.colour} {self.kind}".strip()

    @property
    def rgb(self) -> Rgb:
        """The colour that most of it has."""
        return COLOURS[self.colour] if self.colour else THINGS[self.kind]

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of its box, as x, y in 0..1 of the picture."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def cell(self) -> tuple[int, int]:
        """Its row and column in the grid."""
        x, y = self.centre
        return int(y * GRID), int(x * GRID)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Objects, in the order of captions, on a ground of one colour."""

    objects: tuple[SceneObject, ...]
    ground: Rgb

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all objects, in the order of captions."""
        return tuple(thing.name for thing in self.objects)

    def find(self, name: str) -> SceneObject | None:
        """Return the object of that name, or None."""
        return next((thing for thing in self.objects if thing.name == name), None)

    def left_of(self, thing: SceneObject) -> SceneObject | None:
        """Return the nearest object to its left in its own row of the grid, or None."""
        row, column = thing.cell
        beside = [o for o in self.objects if o.cell[0] == row and o.cell[1] < column]
        return max(beside, key=lambda other: other.cell[1], default=None)
