"""Which layers, coefficient and masker: the grid that validation scores, and the choice from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from tqdm.auto import tqdm

from grains.artifact import SteeringVector
from grains.damage import Budget, Damage, DamageCurve, NeutralText
from grains.errors import GrainsError
from grains.layers import parse_layers, show_layers
from grains.types import Positions
from grains.vector_parts import refuse_unread

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
"""What `coefficient="auto"` tries: these shares of the largest coefficient within the budget."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One point of the grid, with what it did to the validation pairs and to neutral text.

    Args:
        name: of the arm, that is, of the masker where several are tried.
        vector: with the cell's layers and coefficient.
        damage: on neutral text.
        accuracy: of the steered model on the validation pairs; NaN until scored.
        margin: likewise.
        gain: the margin less the unsteered one.
    """

    name: str
    vector: SteeringVector
    damage: Damage
    accuracy: float = math.nan
    margin: float = math.nan
    gain: float = math.nan

    def scored(self, *, accuracy: float, margin: float, unsteered: float) -> Self:
        """Return the cell with its scores, given the unsteered margin."""
        return dataclasses.replace(self, accuracy=accuracy, margin=margin, gain=margin - unsteered)

    def with_vector(self, vector: SteeringVector) -> Self:
        """Return the cell with another vector of the same effect, such as one with a card."""
        return dataclasses.replace(self, vector=vector)

    def row(self) -> dict[str, Any]:
        """Return the cell as JSON-able values, for the artifact's validation table."""
        return {
            "arm": self.name,
            "layers": show_layers(self.vector.layers),
            "coefficient": self.vector.coefficient,
            **self.damage._asdict(),
            "accuracy": self.accuracy,
            "margin": self.margin,
            "gain": self.gain,
        }


AnyCell = TypeVar("AnyCell", bound=Cell)


def curve_of(vector: SteeringVector, text: NeutralText, *, sign: float = 1.0) -> DamageCurve:
    """Return the damage of a vector as a function of its coefficient times `sign`."""
    return DamageCurve(text, lambda size: vector.applied_to(text.model, sign * size))


def lay_out(
    candidates: Mapping[str, Sequence[SteeringVector]],
    coefficients: Sequence[float] | None,
    text: NeutralText,
    budget: Budget,
    *,
    quiet: bool = False,
) -> list[Cell]:
    """Return the grid's cells with their damage, not yet scored.

    Args:
        candidates: arm to one vector for each set of layers.
        coefficients: those to try with each, or None for shares of the largest within the budget.
        text: neutral text.
        budget: for the largest.
        quiet: without a progress bar.
    """
    tried = [(name, vector) for name, vectors in candidates.items() for vector in vectors]
    cells = []
    for name, vector in tqdm(tried, desc="Damage on neutral text", disable=quiet, leave=False):
        cells += [
            Cell(name=name, vector=dataclasses.replace(vector, coefficient=value), damage=damage)
            for value, damage in strengths(curve_of(vector, text), coefficients, budget)
        ]
    return cells


def strengths(
    curve: DamageCurve, coefficients: Sequence[float] | None, budget: Budget
) -> list[tuple[float, Damage]]:
    """Return the coefficients to try with one vector, and the damage of each.

    Args:
        curve: the vector's.
        coefficients: those to try, or None for shares of the largest within the budget.
        budget: for the largest.
    """
    if coefficients is None:
        largest = curve.solve(budget.spent)
        coefficients = [share * largest for share in FRACTIONS]
    return [(value, curve.at(value)) for value in coefficients]


def at_equal_damage(
    rival: SteeringVector,
    vector: SteeringVector,
    damage: Damage,
    curve: DamageCurve,
    *,
    blind: bool,
) -> tuple[SteeringVector, Damage]:
    """Return a vector at the strength where its KL is another's, and its damage there.

    Args:
        rival: the vector; only its strength changes.
        vector: the other one, which leads the same way: coefficients get its sign.
        damage: of the other one.
        curve: the rival's, over coefficients times that sign.
        blind: whether damage stays unseen: the strength of both is the same, then.
    """
    equal = 0.0
    if blind:
        equal = abs(vector.coefficient)
    elif damage.kl > 0:
        equal = curve.solve(lambda of_rival: of_rival.kl / damage.kl)
    coefficient = math.copysign(equal, vector.coefficient)
    return dataclasses.replace(rival, coefficient=coefficient), curve.at(equal)


def choose(cells: Sequence[AnyCell], budget: Budget, *, force: bool = False) -> AnyCell:
    """Return the cell with the largest gain among those within the budget.

    With `force`, cells over the budget may be chosen too.

    Raises:
        GrainsError: if all cells are over the budget: nothing may then be chosen silently.
    """
    allowed = [cell for cell in cells if force or budget.spent(cell.damage) <= 1]
    if not allowed:
        least = min(cells, key=lambda cell: budget.spent(cell.damage))
        raise GrainsError(
            f"coefficient {least.vector.coefficient:g} does damage over the budget: KL "
            f"{least.damage.kl:.2g} of {budget.max_kl:g} nats, perplexity ratio "
            f"{least.damage.perplexity_ratio:.3f} of {budget.max_perplexity_ratio:g}; wanted a "
            "smaller coefficient, 'auto', a larger budget, or force"
        )
    return max(allowed, key=lambda cell: -math.inf if math.isnan(cell.gain) else cell.gain)


def parse_coefficients(given: Any, *, blind: bool) -> list[float] | None:
    """Return the coefficients to try, or None for `"auto"`.

    Args:
        given: what a user says.
        blind: whether the damage of any coefficient stays unseen.

    Raises:
        GrainsError: for anything but numbers, a list of them, or `"auto"`; and for `"auto"` where
            damage stays unseen.
    """
    if given == "auto":
        if blind:
            raise GrainsError(
                "coefficient is 'auto', and steering pictures does no damage on neutral text, "
                "which holds none; wanted a number, a list to choose from, or neutral=DATASET with "
                "pictures"
            )
        return None
    values = given if isinstance(given, list) else [given]
    for value in values:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise GrainsError(f"coefficient is {value!r}; wanted a finite number or 'auto'")
    if not values:
        raise GrainsError("the list of coefficients is empty; wanted one or more, or 'auto'")
    return [float(value) for value in values]


def parse_layer_sets(given: Any, n_blocks: int, positions: Positions) -> list[tuple[int, ...]]:
    """Return the sets of layers to try: a list of texts is several, anything else is one.

    Raises:
        GrainsError: as `parse_layers` does, and for a set that would change nothing.
    """
    several = isinstance(given, list) and given and all(isinstance(item, str) for item in given)
    sets = [parse_layers(item, n_blocks) for item in (given if several else [given])]
    for layers in sets:
        refuse_unread(layers, n_blocks, positions)
    return sets
