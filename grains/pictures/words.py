"""The words of a sequence, each on the colour of its credit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from PIL import Image, ImageDraw

from grains.credits import Credits, Modality
from grains.pictures.colours import (
    FAINT,
    INK,
    LEGEND_HEIGHT,
    PAPER,
    draw_legend,
    font,
    ink_on,
    printable,
    strength,
    tint,
)

_SIZE, _LINE, _PAD, _MARGIN = 22, 36, 3, 24


class Chip(NamedTuple):
    """A token, or the image tokens of a picture: what is written, and the credit behind it."""

    text: str
    score: float
    modality: Modality


def chips(credits: Credits) -> Iterator[Chip]:
    """Yield the tokens in order, each run of a picture's image tokens as one."""
    total = float(credits.scores.abs().sum())
    starts, seen, run = set(accumulate(credits.counts)), 0, list[float]()
    ends = [(None, "template", 0.0)]
    rows = zip(credits.tokens, credits.modality, credits.scores.tolist(), strict=True)
    for text, modality, score in [*rows, *ends]:
        if run and (modality != "image" or seen in starts):
            share = sum(map(abs, run)) / total if total else 0.0
            tokens = f"{len(run)} token{'s' * (len(run) > 1)}"
            said = f"image: {tokens}, share {share:.0%}, sum {sum(run):+.3g}"
            yield Chip(said, sum(run), "image")
            run = []
        if modality == "image":
            run.append(score)
            seen += 1
        elif text is not None:
            yield Chip(text, score, modality)


def word_scale(credits: Credits) -> float:
    """Return the credit at which colours are full: that of the strongest word; 0 without any."""
    scores = credits.of("text")
    return float(scores.abs().max()) if scores.numel() else 0.0


def heat_map(credits: Credits, width: int = 960) -> Image.Image:
    """Draw the tokens of a sequence as text, each on the colour of its credit.

    A picture's tokens are one chip with their sum in figures: it would exceed the scale of words.
    The template is grey. Letters that Pillow's own font lacks are written as Python would; `page`
    shows them all.

    Args:
        credits: of the sequence.
        width: of the picture, in pixels.
    """
    scale = word_scale(credits)
    placed, bottom = _laid_out(list(chips(credits)), width)
    head = _headed(credits)
    top = _MARGIN + len(head) * 26 + 10
    canvas = Image.new("RGB", (width, top + bottom + 18 + LEGEND_HEIGHT + _MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    for line, (text, size, colour) in enumerate(head):
        place = (_MARGIN, _MARGIN + line * 26)
        draw.text(place, _shortened(text, size, width - 2 * _MARGIN), colour, font(size))
    for chip, text, x, y in placed:
        colour = tint(strength(chip.score, scale)) if chip.modality == "text" else PAPER
        y += top
        right = x + _length(text) + 2 * _PAD
        if chip.modality != "template":
            box = (x, y, right - 1, y + _LINE - 6)
            outline = FAINT if chip.modality == "image" else None
            draw.rounded_rectangle(box, radius=4, fill=colour, outline=outline)
        ink = FAINT if chip.modality == "template" else ink_on(colour)
        draw.text((x + _PAD, y + 2), text, ink, font(_SIZE))
    unit = "nats, of words; pictures have their sum in figures; grey: not credited"
    draw_legend(canvas, _MARGIN, top + bottom + 18, scale, unit)
    return canvas


def _headed(credits: Credits) -> list[tuple[str, int, tuple[int, int, int]]]:
    head = [(credits.name, 20, INK), (credits.explains, 16, FAINT)]
    return [(printable(text), size, colour) for text, size, colour in head if text]


def _laid_out(row: list[Chip], width: int) -> tuple[list[tuple[Chip, str, int, int]], int]:
    """Return each piece of a chip with its text and place, and the height of all lines."""
    x, y, placed = _MARGIN, 0, []
    blank = _length(" ") + 2
    for chip in row:
        # A token's own blank stands between it and the one before; the rest of a word adheres.
        text = chip.text.removeprefix(" ")
        x += blank if text != chip.text and x > _MARGIN else 1
        body, ends = text.rstrip("\n"), len(text) - len(text.rstrip("\n"))
        for piece in _pieces(printable(body) + "\\n" * ends or "\u00b7", width - 2 * _MARGIN):
            wide = _length(piece) + 2 * _PAD
            if x + wide > width - _MARGIN and x > _MARGIN:
                x, y = _MARGIN, y + _LINE
            placed.append((chip, piece, x, y))
            x += wide
        if ends:
            x, y = _MARGIN, y + _LINE
    return placed, y + (_LINE if x > _MARGIN else 0)


def _pieces(text: str, width: int) -> Iterator[str]:
    """Cut what is longer than a line."""
    while _length(text) > width - 2 * _PAD:
        cut = next(n for n in range(len(text), 0, -1) if _length(text[:n]) <= width - 2 * _PAD)
        yield text[:cut]
        text = text[cut:]
    yield text


def _shortened(text: str, size: int, width: int) -> str:
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + " ...") > width:
        text = text[:-1]
    return text + " ..."


def _length(text: str) -> int:
    return round(font(_SIZE).getlength(text))
