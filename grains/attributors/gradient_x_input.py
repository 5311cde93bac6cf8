"""Gradient times input: the first-order change from the baseline, from one gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.attributors.base import ATTRIBUTORS, Attributor
from grains.attributors.passes import grid, moved, precise, slopes
from grains.types import Attribution, ScoreFn


@final
@ATTRIBUTORS.register("gradient_x_input")
@dataclass(frozen=True, kw_only=True)
class GradientXInput(Attributor):
    """Multiplies the gradient at the input by input minus baseline: one pass, exact if linear.

    Source: Shrikumar et al., 2016 (arXiv 1605.01713), with a baseline in place of zero. It
    promises no completeness, so `gap` is NaN.
    """

    def attribute(
        self,
        score: ScoreFn,
        inputs: Float[Tensor, "batch seq d_model"],
        baseline: Float[Tensor, "batch seq d_model"],
    ) -> Attribution:
        """Credit each position; see `Attributor.attribute`."""
        moves = moved(inputs, baseline).any(dim=1)
        given, dtype = inputs.detach(), precise(inputs.dtype)
        delta = given.to(dtype) - baseline.detach().to(dtype)
        scores, rows = delta.new_zeros(delta.shape[:2]), moves.nonzero()[:, 0]
        _, scores[rows] = slopes(
            score,
            lambda rows, at: given[rows],
            delta,
            *grid(rows, 1),
            per_pass=self.rows_per_pass(inputs.shape[1]),
        )
        return Attribution(scores, delta.new_full((len(delta),), torch.nan), moves.long())
