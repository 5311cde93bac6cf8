"""Turn toward the direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.injectors.base import INJECTORS, Injector, precise


@final
@INJECTORS.register("rotation")
@dataclass(frozen=True, kw_only=True)
class Rotation(Injector):
    """Turns each token toward the direction by `coefficient` radians and keeps its length.

    In the plane of the token and the direction, and never past it: an angle larger than the one
    between them stops at the direction (a negative one turns away, and stops at its opposite). A
    token parallel to the direction spans no plane with it and stays. `norm` is not used.

    Source: angular steering, Vu, Nguyen, 2025 (arXiv 2510.26243), with the plane of each token.
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
        toward = (wide @ along).unsqueeze(-1)
        rest = torch.addcmul(wide, toward, along, value=-1)
        # Twice, since beside a long component the first leaves rounding that is not orthogonal.
        rest = torch.addcmul(rest, (rest @ along).unsqueeze(-1), along, value=-1)
        across = torch.linalg.vector_norm(rest, dim=-1, keepdim=True)
        # Below this the rest is rounding: no plane. The floor also keeps 0 / 0 out of gradients.
        parallel = across <= 8 * torch.finfo(wide.dtype).eps * toward.abs()
        across = across.clamp(min=1e-12)
        angle = (torch.atan2(across, toward) - coefficient).clamp(0, math.pi)
        length = torch.hypot(across, toward)
        turned = rest * (length * angle.sin() / across) + (length * angle.cos()) * along
        return torch.where(parallel, wide, turned).to(hidden.dtype)
