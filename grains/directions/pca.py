"""The first principal axis of each side, uncentred and oriented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.directions.base import DIRECTION_FINDERS, DirectionFinder, as_given, paired, unit


@final
@DIRECTION_FINDERS.register("pca")
@dataclass(frozen=True, kw_only=True)
class PCA(DirectionFinder):
    """Subtracts the first axis of the away rows from that of the toward rows.

    The axes are *uncentred*, since centring removes the very shift that is looked for; oriented so
    that the rows' mean projection is positive; and weighted by that mean projection, so that a side
    without a common direction does not add a random one.

    Source: GrAInS (arXiv 2507.18043), whose public code centres, does not orient, and weighs both
    sides alike.
    """

    def find(
        self, toward: Float[Tensor, "pairs d_model"], away: Float[Tensor, "pairs d_model"]
    ) -> Float[Tensor, " d_model"]:
        """Return the direction; see `DirectionFinder.find`."""
        sides = paired(toward, away)
        return as_given(unit(shift_of(sides[0]) - shift_of(sides[1]), sides), toward)


def shift_of(rows: Float[Tensor, "pairs d_model"]) -> Float[Tensor, " d_model"]:
    """Return the rows' first uncentred axis, oriented, as long as their mean projection on it."""
    # The oriented axis times its mean projection is `(mean . axis) axis`, whatever the axis' sign.
    # The axis comes from the smaller of the two Gram matrices: pairs are often far fewer.
    few = rows.shape[0] < rows.shape[1]
    gram = rows @ rows.T if few else rows.T @ rows
    top = torch.linalg.eigh(gram).eigenvectors[:, -1]
    axis = rows.T @ top if few else top
    energy = axis @ axis
    return axis * (rows.mean(dim=0) @ axis / energy) if energy > 0 else torch.zeros_like(axis)
