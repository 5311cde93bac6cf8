"""The residual stream at the read-out position, and how it changes when positions are masked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grains.hooks import recording
from grains.models import Encoded, SteerableModel
from grains.types import Readout, Site


class Activations(NamedTuple):
    """Hidden states at the read-out, by layer.

    `hidden[layer]` is `[batch, d_model]` in float32; `norms[layer]` is the mean length of the
    hidden states that were read, `[batch]`.
    """

    hidden: dict[int, Float[Tensor, "batch d_model"]]
    norms: dict[int, Float[Tensor, " batch"]]

    @classmethod
    def cat(cls, parts: Sequence[Activations]) -> Activations:
        """Join groups of rows."""
        layers = parts[0].hidden
        return cls(
            {layer: torch.cat([part.hidden[layer] for part in parts]) for layer in layers},
            {layer: torch.cat([part.norms[layer] for part in parts]) for layer in layers},
        )

    def split(self, sizes: Sequence[int]) -> list[Activations]:
        """Return consecutive groups of rows."""
        hidden = {layer: rows.split(list(sizes)) for layer, rows in self.hidden.items()}
        norms = {layer: rows.split(list(sizes)) for layer, rows in self.norms.items()}
        return [
            Activations(
                {layer: parts[i] for layer, parts in hidden.items()},
                {layer: parts[i] for layer, parts in norms.items()},
            )
            for i in range(len(sizes))
        ]


TOKENS = 16_384
"""Positions of one pass without gradients."""


def read(
    model: SteerableModel,
    encoded: Encoded,
    layers: Sequence[int],
    where: Readout,
    inputs: Float[Tensor, "batch seq d_model"] | None = None,
    *,
    site: Site = "decoder",
) -> Activations:
    """Run the model up to the last of `layers` of a site and read the states at the read-out.

    Only the read-out is kept, so memory does not grow with the sequence.
    """
    weights = encoded.readout(where)

    def keep(hidden: Float[Tensor, "batch seq d_model"]) -> tuple[Tensor, Tensor]:
        hidden = hidden.float()
        on = weights.to(hidden.device)
        return (
            torch.einsum("bsd,bs->bd", hidden, on).cpu(),
            (hidden.norm(dim=-1) * on).sum(1).cpu(),
        )

    with torch.no_grad(), recording(model, layers, keep, stop=True, site=site) as states:
        model.logits(encoded, inputs, keep=1)
    return Activations(
        {layer: state for layer, (state, _) in states.items()},
        {layer: norm for layer, (_, norm) in states.items()},
    )


def masked(
    inputs: Float[Tensor, "batch seq d_model"],
    selected: Bool[Tensor, "batch masked"],
    fill: Float[Tensor, "*batch d_model"],
) -> Float[Tensor, "batch seq d_model"]:
    """Return the embeddings with the selected positions filled, with one embedding or their own.

    `selected` may be shorter than the sequence: it then covers its first columns, the prompt.
    """
    behind = inputs.shape[1] - selected.shape[1]
    selected = torch.nn.functional.pad(selected, (0, behind))
    return torch.where(selected[..., None], fill.to(inputs), inputs)


def deltas(
    model: SteerableModel,
    encoded: Encoded,
    selections: Sequence[Bool[Tensor, "batch masked"]],
    layers: Sequence[int],
    where: Readout,
    fill: Float[Tensor, "*batch d_model"],
) -> tuple[Activations, list[dict[int, Float[Tensor, "batch d_model"]]]]:
    """Return what the selected positions contribute: original minus masked, at the read-out.

    The original and every masked copy go through the model together, as many examples at a time
    as `TOKENS` positions hold.

    Returns:
        The original's activations, and for each selection a dictionary of layer to delta.
    """
    batch, seq = encoded.input_ids.shape
    copies = 1 + len(selections)
    original = model.embed(encoded)
    fill = fill.expand_as(original)
    size = max(1, TOKENS // (copies * seq))
    if batch > size:
        some = torch.arange(batch, device=original.device).split(size)
        parts = [
            deltas(model, encoded.take(n), [s[n] for s in selections], layers, where, fill[n])
            for n in some
        ]
        return Activations.cat([whole for whole, _ in parts]), [
            {layer: torch.cat([without[i][layer] for _, without in parts]) for layer in layers}
            for i in range(len(selections))
        ]
    inputs = torch.cat([original, *(masked(original, s, fill) for s in selections)])
    rows = torch.arange(batch).repeat(copies)
    whole, *without = read(model, encoded.take(rows), layers, where, inputs).split([batch] * copies)
    return whole, [
        {layer: whole.hidden[layer] - other.hidden[layer] for layer in whole.hidden}
        for other in without
    ]
