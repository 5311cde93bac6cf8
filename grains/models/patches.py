"""Where each image token lies in the picture: one row of boxes a token, for each family.

A box is x0 y0 x1 y1 in 0..1 of the picture as it was given, before any resizing and cropping. What
a token sees of padding is cut off. Boxes of different tiles may overlap: most families show the
whole picture once more, beside its tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import ceil
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from grains.errors import GrainsError, did_you_mean

_CLASS_TOKEN = ("clip_vision_model",)  # towers whose first feature stands for no patch
_WHOLE = (0.0, 0.0, 1.0, 1.0)
_SLIVER = 1e-5  # of the picture's side: what rounding leaves of a box outside


def patch_boxes(
    model_type: str,
    config: Any,
    inputs: Mapping[str, Any],
    size: tuple[int, int],
    image_processor: Any = None,
) -> Float[Tensor, "image_tokens 4"]:
    """Return where each image token of one picture lies in it.

    For several pictures in a row, process each by itself and concatenate: their tokens follow each
    other in the sequence as the pictures do.

    Args:
        model_type: transformers' `config.model_type`.
        config: the whole model's config.
        inputs: what the processor, or its image processor, returned for this picture alone.
        size: width and height of the picture as it was given, in pixels.
        image_processor: says how LLaVA's pictures were resized, padded and cropped, which the
            inputs do not show; None if it was the shortest edge to the crop, then the centre.

    Returns:
        One box an image token, in the order of the sequence; NaN for tokens without a place:
        LLaVA-NeXT's ends of lines, a class token, padding.

    Raises:
        GrainsError: for a family whose layout is not known.
    """
    if model_type not in LAYOUTS:
        raise GrainsError(
            f"where the image tokens of {model_type!r} lie is not known; "
            f"{did_you_mean(model_type, LAYOUTS)}"
        )
    return LAYOUTS[model_type](config, inputs, *size, image_processor)


def _llava(
    config: Any, inputs: Mapping[str, Any], width: int, height: int, processor: Any
) -> Tensor:
    frame_height, frame_width = inputs["pixel_values"].shape[-2:]
    left, top, right, bottom = _resized(width, height, frame_width, frame_height, processor)
    patch = config.vision_config.patch_size
    rows, cols = frame_height // patch, frame_width // patch
    # The picture lies at left..right of the frame; the patches, from 0 to a whole number of them.
    region = (
        -left / (right - left),
        -top / (bottom - top),
        (cols * patch - left) / (right - left),
        (rows * patch - top) / (bottom - top),
    )
    return _selected(config, _cells(rows, cols, region))


def _resized(
    width: int, height: int, frame_width: int, frame_height: int, processor: Any
) -> tuple[float, float, float, float]:
    """Return where a LLaVA processor puts the picture's edges in the frame, in its pixels."""
    x0, y0, whole = 0.0, 0.0, (width, height)
    if getattr(processor, "do_pad", False):
        edge = max(whole)
        x0, y0, whole = (edge - width) // 2, (edge - height) // 2, (edge, edge)
    wanted = getattr(processor, "size", None) or {"shortest_edge": min(frame_width, frame_height)}
    edge = wanted.get("shortest_edge")
    if not getattr(processor, "do_resize", True):
        target = whole
    elif edge:
        target = tuple(
            edge if side == min(whole) else int(edge * side / min(whole)) for side in whole
        )
    else:
        target = (wanted["width"], wanted["height"])
    scale = (target[0] / whole[0], target[1] / whole[1])
    # transformers rounds the margin of a crop down, and so that of a padding up.
    left, top = -((target[0] - frame_width) // 2), -((target[1] - frame_height) // 2)
    return (
        left + x0 * scale[0],
        top + y0 * scale[1],
        left + (x0 + width) * scale[0],
        top + (y0 + height) * scale[1],
    )


def _llava_next(config: Any, inputs: Mapping[str, Any], width: int, height: int, _: Any) -> Tensor:
    from transformers.image_processing_utils import select_best_resolution

    tile = inputs["pixel_values"].shape[-1]
    side = tile // config.vision_config.patch_size
    canvas_height, canvas_width = select_best_resolution(
        (height, width), config.image_grid_pinpoints
    )
    # The picture fills the canvas of tiles one way and is centred the other way.
    scale = min(canvas_width / width, canvas_height / height)
    inner_width = min(ceil(width * scale), canvas_width)
    inner_height = min(ceil(height * scale), canvas_height)
    left, top = (canvas_width - inner_width) // 2, (canvas_height - inner_height) // 2
    region = (
        -left / inner_width,
        -top / inner_height,
        (canvas_width - left) / inner_width,
        (canvas_height - top) / inner_height,
    )
    rows, cols = canvas_height // tile * side, canvas_width // tile * side
    canvas = _cells(rows, cols, region).view(rows, cols, 4)
    # The model's own sums: the rows or columns of features that it drops as padding.
    if width / height > cols / rows:
        dropped = (rows - int(round(height * (cols / width), 7))) // 2
        canvas = canvas[dropped : rows - dropped]
    else:
        dropped = (cols - int(round(width * (rows / height), 7))) // 2
        canvas = canvas[:, dropped : cols - dropped]
    ends = canvas.new_full((len(canvas), 1, 4), torch.nan)
    lines = torch.cat([canvas, ends], dim=1).flatten(0, 1)
    return torch.cat([_selected(config, _cells(side, side)), lines])


def _qwen(config: Any, inputs: Mapping[str, Any], _width: int, _height: int, _: Any) -> Tensor:
    _, rows, cols = inputs["image_grid_thw"][0].tolist()
    merge = config.vision_config.spatial_merge_size
    return _cells(rows // merge, cols // merge)


def _gemma3(config: Any, inputs: Mapping[str, Any], width: int, height: int, _: Any) -> Tensor:
    side = int(config.mm_tokens_per_image**0.5)
    crops = len(inputs["pixel_values"]) - 1  # of pan and scan, along the longer side
    length, across = max(width, height), width >= height
    step = ceil(length / max(crops, 1)) / length
    parts = [(i * step, 0.0, min((i + 1) * step, 1.0), 1.0) for i in range(crops)]
    regions = [_WHOLE, *(part if across else (0.0, part[0], 1.0, part[2]) for part in parts)]
    return torch.cat([_cells(side, side, region) for region in regions])


def _idefics3(config: Any, inputs: Mapping[str, Any], width: int, height: int, _: Any) -> Tensor:
    vision = config.vision_config
    side = vision.image_size // vision.patch_size // config.scale_factor
    tiles = inputs["pixel_values"].shape[1] - 1

    def misfit(high: int, wide: int) -> float:
        # The longer side becomes a whole number of tiles, the shorter one is rounded up to one.
        longer, shorter = (wide, high) if width >= height else (high, wide)
        return abs(shorter - 0.5 - longer * min(width, height) / max(width, height))

    return _tiled(side, side, tiles, misfit)


def _internvl(config: Any, inputs: Mapping[str, Any], width: int, height: int, _: Any) -> Tensor:
    vision = config.vision_config
    rows, cols = (
        int(whole // patch * config.downsample_ratio)
        for whole, patch in zip(vision.image_size, vision.patch_size, strict=True)
    )
    tiles = len(inputs["pixel_values"]) - 1
    return _tiled(rows, cols, tiles, lambda high, wide: abs(wide / high - width / height))


def _paligemma(config: Any, inputs: Mapping[str, Any], _w: int, _h: int, _: Any) -> Tensor:
    rows, cols = (
        edge // config.vision_config.patch_size for edge in inputs["pixel_values"].shape[-2:]
    )
    return _cells(rows, cols)


LAYOUTS: dict[str, Callable[[Any, Mapping[str, Any], int, int, Any], Tensor]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "qwen2_vl": _qwen,
    "qwen2_5_vl": _qwen,
    "qwen3_vl": _qwen,
    "gemma3": _gemma3,
    "idefics3": _idefics3,
    "smolvlm": _idefics3,
    "internvl": _internvl,
    "paligemma": _paligemma,
}
"""The model types whose layout is known."""


def _tiled(rows: int, cols: int, tiles: int, misfit: Callable[[int, int], float]) -> Tensor:
    """Return the boxes of the tiles, row by row, then those of the whole picture."""
    if not tiles:
        return _cells(rows, cols)
    # Only the number of tiles is known: of the grids with so many, the one that fits the picture.
    high, wide = min(_grids(tiles), key=lambda grid: misfit(*grid))
    regions = [
        (x / wide, y / high, (x + 1) / wide, (y + 1) / high)
        for y in range(high)
        for x in range(wide)
    ]
    return torch.cat([_cells(rows, cols, region) for region in [*regions, _WHOLE]])


def _grids(tiles: int) -> Iterator[tuple[int, int]]:
    return ((high, tiles // high) for high in range(1, tiles + 1) if tiles % high == 0)


def _selected(config: Any, cells: Tensor) -> Tensor:
    """Return the boxes of the features that LLaVA takes from its vision tower."""
    if config.vision_config.model_type in _CLASS_TOKEN:
        cells = torch.cat([cells.new_full((1, 4), torch.nan), cells])
    return cells[1:] if config.vision_feature_select_strategy == "default" else cells


def _cells(
    rows: int, cols: int, region: tuple[float, float, float, float] = _WHOLE
) -> Float[Tensor, "cells 4"]:
    """Split a region of the picture into boxes, row by row; cut off what lies outside."""
    x0, y0, x1, y1 = region
    x = torch.linspace(x0, x1, cols + 1, dtype=torch.float64).clamp(0, 1)
    y = torch.linspace(y0, y1, rows + 1, dtype=torch.float64).clamp(0, 1)
    sides = (x[:-1].repeat(rows), y[:-1].repeat_interleave(cols))
    ends = (x[1:].repeat(rows), y[1:].repeat_interleave(cols))
    boxes = torch.stack([*sides, *ends], dim=1).float()
    boxes[(boxes[:, 2:] - boxes[:, :2] < _SLIVER).any(dim=1)] = torch.nan
    return boxes
