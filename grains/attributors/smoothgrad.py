"""SmoothGrad: the gradient, averaged over noisy copies of the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.attributors.base import ATTRIBUTORS, Attributor
from grains.attributors.passes import grid, moved, precise, slopes
from grains.attributors.seeding import generator
from grains.errors import GrainsError
from grains.types import Attribution, ScoreFn


@final
@ATTRIBUTORS.register("smoothgrad")
@dataclass(frozen=True, kw_only=True)
class SmoothGrad(Attributor):
    """Averages the gradient over seeded noise, then multiplies by input minus baseline.

    Only positions that are not held get noise. Every example gets the same draws, whatever its
    batch, its padding or the token budget, and the global random state is left alone.

    Source: Smilkov et al., 2017 (arXiv 1706.03825). It promises no completeness: `gap` is NaN.

    Args:
        samples: noisy copies an example.
        noise: standard deviation, as a share of the example's root mean square of input minus
            baseline over the positions that are not held.
        seed: of the noise.
        token_budget: how many positions one pass may hold, over all its rows.
    """

    samples: int = 16
    noise: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings under which nothing is averaged."""
        super().__post_init__()
        if self.samples < 1:
            raise GrainsError(f"samples is {self.samples}; wanted 1 or more")
        if not self.noise > 0:
            raise GrainsError(
                f"noise is {self.noise}; wanted more than 0 (without noise: 'gradient_x_input')"
            )

    def attribute(
        self,
        score: ScoreFn,
        inputs: Float[Tensor, "batch seq d_model"],
        baseline: Float[Tensor, "batch seq d_model"],
    ) -> Attribution:
        """Credit each position; see `Attributor.attribute`."""
        free, dtype = moved(inputs, baseline), precise(inputs.dtype)
        end = inputs.detach().to(dtype)
        delta = end - baseline.detach().to(dtype)

        spread = (delta.square().sum(dim=(1, 2)) / (free.sum(dim=1) * delta.shape[2])).sqrt()

        def place(rows: Tensor, at: Tensor) -> Tensor:
            noisy = end[rows]
            for copy, row, sample in zip(noisy, rows.tolist(), at.tolist(), strict=True):
                # One stream a sample, since a pass may begin in the middle of an example.
                stream = generator(self.seed, str(sample).encode())
                draw = torch.randn(int(free[row].sum()), end.shape[2], generator=stream)
                copy[free[row]] += self.noise * spread[row] * draw.to(copy)
            return noisy.to(inputs.dtype)

        moves = free.any(dim=1)
        scores, rows = delta.new_zeros(delta.shape[:2]), moves.nonzero()[:, 0]
        _, shares = slopes(
            score,
            place,
            delta,
            *grid(rows, self.samples),
            per_pass=self.rows_per_pass(inputs.shape[1]),
        )
        scores[rows] = shares.view(len(rows), self.samples, delta.shape[1]).mean(dim=1)
        gap = delta.new_full((len(delta),), torch.nan)
        return Attribution(scores, gap, moves * self.samples)
