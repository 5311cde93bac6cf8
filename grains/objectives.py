"""The scalar that is attributed, as a function of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grains.models import Encoded, SteerableModel
from grains.types import ContrastivePair, Reduction, ScoreFn, Side


@dataclass(frozen=True)
class Objective:
    """A score with the embeddings at which it is explained.

    Args:
        score: log-probabilities in nats, one a row.
        inputs: the embeddings that are credited.
        encoded: the positions of these embeddings.
    """

    score: ScoreFn
    inputs: Float[Tensor, "batch seq d_model"]
    encoded: Encoded

    @property
    def content(self) -> Bool[Tensor, "batch seq"]:
        """The positions that may be credited; all others are held at the input."""
        return self.encoded.content

    def baseline(self, fill: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "batch seq d_model"]:
        """Return where attribution starts: the fill at content, the input itself elsewhere.

        The fill is one embedding, or one a position (see `grains.blanks`).

        Position 0 is the attention sink, and BOS and template tokens carry the form of the
        question: moving them makes the path so rough that the integral does not converge.
        """
        return torch.where(self.content[..., None], fill.to(self.inputs), self.inputs)


def contrast(
    model: SteerableModel, pairs: Sequence[ContrastivePair], reduction: Reduction = "mean"
) -> Objective:
    """Return `log p(chosen | prompt) - log p(rejected | prompt)` over the prompt's embeddings.

    The prompt is shared, so the gradients of both terms meet at the same positions.
    """
    sides = [(1, model.encode(pairs, "chosen")), (-1, model.encode(pairs, "rejected"))]
    answers = [model.embed(encoded)[:, encoded.prompt_length :] for _, encoded in sides]
    prompts = sides[0][1].prompts()

    def score(inputs: Tensor, rows: Tensor) -> Tensor:
        total = inputs.new_zeros(len(rows), dtype=torch.float32)
        for (sign, encoded), answer in zip(sides, answers, strict=True):
            whole = torch.cat([inputs, answer[rows]], dim=1)
            log_prob = model.answer_log_prob(encoded.take(rows), whole, reduction=reduction)
            total = total + sign * log_prob
        return total

    return Objective(score, model.embed(prompts), prompts)


def likelihood(
    model: SteerableModel,
    pairs: Sequence[ContrastivePair],
    side: Side,
    reduction: Reduction = "mean",
) -> tuple[Objective, Encoded]:
    """Return `log p(answer | prompt)` of one side over prompt and answer, and the batch."""
    encoded = model.encode(pairs, side)

    def score(inputs: Tensor, rows: Tensor) -> Tensor:
        return model.answer_log_prob(encoded.take(rows), inputs, reduction=reduction)

    return Objective(score, model.embed(encoded), encoded), encoded
