"""Where the hidden state should move: one unit vector from many pairs of rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from grains.errors import GrainsError
from grains.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What speaks for a direction.

    Args:
        explained: share of the paired differences' uncentred energy that lies along the direction,
            from 0 to 1. An isotropic random direction explains `1 / d_model`.
        split_half: cosine between the directions of two halves of the pairs, from -1 to 1.
        to_mean_difference: cosine to the plain mean difference.
        stable: whether the sign holds: in every split that was tried the cosine is positive, and
            larger than chance gives two random directions, `1 / sqrt(d_model)`.
    """

    explained: float
    split_half: float
    to_mean_difference: float
    stable: bool


@dataclass(frozen=True, kw_only=True)
class DirectionFinder(ABC):
    """Finds the one direction that leads from the `away` rows to the `toward` rows."""

    @abstractmethod
    def find(
        self, toward: Float[Tensor, "pairs d_model"], away: Float[Tensor, "pairs d_model"]
    ) -> Float[Tensor, " d_model"]:
        """Return the unit vector that points from `away` to `toward`.

        Args:
            toward: one row a pair, where the hidden state should go. The source of rows decides
                what they are: deltas of masked inputs, activations of answers, gradients.
            away: one row a pair, where it should not go. Row `i` of both belongs to pair `i`.

        Raises:
            GrainsError: if the rows hold no direction (all zero, or both sides equal) or are not
                finite.
        """

    def certify(
        self,
        toward: Float[Tensor, "pairs d_model"],
        away: Float[Tensor, "pairs d_model"],
        direction: Float[Tensor, " d_model"],
        *,
        splits: int = 4,
        seed: int = 0,
    ) -> Certificate:
        """Say how far a direction is to be trusted.

        Args:
            toward: the rows that the direction was found from.
            away: likewise.
            direction: what `find` returned for them.
            splits: how many random halvings are tried; the reported cosine is their mean.
            seed: of the halvings.

        A half in which nothing is found counts as a cosine of 0, so one pair certifies nothing.
        """
        plus, minus = paired(toward, away)
        found = direction.detach().cpu().double()
        differences = plus - minus
        energy = differences.square().sum()
        # Two random directions of this width are about this far apart: less is no agreement.
        chance = found.numel() ** -0.5
        generator = torch.Generator().manual_seed(seed)
        cosines = []
        for _ in range(splits):
            order = torch.randperm(len(plus), generator=generator)
            halves = order.tensor_split(2)
            one, other = (self._found(plus[half], minus[half]) for half in halves)
            cosines.append(float(one @ other))
        return Certificate(
            explained=float((differences @ found).square().sum() / energy) if energy > 0 else 0.0,
            split_half=sum(cosines) / len(cosines),
            to_mean_difference=float(normalize(differences.mean(dim=0), dim=0) @ found),
            stable=min(cosines) > chance,
        )

    def _found(self, toward: Tensor, away: Tensor) -> Tensor:
        try:
            return self.find(toward, away).double()
        except GrainsError:
            return toward.new_zeros(toward.shape[1])


def paired(
    toward: Float[Tensor, "pairs d_model"], away: Float[Tensor, "pairs d_model"]
) -> tuple[Float[Tensor, "pairs d_model"], Float[Tensor, "pairs d_model"]]:
    """Return both sides in float64 on the CPU, where a small contrast survives a large mean.

    Raises:
        GrainsError: if there are no rows, if the sides do not match, or if a row is not finite.
    """
    if toward.shape != away.shape or toward.dim() != 2 or not len(toward):
        raise GrainsError(
            f"toward is {list(toward.shape)} and away is {list(away.shape)}; "
            "wanted both [pairs, d_model] with one pair or more"
        )
    sides = toward.detach().cpu().double(), away.detach().cpu().double()
    for name, rows in zip(("toward", "away"), sides, strict=True):
        finite = rows.isfinite().all(dim=1)
        if not finite.all():
            pair = int(finite.logical_not().nonzero()[0])
            raise GrainsError(f"the {name} row of pair {pair} is not finite; wanted numbers")
    return sides


def unit(
    vector: Float[Tensor, " d_model"],
    rows: tuple[Float[Tensor, "pairs d_model"], Float[Tensor, "pairs d_model"]],
) -> Float[Tensor, " d_model"]:
    """Return the vector with length 1.

    Args:
        vector: made from the rows, in their units.
        rows: the two sides; they set the size below which the vector is rounding.

    Raises:
        GrainsError: if the vector is zero.
    """
    size = max(float(side.norm(dim=1).max()) for side in rows)
    length = float(vector.norm())
    if length <= 1e-12 * size:
        what = "all rows are zero" if size == 0 else "both sides are the same"
        raise GrainsError(
            f"{len(rows[0])} pairs hold no direction: {what}; wanted toward rows that differ "
            "from the away rows"
        )
    return vector / length


def as_given(
    direction: Float[Tensor, " d_model"], toward: Float[Tensor, "pairs d_model"]
) -> Float[Tensor, " d_model"]:
    """Return the direction on the device of the rows, in their dtype or in float32 if finer."""
    return direction.to(toward.device, torch.promote_types(toward.dtype, torch.float32))


DIRECTION_FINDERS: Registry[DirectionFinder] = Registry("direction_finder", DirectionFinder)
