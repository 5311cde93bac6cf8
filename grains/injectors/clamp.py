"""Hold the component along the direction above a floor, or below a ceiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.injectors.base import INJECTORS, Injector, precise


@final
@INJECTORS.register("clamp")
@dataclass(frozen=True, kw_only=True)
class Clamp(Injector):
    """Raises each token's component along the direction to at least `coefficient * norm`.

    With a negative coefficient, lowers it to at most that. A token that is already there stays, and
    coefficient 0 leaves all as they are (it is *no* clamp at zero). What is orthogonal to the
    direction never changes. After the clamped features of Templeton et al., 2024 ("Scaling
    Monosemanticity"), with a bound in place of a fixed value.
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
        lacking = coefficient * norm - (wide @ along).unsqueeze(-1)
        lacking = lacking.clamp(min=0) if coefficient > 0 else lacking.clamp(max=0)
        return torch.addcmul(wide, lacking, along).to(hidden.dtype)
