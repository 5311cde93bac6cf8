"""What tells one model's weights from another's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

VALUES = 1024
"""About as many values of each parameter are hashed."""


def mark_of(blocks: nn.ModuleList, width: int, *others: tuple[str, Tensor]) -> dict[str, Any]:
    """Return the number and width of some blocks, and a hash of other weights and theirs."""
    named = [*others, *blocks.named_parameters()]
    return {"n_blocks": len(blocks), "width": width, "weights": weights_hash(named)}


def weights_hash(named: Iterable[tuple[str, Tensor]]) -> str:
    """Return a hash of each tensor's name, shape, and a sample of its values.

    Values are rounded to bfloat16, so that float32, float64 and bfloat16 loads of the same weights
    agree. A float16 load agrees where float16 held the weights exactly; others may differ, since
    rounding twice is not rounding once. What is not floating-point, such as quantised weights, is
    hashed byte by byte as it is stored.
    """
    digest = hashlib.sha256()
    for name, weights in named:
        flat = weights.detach().flatten()
        # An odd stride meets every column of a matrix whose width is a power of two.
        sample = flat[:: max(1, flat.numel() // VALUES) | 1]
        if sample.is_floating_point() and sample.element_size() > 1:
            sample = sample.bfloat16()
        digest.update(f"{name} {tuple(weights.shape)}\n".encode())
        digest.update(sample.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
