"""Integrated gradients: the gradient, averaged over the straight path from the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.attributors.base import ATTRIBUTORS, Attributor
from grains.attributors.passes import Place, credit, grid, moved, precise, values
from grains.attributors.quadrature import RULES
from grains.errors import GrainsError, did_you_mean
from grains.types import Attribution, ScoreFn

HALF_PRECISION_GAP = 0.05


@final
@ATTRIBUTORS.register("integrated_gradients")
@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(Attributor):
    """Averages the gradient over the path from baseline to input; the credits add up to the score.

    Adaptive: an example whose completeness gap exceeds `tolerance` is refined until it does not,
    or until the next refinement would exceed `max_steps`; the others are left alone. `midpoint`
    triples its steps, `trapezoid` and `riemann` double them, and all earlier passes count on;
    `gauss_legendre` shares no node with its double and starts anew with that. A small gap ends it;
    no second agreement is asked for, though on a singular path a small gap can be luck, which the
    credits of two different `steps` then show.

    Source: Sundararajan, Taly, Yan, ICML 2017 (arXiv 1703.01365). `gap` is always given; `steps` of
    the result counts gradient passes, beside two forward passes an example for the gap.

    Args:
        rule: where on the path gradients are taken. `riemann` is the right-hand sum.
        steps: nodes of the first try (for `trapezoid`, intervals: it has one node more).
        tolerance: the completeness gap that is good enough; None takes `steps` and no more. In half
            precision rounding alone makes gaps of some percent, so no less than 5 % is asked of it.
        max_steps: the most steps an example may be refined to.
        token_budget: how many positions one pass may hold, over all its rows.
    """

    rule: Literal["midpoint", "gauss_legendre", "trapezoid", "riemann"] = "midpoint"
    steps: int = 16
    tolerance: float | None = 0.01
    max_steps: int = 432

    def __post_init__(self) -> None:
        """Refuse settings under which nothing is integrated."""
        super().__post_init__()
        if self.rule not in RULES:
            raise GrainsError(f"rule is {self.rule!r}; {did_you_mean(str(self.rule), RULES)}")
        if self.steps < 1:
            raise GrainsError(f"steps is {self.steps}; wanted 1 or more")
        if self.tolerance is None:
            return
        if not self.tolerance > 0:
            raise GrainsError(
                f"tolerance is {self.tolerance}; wanted more than 0, or None for fixed steps"
            )
        if self.max_steps < self.steps:
            raise GrainsError(
                f"max_steps is {self.max_steps}; wanted at least steps, which is {self.steps}"
            )

    def attribute(
        self,
        score: ScoreFn,
        inputs: Float[Tensor, "batch seq d_model"],
        baseline: Float[Tensor, "batch seq d_model"],
    ) -> Attribution:
        """Credit each position; see `Attributor.attribute`."""
        rule, dtype, steps = RULES[self.rule], precise(inputs.dtype), self.steps
        # An example of which nothing moves has no credit to give, and takes no pass.
        todo = moved(inputs, baseline).any(dim=1).nonzero()[:, 0]
        start, end = baseline.detach().to(dtype), inputs.detach().to(dtype)
        delta = end - start
        per_pass = self.rows_per_pass(inputs.shape[1])

        def along(nodes: Tensor) -> Place:
            def place(rows: Tensor, at: Tensor) -> Tensor:
                # `lerp` is exact at both ends, and leaves held positions as they are.
                return torch.lerp(start[rows], end[rows], nodes[at, None, None]).to(inputs.dtype)

            return place

        scores = delta.new_zeros(delta.shape[:2])
        change, gap = delta.new_zeros(len(delta)), delta.new_zeros(len(delta))
        spent = torch.zeros(len(delta), dtype=torch.long, device=delta.device)
        ends = values(score, along(delta.new_tensor([0, 1])), *grid(todo, 2), per_pass=per_pass)
        change[todo] = ends.view(-1, 2).diff(dim=1)[:, 0].to(dtype)

        tolerance = self.tolerance
        if tolerance is not None and inputs.dtype in (torch.float16, torch.bfloat16):
            tolerance = max(tolerance, HALF_PRECISION_GAP)
        (nodes, weights), kept = rule.nodes(steps), 0.0
        while todo.numel():
            nodes, weights = nodes.to(delta), weights.to(delta)
            scores[todo] *= kept
            scores += credit(score, along(nodes), delta, todo, weights, per_pass=per_pass)
            spent[todo] += len(nodes)
            gap[todo] = _gap(scores[todo].sum(dim=1), change[todo])
            steps *= rule.factor
            if tolerance is None or steps > self.max_steps:
                break
            todo = todo[gap[todo] > tolerance]
            (nodes, weights), kept = rule.refined(steps)
        return Attribution(scores, gap, spent)


def _gap(total: Float[Tensor, " n"], change: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    # 0 / 0 is no gap: nothing was to be explained and nothing was credited.
    return ((total - change).abs() / change.abs()).nan_to_num(nan=0.0, posinf=torch.inf)
