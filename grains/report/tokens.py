"""The credits of a record as what `grains.pictures` draws."""

from __future__ import annotations

import base64
import binascii
import io
import math
import typing

import torch
from PIL import Image, UnidentifiedImageError

from grains.credits import Credits, Modality, Picture
from grains.errors import GrainsError
from grains.pictures.page import section
from grains.report.record import Credited, Pictured

_ADDRESS = "data:image/"


def token_map(credited: Credited, place: int) -> str:
    """Return the words on the colour of their credit, and the picture under its own, as HTML."""
    return section(credits_of(credited), place)


def credits_of(credited: Credited) -> Credits:
    """Return credits whose picture is decoded.

    Raises:
        GrainsError: if a modality is none, or the picture does not read.
    """
    known = typing.get_args(Modality)
    if strange := [one for one in credited.modality if one not in known]:
        raise GrainsError(
            f"the credits {credited.name!r} have the modality {strange[0]!r}; wanted one of "
            f"{', '.join(known)}"
        )
    return Credits(
        tokens=credited.tokens,
        scores=torch.tensor(credited.scores, dtype=torch.float32),
        modality=typing.cast(tuple[Modality, ...], credited.modality),
        pictures=tuple(_picture(one, credited.name) for one in credited.pictures),
        gap=math.nan if credited.gap is None else credited.gap,
        name=credited.name,
        explains=credited.explains,
    )


def _picture(pictured: Pictured, name: str) -> Picture:
    rows = [[math.nan if x is None else x for x in box] for box in pictured.boxes]
    if any(len(row) != 4 for row in rows):
        raise GrainsError(f"the credits {name!r} have a box that is not x0 y0 x1 y1")
    return Picture(_decoded(pictured.image, name), torch.tensor(rows).reshape(-1, 4))


def _decoded(address: str, name: str) -> Image.Image:
    head, _, content = address.partition(";base64,")
    try:
        if not head.startswith(_ADDRESS):
            raise ValueError(f"it begins {address[:20]!r}")
        return Image.open(io.BytesIO(base64.b64decode(content, validate=True))).convert("RGB")
    except (ValueError, binascii.Error, UnidentifiedImageError, OSError) as error:
        raise GrainsError(
            f"the picture of the credits {name!r} does not read ({error}); wanted "
            "'data:image/png;base64,...'"
        ) from error
