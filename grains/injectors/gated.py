"""Move a token only on one side of a threshold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.errors import GrainsError
from grains.injectors.base import INJECTORS, Injector, precise
from grains.injectors.normalized import Normalized
from grains.types import checked_choice


@final
@INJECTORS.register("gated")
@dataclass(frozen=True, kw_only=True)
class Gated(Injector):
    """Moves, as another injector does, those tokens alone that lie on one side of a threshold.

    A token's side is told by its component along the direction, before it is moved. All others stay
    bit for bit. Source: conditional activation steering (CAST), Lee et al., ICLR 2025 (arXiv
    2409.05907). There a condition vector of its own, compared at chosen layers with the prompt as a
    whole, opens the gate for all that follows; here every token, in every layer, answers for
    itself, and the direction is the condition.

    Args:
        injector: how tokens that pass are moved.
        threshold: of the component along the direction, in units of the layer's norm.
        side: which tokens are moved: those `below` the threshold, not yet where the direction
            leads, or those `above` it. The sign of the coefficient does not change that.
    """

    injector: Injector = field(default_factory=Normalized)
    threshold: float = 0.0
    side: Literal["below", "above"] = "below"

    def __post_init__(self) -> None:
        """Refuse a side that there is not, and a threshold that no token can be compared with."""
        checked_choice(self.side, Literal["below", "above"], "side")
        if not abs(self.threshold) < float("inf"):
            raise GrainsError(f"threshold is {self.threshold}; wanted a finite number")

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
        component, limit = (wide @ along).unsqueeze(-1), self.threshold * norm
        moves = component < limit if self.side == "below" else component > limit
        return torch.where(moves, self.injector.edit(hidden, direction, coefficient, norm), hidden)
