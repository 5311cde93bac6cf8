"""Embeddings that stand for nothing, as a baseline or in a masked position."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from grains.errors import GrainsError

Fill = Literal["mean", "eos", "pad", "zeros"]
"""An embedding that says nothing: the table's mean, a token's, or zeros."""


class Fills:
    """The fills of one model.

    Args:
        table: its input embeddings.
        tokenizer: names the special tokens.
    """

    def __init__(self, table: Any, tokenizer: Any) -> None:
        self.table = table
        self.tokenizer = tokenizer

    def of(self, kind: Fill) -> Float[Tensor, " d_model"]:
        """Return an embedding, as wide as the table, which OPT's residual stream may exceed.

        Raises:
            GrainsError: if the tokenizer has no such token.
        """
        if kind == "zeros":
            return torch.zeros_like(self.table.weight[0])
        if kind == "mean":
            return self._mean
        token = getattr(self.tokenizer, f"{kind}_token_id", None)
        if token is None:
            raise GrainsError(f"the fill is {kind!r}, but the tokenizer has no such token")
        with torch.no_grad():
            return self.table(torch.tensor(token, device=self.table.weight.device))

    @cached_property
    def _mean(self) -> Float[Tensor, " d_model"]:
        # Through the module, not its weight: Gemma's scales what it looks up.
        weight = self.table.weight
        count, width = weight.shape
        tokens = torch.arange(count, device=weight.device)
        total = torch.zeros(width, device=weight.device, dtype=torch.float64)
        with torch.no_grad():
            for part in tokens.split(8192):
                total += self.table(part).double().sum(0)
        return (total / count).to(weight.dtype)
