"""Signed credit in colour: orange speaks for, blue against; told apart by colour-blind readers."""

from __future__ import annotations

import functools
import math
from typing import Any

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

FOR: Colour = (230, 97, 1)
AGAINST: Colour = (38, 109, 191)
PAPER: Colour = (255, 255, 255)
INK: Colour = (28, 28, 32)
FAINT: Colour = (128, 128, 136)

LEGEND_HEIGHT = 52


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, which every installation has."""
    return ImageFont.load_default(size)


def mixed(low: Colour, high: Colour, share: float) -> Colour:
    """Return the colour between two; share 0 is the first, 1 the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return red, green, blue


def strength(value: float, scale: float) -> float:
    """Return a credit as a share of the scale, in -1..1; 0 where there is no scale.

    >>> [strength(value, 2.0) for value in (-4, 1, 0)], strength(1.0, 0.0)
    ([-1.0, 0.5, 0.0], 0.0)
    """
    return max(-1.0, min(1.0, value / scale)) if scale > 0 and math.isfinite(value) else 0.0


def tint(share: float) -> Colour:
    """Return the colour of a strength in -1..1 on paper."""
    return mixed(PAPER, FOR if share > 0 else AGAINST, abs(share))


def ink_on(colour: Colour) -> Colour:
    """Return black or white, whichever is read more easily on a colour."""
    red, green, blue = colour
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER


def printable(text: str) -> str:
    r"""Return a text with what the font cannot draw written as Python would.

    >>> printable("seven é\n")
    'seven \\xe9\\n'
    """
    return "".join(char if _drawn(char) else _escaped(char) for char in text)


def draw_legend(canvas: Image.Image, left: int, top: int, scale: float, unit: str) -> None:
    """Draw a bar from -scale to +scale, 300 pixels wide.

    Args:
        canvas: where to draw.
        left: of the bar, in pixels.
        top: of the bar, in pixels.
        scale: the credit at which colours are full.
        unit: of the credit.
    """
    draw, width, height = ImageDraw.Draw(canvas), 300, 14
    for x in range(width):
        line = [(left + x, top), (left + x, top + height)]
        draw.line(line, fill=tint(2 * x / (width - 1) - 1))
    draw.rectangle((left, top, left + width - 1, top + height), outline=FAINT)
    marks = ((0, f"{-scale:.3g} against", "la"), (0.5, "0", "ma"), (1, f"for {scale:+.3g}", "ra"))
    for share, text, anchor in marks:
        place = (left + round(share * (width - 1)), top + height + 5)
        draw.text(place, text, fill=INK, font=font(15), anchor=anchor)
    draw.text((left + width + 14, top - 2), unit, fill=FAINT, font=font(15))


@functools.cache
def _drawn(char: str) -> bool:
    return char.isprintable() and _shape(char) != _shape("\uffff")  # which no font has


def _shape(char: str) -> bytes:
    mask: Any = font(16).getmask(char)
    return bytes(mask)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
