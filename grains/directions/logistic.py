"""The normal of a logistic-regression probe."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from grains.directions.base import DIRECTION_FINDERS, DirectionFinder, as_given, paired, unit
from grains.errors import GrainsError


@final
@DIRECTION_FINDERS.register("logistic")
@dataclass(frozen=True, kw_only=True)
class Logistic(DirectionFinder):
    """Takes the normal of the plane with which a logistic probe tells toward from away rows.

    Rows are centred and divided by one number, their root mean square, so that `C` means the same
    for any model; coordinates keep their relative sizes, and the normal needs no mapping back.

    Args:
        C: inverse strength of the L2 penalty, as in scikit-learn. Towards 0 the normal becomes the
            mean difference.
        max_iter: iterations within which the probe must converge.
    """

    C: float = 1.0
    max_iter: int = 10_000

    def __post_init__(self) -> None:
        """Refuse settings under which no probe can be trained."""
        if not self.C > 0:
            raise GrainsError(f"C is {self.C}; wanted more than 0")
        if self.max_iter < 1:
            raise GrainsError(f"max_iter is {self.max_iter}; wanted 1 or more")

    def find(
        self, toward: Float[Tensor, "pairs d_model"], away: Float[Tensor, "pairs d_model"]
    ) -> Float[Tensor, " d_model"]:
        """Return the direction; see `DirectionFinder.find`.

        Raises:
            GrainsError: also if the probe does not converge within `max_iter`.
        """
        sides = paired(toward, away)
        # The loss falls from zero weights along the mean difference: without one they stay zero.
        unit(sides[0].mean(dim=0) - sides[1].mean(dim=0), sides)
        rows = torch.cat(sides)
        rows = rows - rows.mean(dim=0)
        rows = rows / rows.square().mean().sqrt()
        labels = torch.arange(2).flip(0).repeat_interleave(len(toward))
        probe = LogisticRegression(C=self.C, max_iter=self.max_iter, tol=1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                probe.fit(rows.numpy(), labels.numpy())
            except ConvergenceWarning as warning:
                raise GrainsError(
                    f"the logistic probe did not converge in {self.max_iter} iterations; "
                    "wanted a larger max_iter or a smaller C"
                ) from warning
        normal = torch.from_numpy(probe.coef_[0])
        return as_given(normal / normal.norm(), toward)
