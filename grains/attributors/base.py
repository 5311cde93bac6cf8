"""Who is to be credited: the signed share of each input position in a score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from grains.errors import GrainsError
from grains.registry import Registry
from grains.types import Attribution, ScoreFn


@dataclass(frozen=True, kw_only=True)
class Attributor(ABC):
    """Credits each input position with its signed share of a score.

    An attributor sees embeddings and a function of them, never a model or a tokenizer. So it works
    on words and image patches alike, and is tested by algebra on small tensors.

    Args:
        token_budget: how many positions one forward pass may hold, over all its rows.
    """

    token_budget: int = 2048

    def __post_init__(self) -> None:
        """Refuse a budget that holds nothing."""
        if self.token_budget < 1:
            raise GrainsError(f"token_budget is {self.token_budget}; wanted 1 or more")

    def rows_per_pass(self, seq: int) -> int:
        """Return how many rows of `seq` positions the token budget holds, one at the least."""
        return max(1, self.token_budget // max(1, seq))

    @abstractmethod
    def attribute(
        self,
        score: ScoreFn,
        inputs: Float[Tensor, "batch seq d_model"],
        baseline: Float[Tensor, "batch seq d_model"],
    ) -> Attribution:
        """Credit each position of each example.

        Args:
            score: the scalar that is explained, one a row.
            inputs: merged input embeddings.
            baseline: the embeddings that attribution starts from. A position where it equals the
                input is *held*: it gets a credit of exactly zero.

        Returns:
            Scores of shape `[batch, seq]` in the units of the score (nats, for a log-probability),
            positive where a position raises it; the completeness gap (NaN where the method promises
            none); the number of passes spent. All in float32 or finer, without gradient. What is
            found for an example does not depend on the others in its batch, nor on the budget.

        Raises:
            GrainsError: if a score or a gradient is not finite; the example and step are named.
        """


ATTRIBUTORS: Registry[Attributor] = Registry("attributor", Attributor)
