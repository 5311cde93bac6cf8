"""What stands for nothing at each position: where attribution starts, and what masking leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from PIL import Image, ImageFilter
from torch import Tensor

from grains.data.images import images_of
from grains.models import Encoded, Fill, SteerableModel
from grains.types import ContrastivePair

ImageFill = Literal["mean", "grey", "blur", "zeros", "text"]
"""What stands for nothing where a picture's tokens are: the mean of its own features, the features
of a grey or of a blurred picture of its size, zeros, or what stands for nothing at words."""


def blank(
    model: SteerableModel,
    pairs: Sequence[ContrastivePair],
    encoded: Encoded,
    text: Fill,
    image: ImageFill,
) -> Float[Tensor, "batch seq features"]:
    """Return embeddings that say nothing, at every position of a batch.

    Args:
        model: the model that made the batch.
        pairs: what the batch was made of.
        encoded: the batch; with answers or without.
        text: what stands for a word.
        image: what stands for a part of a picture.

    Returns:
        As wide as what `model.embed` returns: deep-stacked features of pictures are blanked too.
    """
    embedded = model.embed(encoded)
    filled = model.filler(text).to(embedded).expand_as(embedded)
    if image == "text" or not encoded.image.any():
        return filled
    if image == "zeros":
        said = torch.zeros_like(embedded)
    elif image == "mean":
        precise = torch.promote_types(embedded.dtype, torch.float32)  # sums overflow in float16
        on = encoded.image.to(precise)
        total = torch.einsum("bsd,bs->bd", embedded.to(precise), on)
        own = (total / on.sum(1, keepdim=True).clamp(min=1)).to(embedded)
        said = own[:, None].expand_as(embedded)
    else:
        redrawn = [_redrawn(pair, _REDRAW[image]) for pair in pairs]
        said = embedded.clone()
        said[:, : encoded.prompt_length] = model.embed(model.encode(redrawn, None))
    return torch.where(encoded.image[..., None], said, filled)


def _grey(picture: Image.Image) -> Image.Image:
    return Image.new("RGB", picture.size, (128, 128, 128))


def _blurred(picture: Image.Image) -> Image.Image:
    # Wide enough that no object is left, narrow enough that its colours stay about its place.
    return picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 8))


_REDRAW: dict[str, Callable[[Image.Image], Image.Image]] = {"grey": _grey, "blur": _blurred}


def _redrawn(
    pair: ContrastivePair, redraw: Callable[[Image.Image], Image.Image]
) -> ContrastivePair:
    pictures = tuple(redraw(picture) for picture in images_of(pair))
    return dataclasses.replace(pair, image=pictures or None)
