"""How a hidden state is moved along a direction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from grains.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Injector(ABC):
    """Moves each token's hidden state by itself: no position sees another.

    So a cached step and a full pass give the same, and future tokens never change past ones.
    """

    @abstractmethod
    def edit(
        self,
        hidden: Float[Tensor, "*batch d_model"],
        direction: Float[Tensor, " d_model"],
        coefficient: float,
        norm: float,
    ) -> Float[Tensor, "*batch d_model"]:
        """Return the moved hidden states, in the shape and dtype of `hidden`.

        Args:
            hidden: residual stream at a block's output.
            direction: a unit vector, on the device and in the dtype of `hidden`.
            coefficient: strength. Zero is the identity, bit for bit.
            norm: the block's mean residual norm, the unit of the coefficient wherever a length is
                meant. Injectors whose coefficient is a share or an angle do not use it.
        """


def precise(
    hidden: Float[Tensor, "*batch d_model"], direction: Float[Tensor, " d_model"]
) -> tuple[Float[Tensor, "*batch d_model"], Float[Tensor, " d_model"]]:
    """Return both in float32 (or float64): half precision is too coarse for lengths and angles."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    return hidden.to(dtype), direction.to(dtype)


INJECTORS: Registry[Injector] = Registry("injector", Injector)
