"""Credit over the picture: each image token's score, spread over the place that it saw."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageOps
from PIL.Image import Resampling
from torch import Tensor

from grains.credits import Credits
from grains.errors import GrainsError
from grains.pictures.colours import (
    AGAINST,
    FAINT,
    FOR,
    LEGEND_HEIGHT,
    PAPER,
    draw_legend,
    font,
)

SHORTEST, LONGEST = 448, 640
"""Between these is the longer side of what is drawn, in pixels."""

_COVER = 0.8  # of the picture, by colour at full strength
_MARGIN = 16


def density(credits: Credits, width: int, height: int) -> Float[Tensor, "height width"]:
    """Return the credit that falls on each pixel of a picture of some size.

    A token's score is spread evenly over its box, so that tiles seen twice, at two resolutions, add
    up, and the sum over all pixels is the sum of the scores that have a place.

    Raises:
        GrainsError: if the credits have no boxes.
    """
    if credits.boxes is None:
        raise GrainsError(
            f"{credits.name!r} has no boxes, so its credit has no place in a picture; wanted the "
            "credits of a pair with a picture"
        )
    placed = credits.boxes.isfinite().all(dim=1)
    boxes = credits.boxes[placed].double()
    scores = credits.of("image").double()[placed]
    across = _covered(boxes[:, 0], boxes[:, 2], width)
    down = _covered(boxes[:, 1], boxes[:, 3], height)
    return down.T @ (scores[:, None] * across)


def overlay(credits: Credits) -> Image.Image:
    """Draw the picture of a sequence, and beside it the same in grey under the credit of its parts.

    A small picture is enlarged, a very large one reduced. Colours are full where the credit of an
    area is largest; the legend says how much that is for one percent of the picture.

    Raises:
        GrainsError: if there is no picture, or no boxes.
    """
    drawn, scale = coloured(credits)
    wide, high = drawn.size
    size = (max(2 * wide + 3 * _MARGIN, 560), high + 2 * _MARGIN + LEGEND_HEIGHT + 28)
    canvas = Image.new("RGB", size, PAPER)
    canvas.paste(sized(_picture(credits)), (_MARGIN, _MARGIN))
    canvas.paste(drawn, (2 * _MARGIN + wide, _MARGIN))
    below = high + 2 * _MARGIN
    draw_legend(canvas, _MARGIN, below, scale, "nats for 1 % of the picture")
    image = credits.of("image")
    share, total = credits.share("image"), float(image.sum())
    said = f"image: {len(image)} tokens, share {share:.0%}, sum {total:+.3g} nats"
    place = (_MARGIN, below + 44)
    ImageDraw.Draw(canvas).text(place, said, FAINT, font(15))
    return canvas


def coloured(credits: Credits, longest: int = LONGEST) -> tuple[Image.Image, float]:
    """Return the picture under its credit, without legend, and the credit of full colour.

    The credit is in nats for one percent of the picture's area; `longest` is as in `sized`.

    Raises:
        GrainsError: as `overlay` does.
    """
    picture = sized(_picture(credits), longest)
    per_pixel = density(credits, *picture.size)
    strongest = float(per_pixel.abs().max())
    share = (per_pixel / strongest if strongest else per_pixel).numpy()[..., None]
    # Grey and lightened: its own colours would be mistaken for credit.
    grey = np.asarray(ImageOps.grayscale(picture).convert("RGB"), dtype=np.float64)
    grey = 255 - 0.6 * (255 - grey)
    colour = np.where(share > 0, np.array(FOR, dtype=np.float64), np.array(AGAINST))
    cover = _COVER * np.abs(share)
    mixed = grey * (1 - cover) + colour * cover
    drawn = Image.fromarray(mixed.round().astype(np.uint8))
    return drawn, strongest * picture.width * picture.height / 100


def _covered(low: Tensor, high: Tensor, pixels: int) -> Tensor:
    """Return which share of each interval lies on each pixel of a side. `[boxes, pixels]`."""
    edges = torch.arange(pixels + 1, dtype=torch.float64) / pixels
    start, end = edges[:-1], edges[1:]
    common = torch.minimum(high[:, None], end) - torch.maximum(low[:, None], start)
    return common.clamp(min=0) / (high - low)[:, None]


def sized(picture: Image.Image, longest: int = LONGEST) -> Image.Image:
    """Return a picture at the size in which it is drawn, its longer side no more than `longest`."""
    longer = max(picture.size)
    wanted = min(max(longer, SHORTEST), longest)
    width, height = (max(1, round(side * wanted / longer)) for side in picture.size)
    picture = picture.convert("RGB")
    return picture if wanted == longer else picture.resize((width, height), Resampling.BICUBIC)


def _picture(credits: Credits) -> Image.Image:
    if credits.image is None:
        raise GrainsError(f"{credits.name!r} has no picture; wanted the credits of a pair with one")
    return credits.image
