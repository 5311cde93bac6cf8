"""What steering gains: how often, and by how much, the chosen answer is the likelier one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from grains.errors import GrainsError


class PairMetric(Metric, ABC):
    """Mean over pairs of some number made of `log p(chosen)` and `log p(rejected)`.

    How the log-probabilities of an answer's tokens become one number, by sum or mean, is settled
    before; here a pair is two numbers, in nats. The mean over no pairs is NaN.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    total: Tensor
    pairs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("pairs", torch.tensor(0), dist_reduce_fx="sum")

    @abstractmethod
    def of_pairs(
        self, chosen: Float[Tensor, " batch"], rejected: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Return the number that is averaged, one a pair."""

    def update(self, chosen: Float[Tensor, " batch"], rejected: Float[Tensor, " batch"]) -> None:
        """Count a batch of pairs.

        Args:
            chosen: log-probability of each pair's chosen answer.
            rejected: that of its rejected answer.

        Raises:
            GrainsError: if the shapes differ, or if a log-probability is NaN or infinite.
        """
        if chosen.shape != rejected.shape:
            shapes = f"{list(chosen.shape)} and {list(rejected.shape)}"
            raise GrainsError(f"chosen and rejected have shapes {shapes}; wanted the same")
        both = torch.stack([chosen, rejected]).float()
        if not both.isfinite().all():
            raise GrainsError(
                "a log-probability is NaN or infinite; wanted finite numbers, in nats"
            )
        self.total += self.of_pairs(both[0], both[1]).sum()
        self.pairs += chosen.numel()

    def compute(self) -> Float[Tensor, ""]:
        """Return the mean over all pairs seen."""
        return self.total / self.pairs


@final
class PreferenceAccuracy(PairMetric):
    """Share of pairs whose chosen answer is the likelier one: the preference win rate.

    A tie counts half: a model that cannot tell the answers apart scores chance, 0.5, and exchanging
    chosen and rejected turns the accuracy `a` into `1 - a`.

    >>> accuracy = PreferenceAccuracy()
    >>> accuracy.update(torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-2.0, -2.0, -1.0]))
    >>> accuracy.compute()
    tensor(0.5000)
    """

    def of_pairs(
        self, chosen: Float[Tensor, " batch"], rejected: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Return 1, 0.5 or 0."""
        return (chosen > rejected).float() + 0.5 * (chosen == rejected).float()


@final
class Margin(PairMetric):
    """Mean of `log p(chosen) - log p(rejected)`, in nats.

    >>> margin = Margin()
    >>> margin.update(torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -2.5]))
    >>> margin.compute()
    tensor(0.7500)
    """

    def of_pairs(
        self, chosen: Float[Tensor, " batch"], rejected: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Return the difference."""
        return chosen - rejected
