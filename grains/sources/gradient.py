"""What the objective itself wants of each layer: its gradient at the hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from grains.hooks import recording
from grains.models import SteerableModel
from grains.sources.base import SOURCES, DirectionSource, Memo, Rows
from grains.types import ContrastivePair, Reduction, Side


@final
@SOURCES.register("gradient")
@dataclass(frozen=True, kw_only=True)
class Gradient(DirectionSource):
    """Gradients of log p(chosen) (*toward*) and log p(rejected) (*away*) at the hidden states.

    Read at the positions that pick the answer's tokens: the prompt's last one and on, to the last
    but one. The edit adds the same vector at each, in proportion to the hidden state's length; so
    the gradients are summed, each times the length of its own hidden state. With `mean_difference`
    the direction is the steepest ascent of the mean margin under `positions="last"`.

    Args:
        reduction: how token log-probabilities become the score.
    """

    reduction: Reduction = "mean"

    def rows(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        layers: Sequence[int],
        memo: Memo,
    ) -> Rows:
        """Run both sides forward and back once, for all layers together."""
        toward, norms = self._side(model, pairs, layers, "chosen")
        away, _ = self._side(model, pairs, layers, "rejected")
        return Rows.unattributed(toward, away, norms)

    def _side(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        layers: Sequence[int],
        side: Side,
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        encoded = model.encode(pairs, side)
        # logits[t - 1] scores token t: the mask of the answer's tokens, one column to the left.
        on = encoded.answer_mask.roll(-1, dims=1)
        with torch.inference_mode(False), torch.enable_grad():
            inputs = model.embed(encoded).clone().requires_grad_()
            with recording(model, layers) as hidden:
                score = model.answer_log_prob(encoded, inputs, reduction=self.reduction).sum()
            gradients = torch.autograd.grad(score, [hidden[layer] for layer in layers])
        rows, norms = {}, {}
        for layer, gradient in zip(layers, gradients, strict=True):
            length = hidden[layer].detach().float().norm(dim=-1) * on.to(gradient.device)
            rows[layer] = torch.einsum("bsd,bs->bd", gradient.float(), length).cpu()
            norms[layer] = (length.sum(1) / on.sum(1).to(length.device)).cpu()
        return rows, norms
