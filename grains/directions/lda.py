"""Linear discriminant analysis with a shrunk covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from grains.directions.base import DIRECTION_FINDERS, DirectionFinder, as_given, paired, unit
from grains.errors import GrainsError

_LEAST = 1e-3  # Ledoit-Wolf may say 0, and fewer pairs than `d_model` would then be singular


@final
@DIRECTION_FINDERS.register("lda")
@dataclass(frozen=True, kw_only=True)
class LDA(DirectionFinder):
    """Divides the mean difference by the covariance within the two sides, shrunk to a sphere.

    So coordinates that vary anyway count less. The system is solved in the space of the rows, which
    costs nothing for a wide model with few pairs.

    Source: Fisher, 1936; shrinkage by Ledoit, Wolf, J. Multivariate Analysis 88, 2004.

    Args:
        shrinkage: share of the sphere in the covariance, more than 0 and at most 1 (the mean
            difference); None estimates it from the rows.
    """

    shrinkage: float | None = None

    def __post_init__(self) -> None:
        """Refuse a share under which the covariance is singular or none."""
        if self.shrinkage is not None and not 0 < self.shrinkage <= 1:
            raise GrainsError(
                f"shrinkage is {self.shrinkage}; wanted more than 0 and at most 1, or None"
            )

    def find(
        self, toward: Float[Tensor, "pairs d_model"], away: Float[Tensor, "pairs d_model"]
    ) -> Float[Tensor, " d_model"]:
        """Return the direction; see `DirectionFinder.find`."""
        sides = paired(toward, away)
        difference = unit(sides[0].mean(dim=0) - sides[1].mean(dim=0), sides)
        within = torch.cat([side - side.mean(dim=0) for side in sides])
        variance = within.square().mean()
        if variance == 0:  # one pair, or sides without any spread: the difference is all there is
            return as_given(difference, toward)
        within = within / variance.sqrt()
        share = self.shrinkage
        if share is None:
            estimate = ledoit_wolf_shrinkage(within.numpy(), assume_centered=True)
            share = min(max(float(estimate), _LEAST), 1.0)
        # (share I + (1 - share) W'W / n)^-1 by Woodbury's identity, up to a positive factor.
        scaled = within * ((1 - share) / (share * len(within))) ** 0.5
        inner = torch.eye(len(scaled), dtype=scaled.dtype) + scaled @ scaled.T
        normal = difference - scaled.T @ torch.linalg.solve(inner, scaled @ difference)
        return as_given(normal / normal.norm(), toward)
