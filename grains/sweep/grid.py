"""What is tried: from lists of components to arms, and from arms to cells."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from grains.arms import Arm, main_arms
from grains.artifact import SteeringVector
from grains.attributors import ATTRIBUTORS
from grains.card import plain
from grains.choice import Cell, parse_layer_sets, strengths
from grains.damage import Budget, DamageCurve
from grains.directions import DIRECTION_FINDERS
from grains.errors import GrainsError
from grains.fitting import Found, as_vector
from grains.injectors import INJECTORS, Injector
from grains.layers import show_layers
from grains.maskers import MASKERS
from grains.models import SteerableModel
from grains.registry import Registry
from grains.sources import SOURCES
from grains.types import Positions
from grains.vector_parts import checked_positions


class Way(NamedTuple):
    """An arm with how and where its vectors act; a cell is one with layers and a coefficient."""

    name: str
    arm: Arm
    injector: Injector
    positions: Positions

    def settings(self) -> dict[str, Any]:
        """Return every component with its settings, as JSON."""
        source = SOURCES.spec(self.arm.source)
        parts = {name: source.pop(name) for name in ("attributor", "masker") if name in source}
        return plain(
            {
                "source": source,
                **parts,
                "direction_finder": DIRECTION_FINDERS.spec(self.arm.finder),
                "injector": INJECTORS.spec(self.injector),
                "positions": self.positions,
            }
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepCell(Cell):
    """A cell of the grid with how far it came.

    Args:
        way: its components.
        pairs: how many validation pairs scored it; 0 if its damage was over the budget.
        round: the last round of halving that it took part in, from 1.
    """

    way: Way
    pairs: int = 0
    round: int = 0

    def row(self) -> dict[str, Any]:
        """Return the cell as JSON-able values, for the artifact's validation table."""
        return {**super().row(), "pairs": self.pairs, "round": self.round}


def listed(given: Any, name: str) -> list[Any]:
    """Return a list of what to try; what is no list is tried alone.

    Raises:
        GrainsError: if it is empty.
    """
    values = list(given) if isinstance(given, (list, tuple)) else [given]
    if not values:
        raise GrainsError(f"the list of {name} is empty; wanted one or more")
    return values


def ways_of(
    sources: Any,
    attributors: Any,
    maskers: Any,
    direction_finders: Any,
    injectors: Any,
    positions: Any,
    reduction: str,
) -> list[Way]:
    """Return every combination that makes sense; attributors and maskers go to sources with both.

    Raises:
        GrainsError: for an empty list, one that repeats itself, an unknown component, an attributor
            or masker that no source uses, and sources of two sites.
    """
    arms: list[Arm] = []
    used: set[str] = set()
    for source, finder in itertools.product(
        listed(sources, "sources"), listed(direction_finders, "direction_finders")
    ):
        built = SOURCES.build(source)
        fields = {field.name for field in dataclasses.fields(built)}
        used |= fields
        crediting = {
            name: [None] if given is None or name not in fields else listed(given, f"{name}s")
            for name, given in (("attributor", attributors), ("masker", maskers))
        }
        for attributor, masker in itertools.product(*crediting.values()):
            for arm in main_arms(source, attributor, masker, finder, reduction):
                arms.append(dataclasses.replace(arm, name=_label(arm)))
    for name, given in (("attributor", attributors), ("masker", maskers)):
        if given is not None and name not in used:
            raise GrainsError(
                f"{name}s are given, but no source uses them; wanted none, or source 'masked'"
            )
    if len(sites := {arm.source.site for arm in arms}) > 1:
        raise GrainsError(
            f"the sources are of {' and '.join(sorted(sites))} blocks; wanted one kind, which the "
            "layers count"
        )
    acting: list[tuple[Injector, Any]] = [
        (INJECTORS.build(injector), checked_positions(where, arms[0].source.site))
        for injector in listed(injectors, "injectors")
        for where in listed(positions, "positions")
    ]
    several = len(acting) > 1
    ways = [
        Way(f"{arm.name}/{label(INJECTORS, how)}@{where}" if several else arm.name, arm, how, where)
        for arm in arms
        for how, where in acting
    ]
    refuse_repeats([way.name for way in ways], "the grid")
    return ways


def layer_sets_of(given: Any, n_blocks: int, ways: Sequence[Way]) -> list[tuple[int, ...]]:
    """Return the sets of layers to try: each entry of the list is one.

    Raises:
        GrainsError: as `parse_layer_sets`, or for an empty list or a set that is repeated.
    """
    sets = [
        layers
        for entry in listed(given, "layers")
        for layers in parse_layer_sets(entry, n_blocks, ways[0].positions)
    ]
    for way, layers in itertools.product(ways, sets):
        parse_layer_sets(show_layers(layers), n_blocks, way.positions)
    refuse_repeats([show_layers(layers) for layers in sets], "the list of layers")
    return sets


def refuse_repeats(names: Sequence[str], what: str) -> None:
    """Refuse a list in which something stands twice.

    Raises:
        GrainsError: naming it.
    """
    for name in names:
        if names.count(name) > 1:
            raise GrainsError(f"{what} repeats {name!r}; wanted each once")


def cells_of(
    model: SteerableModel,
    way: Way,
    found: Found,
    layers: Sequence[int],
    curve_of: Callable[[SteeringVector], DamageCurve],
    coefficients: Sequence[float] | None,
    budget: Budget,
) -> list[SweepCell]:
    """Return one cell a coefficient, with its damage, not yet scored."""
    vector = as_vector(model, found, layers, way.injector, way.positions, way.arm.source.site)
    return [
        SweepCell(
            name=way.name,
            vector=dataclasses.replace(vector, coefficient=value),
            damage=damage,
            way=way,
        )
        for value, damage in strengths(curve_of(vector), coefficients, budget)
    ]


def label(registry: Registry[Any], component: Any, *, without: Sequence[str] = ()) -> str:
    """Return a component's name, with k and those of its settings that are not the default ones."""
    changed = []
    for field in dataclasses.fields(component):
        value, default = getattr(component, field.name), field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if field.name not in without and (field.name == "k" or value != default):
            changed.append(f"{field.name}={value}")
    return registry.name_of(component) + (f"({','.join(changed)})" if changed else "")


def _label(arm: Arm) -> str:
    apart = ("attributor", "masker")
    parts = [label(SOURCES, arm.source, without=apart)]
    for registry, name in zip((ATTRIBUTORS, MASKERS), apart, strict=True):
        if (component := getattr(arm.source, name, None)) is not None:
            parts.append(label(registry, component))
    return "/".join([*parts, label(DIRECTION_FINDERS, arm.finder)])
