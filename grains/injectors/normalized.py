"""Add the direction, keep the length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from grains.injectors.base import INJECTORS, Injector, precise


@final
@INJECTORS.register("normalized")
@dataclass(frozen=True, kw_only=True)
class Normalized(Injector):
    """Adds the direction as `additive` does, then gives each token its old length back.

    The length is taken over `d_model`, token by token. Source: GrAInS (arXiv 2507.18043); its
    public code takes it over the sequence, by which future tokens change past ones.
    """

    def edit(
        self,
        hidden: Float[Tensor, "*batch d_model"],
        direction: Float[Tensor, " d_model"],
        coefficient: float,
        norm: float,
    ) -> Float[Tensor, "*batch d_model"]:
        """Move each token; see `Injector.edit`."""
        if coefficient == 0:
            return hidden
        wide, along = precise(hidden, direction)
        moved = torch.add(wide, along, alpha=coefficient * norm)
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        return (normalize(moved, dim=-1) * length).to(hidden.dtype)
