"""The first axis of the pairs' differences, uncentred and oriented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from grains.directions.base import DIRECTION_FINDERS, DirectionFinder, as_given, paired, unit
from grains.directions.pca import shift_of


@final
@DIRECTION_FINDERS.register("difference_pca")
@dataclass(frozen=True, kw_only=True)
class DifferencePCA(DirectionFinder):
    """Takes the first axis of the differences toward - away, along which each pair differs most.

    *Uncentred*, since centring removes the shift that all pairs share, and oriented so that the
    mean difference projects positively on it: the sign that RepE finds by the pairs' labels.

    Source: the reading vectors of representation engineering (LAT), Zou et al., 2023 (arXiv
    2310.01405), and in-context vectors, Liu et al., 2023 (arXiv 2311.06668). Both centre; RepE also
    swaps half of the pairs before it does, so that its centring removes nothing.
    """

    def find(
        self, toward: Float[Tensor, "pairs d_model"], away: Float[Tensor, "pairs d_model"]
    ) -> Float[Tensor, " d_model"]:
        """Return the direction; see `DirectionFinder.find`."""
        sides = paired(toward, away)
        return as_given(unit(shift_of(sides[0] - sides[1]), sides), toward)
