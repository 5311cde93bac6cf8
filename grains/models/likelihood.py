"""How likely answers are after their prompts, from the logits of a pass."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from grains.errors import GrainsError
from grains.models.encoding import Encoded
from grains.types import Reduction


def token_log_probs(
    logits: Float[Tensor, "batch answer vocab"], encoded: Encoded
) -> Float[Tensor, "batch answer"]:
    """Return log p of each answer token; 0 at padding.

    Args:
        logits: those that score the answers' columns, `logits[t - 1]` for column `t`.
        encoded: the batch.
    """
    start = encoded.prompt_length
    answer = encoded.answer_mask[:, start:].to(logits.device)
    # Padding is left out first: the vocabulary is wide. Float32 for what is narrower than it.
    scored = logits[answer]
    losses = torch.nn.functional.cross_entropy(
        scored.to(torch.promote_types(scored.dtype, torch.float32)),
        encoded.input_ids[:, start:].to(logits.device)[answer],
        reduction="none",
    )
    return losses.new_zeros(answer.shape).masked_scatter(answer, -losses)


def reduced(
    log_probs: Float[Tensor, "batch answer"], encoded: Encoded, reduction: Reduction
) -> Float[Tensor, " batch"]:
    """Return the log-probability of each answer, in nats (a token, for `mean`).

    Raises:
        GrainsError: if it is not finite, naming the pair.
    """
    total = log_probs.sum(1)
    finite = total.detach().isfinite()
    if not finite.all():
        name = encoded.names[int((~finite).nonzero()[0, 0])]
        raise GrainsError(
            f"pair {name!r}: the model's log-probability is {total[~finite][0].item()}; wanted "
            "a finite number (a larger dtype, such as float32, or a smaller coefficient)"
        )
    return total / encoded.answer_mask.sum(1).to(total) if reduction == "mean" else total
