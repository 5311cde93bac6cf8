"""What steering costs: how far the model has moved on text that should not change."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from grains.errors import GrainsError


@final
class MeanKL(Metric):
    """Mean of `KL(unsteered || steered)` over tokens, in nats; 0 for equal logits, exactly.

    Computed in float32 and a chunk of tokens at a time: at no moment does the log-softmax of all
    logits exist. A metric of the change alone, so that it needs no right answers.

    >>> kl = MeanKL()
    >>> unsteered, steered = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    >>> kl.update(unsteered, steered)
    >>> kl.compute()
    tensor(0.1201)

    Args:
        chunk: how many logits are turned into log-probabilities at once, at least one token's. What
            stays in a processor's cache is three times as quick as what does not.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    total: Tensor
    tokens: Tensor

    def __init__(self, chunk: int = 2**20) -> None:
        super().__init__()
        self.chunk = chunk
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("tokens", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        unsteered: Float[Tensor, "*batch vocab"],
        steered: Float[Tensor, "*batch vocab"],
        mask: Bool[Tensor, "*batch"] | None = None,
    ) -> None:
        """Count a batch of tokens.

        Args:
            unsteered: logits without steering.
            steered: logits with it, for the same tokens.
            mask: which tokens count; all by default. What stands elsewhere is not looked at.

        Raises:
            GrainsError: if the shapes differ, or if a logit that counts is NaN or plus infinity.
        """
        if unsteered.shape != steered.shape:
            shapes = f"{list(unsteered.shape)} and {list(steered.shape)}"
            raise GrainsError(f"unsteered and steered logits have shapes {shapes}; wanted the same")
        if mask is None:
            mask = torch.ones(unsteered.shape[:-1], dtype=torch.bool, device=unsteered.device)
        _refuse_other_shape(mask, unsteered.shape[:-1])
        places = mask.bool().nonzero()
        for chunk in places.split(max(1, self.chunk // unsteered.shape[-1])):
            here = chunk.unbind(-1)
            log_p, log_q = (x[here].float().log_softmax(-1) for x in (unsteered, steered))
            # Tokens of probability 0 add nothing, also where both logits are minus infinity.
            gaps = torch.where(log_p.isneginf(), 0.0, log_p - log_q)
            kl = (log_p.exp() * gaps).sum(-1)
            if kl.isnan().any():
                raise GrainsError("a logit is NaN or infinite; wanted finite numbers")
            self.total += kl.clamp_min(0.0).sum()
        self.tokens += len(places)

    def compute(self) -> Float[Tensor, ""]:
        """Return the mean over all tokens seen, NaN if there was none."""
        return self.total / self.tokens


@final
class TokenPerplexity(Metric):
    """`exp` of the mean negative log-probability of a token.

    >>> perplexity = TokenPerplexity()
    >>> perplexity.update(torch.tensor([0.5, 0.125]).log())
    >>> perplexity.compute()
    tensor(4.)
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    total: Tensor
    tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("tokens", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self, log_probs: Float[Tensor, "*batch"], mask: Bool[Tensor, "*batch"] | None = None
    ) -> None:
        """Count a batch of tokens.

        Args:
            log_probs: log-probability of each token, given those before it, in nats.
            mask: which tokens count; all by default.

        Raises:
            GrainsError: if the mask has another shape, or a log-probability that counts is NaN.
        """
        if mask is not None:
            _refuse_other_shape(mask, log_probs.shape)
            log_probs = log_probs[mask.bool()]
        if log_probs.isnan().any():
            raise GrainsError("a log-probability is NaN; wanted numbers, in nats")
        self.total -= log_probs.float().sum()
        self.tokens += log_probs.numel()

    def compute(self) -> Float[Tensor, ""]:
        """Return the perplexity of all tokens seen, NaN if there was none."""
        return (self.total / self.tokens).exp()


def perplexity_ratio(unsteered: TokenPerplexity, steered: TokenPerplexity) -> Float[Tensor, ""]:
    """Return by what factor steering has raised the perplexity of the same tokens.

    Raises:
        GrainsError: if the two have not seen equally many tokens.
    """
    counts = int(unsteered.tokens), int(steered.tokens)
    if counts[0] != counts[1]:
        raise GrainsError(
            f"the perplexities are of {counts[0]} and {counts[1]} tokens; wanted the same tokens"
        )
    return steered.compute() / unsteered.compute()


def _refuse_other_shape(mask: Tensor, shape: torch.Size) -> None:
    if mask.shape != shape:
        raise GrainsError(f"the mask has shape {list(mask.shape)}; wanted {list(shape)}")
