"""Many steps of many examples through a score, as many in one pass as the token budget holds.

Inputs are built a pass at a time and their gradients reduced to one number a position at once, so
that memory grows with the number of steps by one row of numbers each and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grains.errors import GrainsError
from grains.types import ScoreFn

Place = Callable[[Tensor, Tensor], Tensor]
"""Builds the inputs `[rows, seq, d_model]` at step `steps[i]` of example `rows[i]`."""


def precise(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype to add up in: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def moved(
    inputs: Float[Tensor, "batch seq d_model"], baseline: Float[Tensor, "batch seq d_model"]
) -> Bool[Tensor, "batch seq"]:
    """Return the positions that are not held: where the input differs from the baseline.

    Raises:
        GrainsError: if the two have different shapes.
    """
    if inputs.shape != baseline.shape or inputs.dim() != 3:
        raise GrainsError(
            f"inputs are {list(inputs.shape)} and the baseline is {list(baseline.shape)}; "
            "wanted both [batch, seq, d_model]"
        )
    return (inputs != baseline).any(dim=-1)


def grid(
    examples: Int[Tensor, " examples"], steps: int
) -> tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]]:
    """Return example and step of each row when every example takes every step."""
    rows = examples.repeat_interleave(steps)
    return rows, torch.arange(steps, device=rows.device).repeat(len(examples))


def values(
    score: ScoreFn,
    place: Place,
    rows: Int[Tensor, " rows"],
    steps: Int[Tensor, " rows"],
    *,
    per_pass: int,
) -> Float[Tensor, " rows"]:
    """Return the score at each (example, step), without gradient, in float32 or finer.

    Raises:
        GrainsError: if a score is not finite, or not one number a row.
    """
    found = []
    with torch.no_grad():
        for some, at in _split(rows, steps, per_pass):
            value = _scored(score, place(some, at), some)
            _refuse_non_finite("score", value.isfinite(), some, at)
            found.append(value.to(precise(value.dtype)))
    return torch.cat(found) if found else torch.zeros(0, device=rows.device)


def slopes(
    score: ScoreFn,
    place: Place,
    delta: Float[Tensor, "batch seq d_model"],
    rows: Int[Tensor, " rows"],
    steps: Int[Tensor, " rows"],
    *,
    per_pass: int,
) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows seq"]]:
    """Return the score at each (example, step), and `delta` times its gradient by position.

    Args:
        score: the scalar that is explained.
        place: builds the inputs of each (example, step).
        delta: inputs minus baseline; it fixes the precision of the products.
        rows: the example of each row.
        steps: the step of each row.
        per_pass: how many rows one pass may hold.

    Raises:
        GrainsError: if a score or a gradient is not finite, or if the score has no gradient.
    """
    found, shares = [delta.new_zeros(0)], [delta.new_zeros(0, delta.shape[1])]
    for some, at in _split(rows, steps, per_pass):
        value, gradient = _gradient(score, place, some, at)
        found.append(value.to(delta.dtype))
        shares.append((gradient.to(delta.dtype) * delta[some]).sum(dim=-1))
    return torch.cat(found), torch.cat(shares)


def _split(rows: Tensor, steps: Tensor, per_pass: int) -> Iterator[tuple[Tensor, Tensor]]:
    for first in range(0, len(rows), per_pass):
        yield rows[first : first + per_pass], steps[first : first + per_pass]


def _gradient(score: ScoreFn, place: Place, rows: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    # A trainer may have switched gradients off or inference mode on; what is made in here is an
    # ordinary tensor again, the indices included, since a score may save them for its backward.
    with torch.inference_mode(False), torch.enable_grad():
        rows = rows.clone()
        inputs = place(rows, steps).detach().requires_grad_()
        value = _scored(score, inputs, rows)
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value.sum(), inputs, allow_unused=True)
    if gradient is None:
        raise GrainsError(
            "the score has no gradient with respect to its inputs; wanted a differentiable "
            "function of them, or an attributor without gradients such as 'occlusion'"
        )
    _refuse_non_finite("score", value.isfinite(), rows, steps)
    _refuse_non_finite("gradient", gradient.isfinite().flatten(1).all(dim=1), rows, steps)
    return value.detach(), gradient


def _scored(score: ScoreFn, inputs: Tensor, rows: Tensor) -> Tensor:
    value = score(inputs, rows)
    if value.shape != rows.shape:
        raise GrainsError(
            f"the score of {len(rows)} rows is {list(value.shape)}; wanted one number a row"
        )
    return value


def _refuse_non_finite(what: str, finite: Tensor, rows: Tensor, steps: Tensor) -> None:
    if not finite.all():
        at = int(finite.logical_not().nonzero()[0])
        raise GrainsError(
            f"the {what} of example {int(rows[at])} of the batch is not finite at step "
            f"{int(steps[at])}; wanted a number, for which a baseline of mean embeddings and "
            "float32 are the surest (zeros are singular under RMSNorm)"
        )
