"""An integral over [0, 1] whose value is known at every node, refined where it is wrong.

The score along the path is the integral of its own slope. So between any two nodes the integral of
the slope is known without error, and tells how far the rule is off there: new nodes go where it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Final, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SLACK = 2.0
"""Cells are split until the others' errors add up to this many times the tolerance: their signs
differ, so that their sum is several times smaller."""


class Path(ABC):
    """What has been found out about one example on the way from its baseline to its input.

    Args:
        first: the score at the baseline.
        last: the score at the input.
        seq: how many positions are credited.
    """

    def __init__(self, first: float, last: float, seq: int) -> None:
        self.ends = first, last
        self.nodes = torch.zeros(0, dtype=torch.float64)
        self.values = torch.zeros(0, dtype=torch.float64)
        self.slopes = torch.zeros(0, seq, dtype=torch.float64)

    @property
    def change(self) -> float:
        """The integral that the credits should add up to."""
        return self.ends[1] - self.ends[0]

    @property
    def gap(self) -> float:
        """The completeness gap: how far the credits' sum is off, as a share of the change."""
        missing = abs(float(self.credit().sum()) - self.change)
        # 0 / 0 is no gap: nothing was to be explained and nothing was credited.
        return missing and (missing / abs(self.change) if self.change else float("inf"))

    def add(
        self,
        nodes: Float[Tensor, " nodes"],
        values: Float[Tensor, " nodes"],
        slopes: Float[Tensor, "nodes seq"],
    ) -> None:
        """Take in the score, and each position's share of its slope, at further nodes."""
        order = torch.cat([self.nodes, nodes]).argsort()
        self.nodes = torch.cat([self.nodes, nodes])[order]
        self.values = torch.cat([self.values, values.double()])[order]
        self.slopes = torch.cat([self.slopes, slopes.double()])[order]

    def credit(self) -> Float[Tensor, " seq"]:
        """Return the integral of each position's share of the slope."""
        return self.weights() @ self.slopes

    @abstractmethod
    def weights(self) -> Float[Tensor, " nodes"]:
        """Return the weight of each node; they add up to 1."""

    @abstractmethod
    def refinement(self, tolerance: float, room: int) -> Float[Tensor, " more"]:
        """Return nodes to add, `room` at most; none where there is nothing to gain."""


@final
class Cells(Path):
    """A rule over the cells between neighbouring nodes, which are halved where the rule is wrong.

    Args:
        first: the score at the baseline.
        last: the score at the input.
        seq: how many positions are credited.
        left: share of a cell that its left node weighs, 1/2 or 0; the right node weighs the rest,
            and all of it where one of the two is an end without a node.
    """

    def __init__(self, first: float, last: float, seq: int, *, left: float) -> None:
        super().__init__(first, last, seq)
        self.left = left

    def weights(self) -> Float[Tensor, " nodes"]:
        """Return the weight of each node, from the cells on both its sides."""
        width = self._edges().diff()
        to_left, to_right = width * self.left, width * (1 - self.left)
        to_left[-1], to_right[-1] = width[-1], 0
        to_left[0], to_right[0] = 0, width[0]
        return to_left[1:] + to_right[:-1]

    def errors(self) -> Float[Tensor, " cells"]:
        """Return by how much the change of the score exceeds the rule's integral, cell by cell."""
        slope = self.slopes.sum(dim=1)
        slope = torch.cat([slope[:1], slope, slope[-1:]])
        ends = self.values.new_tensor(self.ends)
        change = torch.cat([ends[:1], self.values, ends[1:]]).diff()
        share = torch.full_like(change, self.left)
        mean = share * slope[:-1] + (1 - share) * slope[1:]
        return change - self._edges().diff() * mean

    def refinement(self, tolerance: float, room: int) -> Float[Tensor, " more"]:
        """Return the middles of the few cells that hold all but a small part of the errors."""
        error, order = self.errors().abs().sort(descending=True)
        kept = error.sum() - error.cumsum(0)
        count = 1 + int((kept > SLACK * tolerance * abs(self.change)).sum())
        count = max(count, len(order) // 8)  # where one cell is singular, not one pass a halving
        edges = self._edges()
        middles = (edges[:-1] + edges[1:]) / 2
        worst = order[: min(count, room)]
        return middles[worst[edges.diff()[worst] > 0]]

    def _edges(self) -> Float[Tensor, " edges"]:
        return torch.cat([self.nodes.new_zeros(1), self.nodes, self.nodes.new_ones(1)])


@final
class Gauss(Path):
    """Gauss-Legendre: exact for polynomials, but no node is shared with a finer rule."""

    def weights(self) -> Float[Tensor, " nodes"]:
        """Return the rule's own weights."""
        return _legendre(len(self.nodes))[1]

    def refinement(self, tolerance: float, room: int) -> Float[Tensor, " more"]:
        """Return twice as many nodes, and forget what is known at the present ones."""
        count = 2 * len(self.nodes)
        if count > room:
            return self.nodes[:0]
        self.nodes, self.values, self.slopes = self.nodes[:0], self.values[:0], self.slopes[:0]
        return gauss_legendre(count)


def gauss_legendre(count: int) -> Float[Tensor, " count"]:
    """Return the nodes of the Gauss-Legendre rule on [0, 1]."""
    return _legendre(count)[0]


def _legendre(count: int) -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


def _even(steps: int, first: float, *, count: int = 0) -> Float[Tensor, " nodes"]:
    return (torch.arange(steps + count, dtype=torch.float64) + first) / steps


RULES: Final[dict[str, tuple[Callable[..., Path], Callable[[int], Tensor]]]] = {
    "midpoint": (partial(Cells, left=0.5), partial(_even, first=0.5)),
    "gauss_legendre": (Gauss, gauss_legendre),
    "trapezoid": (partial(Cells, left=0.5), partial(_even, first=0.0, count=1)),
    "riemann": (partial(Cells, left=0.0), partial(_even, first=1.0)),
}
"""By name: what keeps an example's path, and the nodes of its first try."""
