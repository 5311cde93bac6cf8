"""Integrated gradients: the gradient, averaged over the straight path from the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.attributors.base import ATTRIBUTORS, Attributor
from grains.attributors.passes import Place, grid, moved, precise, slopes, values
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
    or until `max_steps` are spent; the others are left alone. The score itself, which every pass
    gives besides its gradient, tells between which nodes the rule is wrong: new nodes halve those
    stretches, and all earlier passes count on. `gauss_legendre` shares no node with its double and
    starts anew with that. A small gap ends it; no second agreement is asked for, though on a
    singular path a small gap can be luck, which the credits of two different `steps` then show.

    Source: Sundararajan, Taly, Yan, ICML 2017 (arXiv 1703.01365). `gap` is always given; `steps` of
    the result counts gradient passes, beside two forward passes an example for the gap.

    Args:
        rule: where on the path gradients are taken. `riemann` is the right-hand sum.
        steps: nodes of the first try (for `trapezoid`, intervals: it has one node more).
        tolerance: the completeness gap that is good enough; None takes `steps` and no more. In half
            precision rounding alone makes gaps of some percent, so no less than 5 % is asked of it.
        max_steps: the most gradient passes that are spent on an example.
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
        # An example of which nothing moves has no credit to give, and takes no pass.
        moving = moved(inputs, baseline).any(dim=1).nonzero()[:, 0]
        dtype = precise(inputs.dtype)
        start, end = baseline.detach().to(dtype), inputs.detach().to(dtype)
        delta = end - start
        per_pass = self.rows_per_pass(inputs.shape[1])

        def along(nodes: Tensor) -> Place:
            def place(rows: Tensor, at: Tensor) -> Tensor:
                # `lerp` is exact at both ends, and leaves held positions as they are.
                return torch.lerp(start[rows], end[rows], nodes[at, None, None]).to(inputs.dtype)

            return place

        make, first_nodes = RULES[self.rule]
        ends = values(score, along(delta.new_tensor([0, 1])), *grid(moving, 2), per_pass=per_pass)
        paths = {
            example: make(before, after, inputs.shape[1])
            for example, (before, after) in zip(
                moving.tolist(), ends.double().view(-1, 2).tolist(), strict=True
            )
        }
        tolerance = self._tolerance(inputs.dtype)
        spent = torch.zeros(len(delta), dtype=torch.long, device=delta.device)
        todo = {example: first_nodes(self.steps) for example in paths}
        while todo:
            nodes = torch.cat(list(todo.values()))
            counts = [len(some) for some in todo.values()]
            rows = torch.tensor(list(todo)).repeat_interleave(torch.tensor(counts))
            found, shares = slopes(
                score,
                along(nodes.to(delta)),
                delta,
                rows.to(delta.device),
                torch.arange(len(rows), device=delta.device),
                per_pass=per_pass,
            )
            known = zip(
                list(todo),
                nodes.split(counts),
                found.cpu().split(counts),
                shares.cpu().split(counts),
                strict=True,
            )
            for example, *part in known:
                path = paths[example]
                path.add(*part)
                spent[example] += len(part[0])
                room = self.max_steps - int(spent[example])
                todo[example] = path.nodes[:0]
                if tolerance is not None and room > 0 and path.gap > tolerance:
                    todo[example] = path.refinement(tolerance, room)
            todo = {example: nodes for example, nodes in todo.items() if len(nodes)}

        scores = torch.zeros_like(delta[..., 0])
        gap = torch.zeros_like(scores[:, 0])
        for example, path in paths.items():
            scores[example], gap[example] = path.credit().to(scores), path.gap
        return Attribution(scores, gap, spent)

    def _tolerance(self, dtype: torch.dtype) -> float | None:
        if self.tolerance is not None and dtype in (torch.float16, torch.bfloat16):
            return max(self.tolerance, HALF_PRECISION_GAP)
        return self.tolerance
