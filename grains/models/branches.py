"""Several answers to one prompt: the prompt runs once, and the answers branch off its cache."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grains.hooks import contiguous_head, prompt_ends_at
from grains.models.encoding import Encoded
from grains.models.likelihood import reduced, token_log_probs
from grains.models.model import SteerableModel
from grains.types import ContrastivePair, Reduction


class LogProbs(NamedTuple):
    """How likely the answers to one prompt are: log p of each, in nats, and how long each is."""

    total: Float[Tensor, " answers"]
    tokens: Int[Tensor, " answers"]

    def reduced(self, reduction: Reduction) -> Float[Tensor, " answers"]:
        """Return log p of each answer, or log p a token for `mean`."""
        return self.total / self.tokens if reduction == "mean" else self.total


def log_probs_of(
    model: SteerableModel, answered: Sequence[Sequence[ContrastivePair]]
) -> list[LogProbs]:
    """Return the log-probabilities of several answers to each of several prompts, in float64.

    Each prompt runs once, and its answers go on from its cache. That is exact up to rounding, also
    under steering: the positions that are edited are the same. Models that read pictures run whole
    sequences, since theirs are replayed.

    Args:
        model: the model.
        answered: for each prompt one pair an answer, as its chosen one; all with the same prompt,
            template and image.

    Raises:
        GrainsError: as `SteerableModel.encode`, or if a result is not finite, naming the pair.
    """
    counts = [len(group) for group in answered]
    encoded = model.encode([pair for group in answered for pair in group], "chosen")
    with torch.no_grad():
        if encoded.replay is not None:
            total = model.answer_log_prob(encoded, reduction="sum")
        else:
            logits = _branched(model, encoded, counts)
            total = reduced(token_log_probs(logits, encoded), encoded, "sum")
    tokens = encoded.answer_mask.sum(1).cpu()
    return list(map(LogProbs, total.cpu().double().split(counts), tokens.split(counts)))


def _branched(
    model: SteerableModel, encoded: Encoded, counts: Sequence[int]
) -> Float[Tensor, "batch answer vocab"]:
    """Run each prompt once, then all answers on copies of its cache."""
    start, end = encoded.prompt_length, encoded.input_ids.shape[1]
    device = encoded.input_ids.device
    first = torch.tensor([0, *accumulate(counts)][:-1])
    owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device)
    prompts = encoded.prompts().take(first)
    with prompt_ends_at(start), contiguous_head(model.lm.get_output_embeddings()):
        opened = model.lm(
            input_ids=prompts.input_ids,
            attention_mask=prompts.attention_mask,
            **model.positions(prompts.position_ids),
            use_cache=True,
            logits_to_keep=1,
        )
        logits = opened.logits[:, -1:][owner.to(opened.logits.device)]
        if end == start + 1:  # one token each, as letters are: the prompt says it all
            return logits
        cache = opened.past_key_values
        cache.reorder_cache(owner)
        answers = model.lm(
            input_ids=encoded.input_ids[:, start:-1],
            attention_mask=encoded.attention_mask[:, :-1],
            **model.positions(encoded.position_ids[:, start:-1]),
            past_key_values=cache,
            use_cache=True,
        )
    return torch.cat([logits, answers.logits], dim=1)
