"""The control: credits that know nothing of the score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.attributors.base import ATTRIBUTORS, Attributor
from grains.attributors.passes import moved, precise
from grains.attributors.seeding import generator
from grains.types import Attribution, ScoreFn


@final
@ATTRIBUTORS.register("random")
@dataclass(frozen=True, kw_only=True)
class RandomAttributor(Attributor):
    """Draws standard-normal credits and never calls the score: what any other must beat.

    The draw depends on the seed and on the example's own embeddings at the positions that are not
    held, so that an example gets the same credits in any batch, and two examples different ones.

    Args:
        seed: of the credits.
        token_budget: not needed here, since no pass is made.
    """

    seed: int = 0

    def attribute(
        self,
        score: ScoreFn,
        inputs: Float[Tensor, "batch seq d_model"],
        baseline: Float[Tensor, "batch seq d_model"],
    ) -> Attribution:
        """Credit each position; see `Attributor.attribute`."""
        free = moved(inputs, baseline)
        scores = torch.zeros(free.shape, dtype=precise(inputs.dtype), device=inputs.device)
        for row, example, kept in zip(scores, inputs.detach(), free, strict=True):
            content = example[kept].cpu().double().numpy().tobytes()
            draw = torch.randn(int(kept.sum()), generator=generator(self.seed, content))
            row[kept] = draw.to(row)
        gap = scores.new_full((len(scores),), torch.nan)
        return Attribution(scores, gap, torch.zeros_like(gap, dtype=torch.long))
