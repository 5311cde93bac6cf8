"""Nodes and weights of an integral over [0, 1], refined without throwing earlier nodes away."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Nodes = tuple[Float[Tensor, " nodes"], Float[Tensor, " nodes"]]
"""Places in [0, 1] and their weights, which add up to 1."""


class Rule(NamedTuple):
    """One way to place nodes.

    Args:
        nodes: makes nodes and weights for a number of steps, in float64.
        factor: how many times as many steps a refinement takes.
        reused: which nodes of a refinement the coarser rule has already visited; None where the
            two share none.
    """

    nodes: Callable[[int], Nodes]
    factor: int
    reused: slice | None

    def refined(self, steps: int) -> tuple[Nodes, float]:
        """Return the nodes that `steps` adds to `steps // factor`, and what the old sum counts.

        A nested rule weighs a node in the finer rule by `1 / factor` of its old weight, so the
        weighted sum itself is all that needs to be kept.
        """
        nodes, weights = self.nodes(steps)
        if self.reused is None:
            return (nodes, weights), 0.0
        fresh = torch.ones(len(nodes), dtype=torch.bool)
        fresh[self.reused] = False
        return (nodes[fresh], weights[fresh]), 1 / self.factor


def _even(steps: int, first: float) -> Nodes:
    nodes = (torch.arange(steps, dtype=torch.float64) + first) / steps
    return nodes, torch.full_like(nodes, 1 / steps)


def _trapezoid(steps: int) -> Nodes:
    nodes = torch.arange(steps + 1, dtype=torch.float64) / steps
    weights = torch.full_like(nodes, 1 / steps)
    weights[[0, -1]] /= 2
    return nodes, weights


def _gauss_legendre(steps: int) -> Nodes:
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


RULES: dict[str, Rule] = {
    "midpoint": Rule(lambda steps: _even(steps, 0.5), factor=3, reused=slice(1, None, 3)),
    "gauss_legendre": Rule(_gauss_legendre, factor=2, reused=None),
    "trapezoid": Rule(_trapezoid, factor=2, reused=slice(0, None, 2)),
    "riemann": Rule(lambda steps: _even(steps, 1.0), factor=2, reused=slice(1, None, 2)),
}
