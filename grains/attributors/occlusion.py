"""Occlusion: how far the score falls when a position goes to its baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.attributors.base import ATTRIBUTORS, Attributor
from grains.attributors.passes import moved, precise, values
from grains.types import Attribution, ScoreFn


@final
@ATTRIBUTORS.register("occlusion")
@dataclass(frozen=True, kw_only=True)
class Occlusion(Attributor):
    """Puts one position after another to the baseline; needs no gradient, one pass a position.

    Source: Zeiler, Fergus, ECCV 2014 (arXiv 1311.2901), with single positions as patches. Credits
    need not add up, so `gap` is NaN. `steps` counts forward passes: the free positions and one.
    """

    def attribute(
        self,
        score: ScoreFn,
        inputs: Float[Tensor, "batch seq d_model"],
        baseline: Float[Tensor, "batch seq d_model"],
    ) -> Attribution:
        """Credit each position; see `Attributor.attribute`."""
        free, seq = moved(inputs, baseline), inputs.shape[1]
        # A column behind the last stands for the untouched input, which every example needs once.
        wanted = torch.cat([free, free.any(dim=1, keepdim=True)], dim=1)
        rows, positions = wanted.nonzero(as_tuple=True)

        def place(rows: Tensor, at: Tensor) -> Tensor:
            occluded = at[:, None] == torch.arange(seq, device=at.device)
            return torch.where(occluded[:, :, None], baseline[rows], inputs[rows])

        found = values(score, place, rows, positions, per_pass=self.rows_per_pass(seq))
        dtype = torch.promote_types(found.dtype, precise(inputs.dtype))
        table = torch.zeros(wanted.shape, dtype=dtype, device=inputs.device)
        table[rows, positions] = found.to(dtype)
        scores = torch.where(free, table[:, seq:] - table[:, :seq], 0)
        return Attribution(scores, scores.new_full((len(scores),), torch.nan), wanted.sum(dim=1))
