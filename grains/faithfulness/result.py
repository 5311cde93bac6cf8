"""What deletion and insertion found on pairs, and how sure it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grains.blanks import ImageFill
from grains.errors import GrainsError
from grains.faithfulness.curves import Curves
from grains.metrics import Interval, paired_bootstrap
from grains.models import Fill
from grains.types import Reduction, Scope, checked_choice

Modality = Literal["both", "text", "image"]
"""Which positions are ranked and filled: words, the picture's tokens, or both together."""


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What is credited, and how it is taken away.

    Args:
        scope: the prompt under the contrast, or each whole sequence under its own likelihood.
        baseline: where attribution starts at words, and what a filled word becomes.
        image_baseline: the same at a picture's tokens.
        reduction: how token log-probabilities become the score.
        modality: which positions are ranked and filled; the others stay as they are.
        steps: of the curves, from the full input to the blank one.
        draws: random rankings that each pair is compared with, beside their reverses.
        least_change: pairs whose score changes by less nats between full and blank input have no
            share to speak of; they are left out of all that is normalised, and counted.
        seed: of the random rankings and of the bootstrap.
        token_budget: how many positions one pass may hold, over all its rows.

    Raises:
        GrainsError: for a choice that there is not, or a number out of range.
    """

    scope: Scope = "prompt"
    baseline: Fill = "mean"
    image_baseline: ImageFill = "mean"
    reduction: Reduction = "mean"
    modality: Modality = "both"
    steps: int = 10
    draws: int = 4
    least_change: float = 0.1
    seed: int = 0
    token_budget: int = 2048

    def __post_init__(self) -> None:
        """Refuse settings that measure nothing."""
        for name, choices in (
            ("scope", Scope),
            ("baseline", Fill),
            ("image_baseline", ImageFill),
            ("reduction", Reduction),
            ("modality", Modality),
        ):
            checked_choice(getattr(self, name), choices, name)
        for name in ("steps", "draws", "token_budget"):
            if getattr(self, name) < 1:
                raise GrainsError(f"{name} is {getattr(self, name)}; wanted 1 or more")
        if not self.least_change > 0:
            raise GrainsError(f"least_change is {self.least_change}; wanted more than 0 nats")


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """Curves of several attributors on the same pairs.

    Args:
        settings: how they were made.
        pairs: the pairs' names.
        curves: attributor to its curves in nats, `[pairs, sides, points]`; one side under the
            contrast, chosen and rejected otherwise.
        random: the same of random rankings, averaged.
        gaps: attributor to the completeness gap of each pair and side.
        passes: attributor to the passes that it spent on a pair.
    """

    settings: Perturbation
    pairs: tuple[str, ...]
    curves: Mapping[str, Curves]
    random: Curves
    gaps: Mapping[str, Float[Tensor, "pairs sides"]]
    passes: Mapping[str, float]

    @property
    def kept(self) -> Bool[Tensor, "pairs sides"]:
        """Whether the score changes enough between full and blank input to be a unit."""
        return self.random.change.abs() >= self.settings.least_change

    @property
    def left_out(self) -> int:
        """How many pairs have no side that is kept."""
        return int((~self.kept.any(1)).sum())

    def mean(self, curves: Curves) -> Curves:
        """Return the mean over pairs of normalised curves, such as `random`, `[points]`.

        Raises:
            GrainsError: if fewer than two pairs are kept.
        """
        return Curves(*(self._by_pair(curve).mean(0) for curve in curves.normalised()))

    def advantages(self, name: str, *, nats: bool = False) -> dict[str, Interval]:
        """Return by how much an attributor's areas are better, with intervals over pairs.

        `deletion` and `insertion` are against random rankings; `reversed` is against the same
        ranking reversed, which is the same number for both.

        Args:
            name: of the attributor.
            nats: all pairs, in nats, instead of the pairs that are kept, normalised.

        Raises:
            GrainsError: if fewer than two pairs are kept.
        """
        own, random = (
            [self._by_pair(area, all_pairs=nats) for area in _scaled(curves, nats).areas]
            for curves in (self.curves[name], self.random)
        )
        sides = {
            "deletion": (own[0], random[0]),
            "insertion": (random[1], own[1]),
            "reversed": (own[0], own[1]),
        }
        return {
            name: paired_bootstrap(worse, better, seed=self.settings.seed)
            for name, (worse, better) in sides.items()
        }

    def record(self) -> dict[str, Any]:
        """Return everything that a reader may want to draw or compare, ready for `card.plain`."""
        return {
            "settings": dataclasses.asdict(self.settings),
            "pairs": self.pairs,
            "left_out": self.left_out,
            "change": self.random.change,
            "random": self._curves(self.random),
            "attributors": [
                {
                    "name": name,
                    "passes": self.passes[name],
                    "gap": self.gaps[name],
                    **self._curves(curves),
                    "advantage": _plain(self.advantages(name)),
                    "advantage_nats": _plain(self.advantages(name, nats=True)),
                }
                for name, curves in self.curves.items()
            ],
        }

    def _curves(self, curves: Curves) -> dict[str, Any]:
        mean, raw = self.mean(curves), _scaled(curves, nats=True)
        return {
            "areas": dict(zip(Curves._fields, mean.areas, strict=True)),
            "mean": mean._asdict(),
            "areas_nats": dict(zip(Curves._fields, raw.areas, strict=True)),
        }

    def _by_pair(self, values: Tensor, *, all_pairs: bool = False) -> Tensor:
        """Average the sides that are kept, and leave out pairs without any."""
        kept = torch.ones_like(self.kept) if all_pairs else self.kept
        if int(kept.any(1).sum()) < 2:
            raise GrainsError(
                f"{self.left_out} of {len(self.pairs)} pairs change by less than "
                f"{self.settings.least_change:g} nats between full and blank input; wanted at "
                "least 2 that change more, or a smaller least change"
            )
        weight = kept.view(*kept.shape, *[1] * (values.dim() - 2))
        total = torch.where(weight, values, 0.0).sum(1)
        return (total / weight.sum(1).clamp(min=1))[kept.any(1)]


def _scaled(curves: Curves, nats: bool) -> Curves:
    return curves.oriented() if nats else curves.normalised()


def _plain(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval._asdict() for name, interval in intervals.items()}
