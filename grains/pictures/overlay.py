"""Credit over the picture: each image token's score, spread over the place that it saw."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageOps
from PIL.Image import Resampling
from torch import Tensor

from grains.credits import Credits, Picture
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


def density(
    boxes: Float[Tensor, "image_tokens 4"],
    scores: Float[Tensor, " image_tokens"],
    size: tuple[int, int],
) -> Float[Tensor, "height width"]:
    """Return the credit that falls on each pixel of a picture.

    A token's score is spread evenly over its box, so that tiles seen twice, at two resolutions, add
    up, and the sum over all pixels is the sum of the scores that have a place.

    Args:
        boxes: where the picture's tokens lie in it, see `Picture`.
        scores: of these tokens.
        size: width and height in pixels.
    """
    width, height = size
    placed = boxes.isfinite().all(dim=1)
    boxes, scores = boxes[placed].double(), scores[placed].double()
    across = _covered(boxes[:, 0], boxes[:, 2], width)
    down = _covered(boxes[:, 1], boxes[:, 3], height)
    return down.T @ (scores[:, None] * across)


def overlay(credits: Credits) -> Image.Image:
    """Draw the picture of a sequence, and beside it the same in grey under the credit of its parts.

    Several pictures stand side by side, in order, each above its credit. Small ones are enlarged,
    very large ones reduced. Colours are full where the credit of an area is largest, in whichever
    picture; the legend says how much that is for one percent of a picture.

    Raises:
        GrainsError: if there is no picture.
    """
    drawn, scale = coloured(credits)
    shown = [sized(picture.image) for picture in credits.pictures]
    rows = [shown, drawn] if len(drawn) > 1 else [[*shown, *drawn]]
    wide = max(sum(part.width + _MARGIN for part in row) for row in rows)
    high = max(part.height for part in drawn) + _MARGIN
    below = len(rows) * high + _MARGIN
    canvas = Image.new("RGB", (max(wide + _MARGIN, 560), below + LEGEND_HEIGHT + 28), PAPER)
    for line, row in enumerate(rows):
        left = _MARGIN
        for part in row:
            canvas.paste(part, (left, _MARGIN + line * high))
            left += part.width + _MARGIN
    draw_legend(canvas, _MARGIN, below, scale, "nats for 1 % of a picture")
    image = credits.of("image")
    share, total = credits.share("image"), float(image.sum())
    said = f"image: {len(image)} tokens, share {share:.0%}, sum {total:+.3g} nats"
    place = (_MARGIN, below + 44)
    ImageDraw.Draw(canvas).text(place, said, FAINT, font(15))
    return canvas


def coloured(credits: Credits, longest: int = LONGEST) -> tuple[list[Image.Image], float]:
    """Return each picture under its credit, without legend, and the credit of full colour.

    The credit is in nats for one percent of a picture's area; `longest` is as in `sized`.

    Raises:
        GrainsError: as `overlay` does.
    """
    if not credits.pictures:
        raise GrainsError(f"{credits.name!r} has no picture; wanted the credits of a pair with one")
    fields = [_percents(*placed, longest) for placed in credits.placed()]
    strongest = max(float(field.abs().max()) for _, field in fields)
    return [_laid_over(image, field, strongest) for image, field in fields], strongest


def _percents(picture: Picture, scores: Tensor, longest: int) -> tuple[Image.Image, Tensor]:
    """Return a picture as it is drawn, and at each pixel the credit for one percent of its area."""
    image = sized(picture.image, longest)
    return image, density(picture.boxes, scores, image.size) * image.width * image.height / 100


def _laid_over(picture: Image.Image, field: Tensor, strongest: float) -> Image.Image:
    share = (field / strongest if strongest else field).numpy()[..., None]
    # Grey and lightened: its own colours would be mistaken for credit.
    grey = np.asarray(ImageOps.grayscale(picture).convert("RGB"), dtype=np.float64)
    grey = 255 - 0.6 * (255 - grey)
    colour = np.where(share > 0, np.array(FOR, dtype=np.float64), np.array(AGAINST))
    cover = _COVER * np.abs(share)
    mixed = grey * (1 - cover) + colour * cover
    return Image.fromarray(mixed.round().astype(np.uint8))


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
