"""Add the direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.injectors.base import INJECTORS, Injector


@final
@INJECTORS.register("additive")
@dataclass(frozen=True, kw_only=True)
class Additive(Injector):
    """Adds the direction, `coefficient * norm` long: `h + c * norm * v`.

    The plainest edit; it lengthens the hidden state (see `normalized`). Source: activation
    addition, Turner et al., 2023 (arXiv 2308.10248).
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
        return torch.add(hidden, direction, alpha=coefficient * norm)
