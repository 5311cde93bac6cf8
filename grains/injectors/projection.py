"""Take the direction out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.injectors.base import INJECTORS, Injector, precise


@final
@INJECTORS.register("projection")
@dataclass(frozen=True, kw_only=True)
class Projection(Injector):
    """Removes a share of each token's component along the direction: `h - c * (h . v) * v`.

    `coefficient` is that share, without unit: 1 removes the component, 2 mirrors it, a negative one
    amplifies it; `norm` is not used. Source: Arditi et al., NeurIPS 2024 (arXiv 2406.11717).
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
        component = (wide @ along).unsqueeze(-1)
        return torch.addcmul(wide, component, along, value=-coefficient).to(hidden.dtype)
