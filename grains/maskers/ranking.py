"""The largest of some positions, row by row."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grains.types import Selection


def largest_of_each_sign(
    scores: Float[Tensor, "batch seq"],
    allowed: Bool[Tensor, "batch seq"],
    count: Int[Tensor, "#batch"],
) -> Selection:
    """Return the `count` most positive and the `count` most negative of the allowed positions.

    Fewer where there are fewer of a sign. Of equal scores the earlier position comes first.
    """
    return Selection(_largest(scores, allowed, count), _largest(-scores, allowed, count))


def _largest(scores: Tensor, allowed: Tensor, count: Tensor) -> Tensor:
    candidates = allowed & (scores > 0)
    order = scores.masked_fill(~candidates, -torch.inf).argsort(dim=1, descending=True, stable=True)
    place = order.argsort(dim=1)
    return candidates & (place < count[:, None])
