"""How a score falls as credited positions are filled, and comes back as they are put back.

Tensors and a function of them, no model. Sources: deletion and insertion after Samek et al., 2017
(arXiv 1509.06321) and Petsiuk, Das, Saenko, BMVC 2018 (arXiv 1806.07421), both of pictures.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grains.attributors.passes import values
from grains.attributors.seeding import generator
from grains.errors import GrainsError
from grains.types import ScoreFn


class Curves(NamedTuple):
    """A score along evenly spaced shares, 0 to 1, of the positions that may be filled.

    `deletion` starts at the full input and fills the most credited first; `insertion` starts at the
    blank one and puts the most credited back first. Leading axes are rankings, pairs, ...
    """

    deletion: Float[Tensor, "*rows points"]
    insertion: Float[Tensor, "*rows points"]

    @property
    def change(self) -> Float[Tensor, "*rows"]:
        """The score of the full input less that of the blank one."""
        return self.deletion[..., 0] - self.deletion[..., -1]

    @property
    def areas(self) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"]]:
        """The areas under the two curves, by trapezoids: the mean score along the way."""
        step = 1 / (self.deletion.shape[-1] - 1)
        deletion, insertion = (torch.trapezoid(curve, dx=step) for curve in self)
        return deletion, insertion

    def reversed(self) -> Curves:
        """Return the curves of the reversed ranking, which take no pass of their own.

        Filling the least credited first is putting back the most credited first, seen from the end.
        """
        return Curves(self.insertion.flip(-1), self.deletion.flip(-1))

    def oriented(self) -> Curves:
        """Return the curves above the blank input, those that fall from blank to full turned round.

        Where the input as a whole lowers the score, what it explains is the opposite score, and the
        ranking by the opposite credit is the reversed one.
        """
        turned, falls = self.reversed(), (self.change < 0)[..., None]
        curves = [torch.where(falls, -b, a) for a, b in zip(self, turned, strict=True)]
        blank = curves[0][..., -1:]
        return Curves(*(curve - blank for curve in curves))

    def normalised(self) -> Curves:
        """Return the oriented curves in units of their change: full input 1, blank input 0.

        Where nothing changes, they are not finite.
        """
        oriented = self.oriented()
        change = oriented.change[..., None]
        return Curves(*(curve / change for curve in oriented))


def perturbed(
    score: ScoreFn,
    inputs: Float[Tensor, "batch seq d_model"],
    blank: Float[Tensor, "batch seq d_model"],
    scores: Float[Tensor, "rankings batch seq"],
    allowed: Bool[Tensor, "batch seq"],
    *,
    steps: int = 10,
    token_budget: int = 2048,
) -> Curves:
    """Fill positions, most credited first, and put them back, most credited first.

    All variants of all examples and rankings share the passes, and equal ones are scored once. An
    example of fewer positions than steps takes one at a time, and is interpolated in between.

    Args:
        score: the scalar that was credited, one a row.
        inputs: merged input embeddings.
        blank: the embeddings that filled positions get.
        scores: credits, whose order alone matters; of equal ones the earlier position goes first.
        allowed: the positions that may be filled; the others are left as they are.
        steps: how many equal steps lead from the full input to the blank one.
        token_budget: how many positions one pass may hold, over all its rows.

    Returns:
        Curves of shape `[rankings, batch, steps + 1]`, in the units of the score.

    Raises:
        GrainsError: if there are no steps, an example has no position that may be filled, or a
            credit or a score is not finite.
    """
    if steps < 1:
        raise GrainsError(f"steps is {steps}; wanted 1 or more")
    count = allowed.sum(-1)
    if not count.all():
        example = int((count == 0).nonzero()[0])
        raise GrainsError(f"example {example} has no position that may be filled; wanted some")
    if not scores.isfinite()[:, allowed].all():
        raise GrainsError("a credit is not finite; wanted numbers to rank positions by")
    credit = torch.where(allowed, scores, -torch.inf)
    rank = credit.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    shares = torch.linspace(0, 1, steps + 1, dtype=torch.float64, device=inputs.device)
    counts = (count[:, None] * shares + 0.5).floor()
    first = rank[..., None, :] < counts[..., None]
    filled = torch.stack([first, allowed[:, None] & ~first])
    examples = torch.arange(len(inputs), device=inputs.device)[:, None, None]
    keys = torch.cat([examples.expand(*filled.shape[:-1], 1), filled.long()], -1)
    variants, where = keys.flatten(0, -2).unique(dim=0, return_inverse=True)
    gone, blank = variants[:, 1:].bool(), blank.detach().to(inputs)

    def place(rows: Tensor, at: Tensor) -> Tensor:
        return torch.where(gone[at, :, None], blank[rows], inputs.detach()[rows])

    per_pass = max(1, token_budget // inputs.shape[1])
    each = torch.arange(len(variants), device=inputs.device)
    found = values(score, place, variants[:, 0], each, per_pass=per_pass)
    scored = found.double()[where].view(filled.shape[:-1])
    return Curves(*_between(scored, counts / count[:, None], shares))


def random_rankings(
    inputs: Float[Tensor, "batch seq d_model"],
    allowed: Bool[Tensor, "batch seq"],
    draws: int,
    seed: int,
) -> Float[Tensor, "draws batch seq"]:
    """Return credits that know nothing of any score, the same for an example in any batch."""
    credits = torch.zeros(draws, *allowed.shape, dtype=torch.float64, device=inputs.device)
    for row, (example, free) in enumerate(zip(inputs.detach(), allowed, strict=True)):
        content = example[free].cpu().double().numpy().tobytes()
        stream = generator(seed, b"ranking" + content)
        drawn = torch.rand(draws, int(free.sum()), dtype=torch.float64, generator=stream)
        credits[:, row, free] = drawn.to(credits.device)
    return credits


def averaged(curves: Curves) -> Curves:
    """Return the mean over rankings, the first axis, and over the reversed ones.

    The reversed ones cost nothing; with them, both curves of random rankings have the same area.
    """
    deletion = (curves.deletion + curves.reversed().deletion).mean(0) / 2
    return Curves(deletion, deletion.flip(-1))


def _between(
    scored: Float[Tensor, "*rows batch points"],
    measured: Float[Tensor, "batch points"],
    shares: Float[Tensor, " points"],
) -> Float[Tensor, "*rows batch points"]:
    """Interpolate from the shares that whole positions make to the even ones."""
    wanted = shares.expand_as(measured).contiguous()
    upper = torch.searchsorted(measured.contiguous(), wanted).clamp(1, len(shares) - 1)
    low, high = measured.gather(1, upper - 1), measured.gather(1, upper)
    weight = torch.where(high > low, (wanted - low) / (high - low), 0.0)
    below, above = (scored.gather(-1, at.expand_as(scored)) for at in (upper - 1, upper))
    return torch.lerp(below, above, weight.expand_as(below))
