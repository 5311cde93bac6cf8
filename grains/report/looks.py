"""Colour and mark of each method: warm for ours, cool for rivals, grey for controls."""

from __future__ import annotations

from collections.abc import Iterable

from grains.report.blocks import Entry, Look

ROLES = ("ours", "rival", "control")
ARM = "arm"
"""The role of what a sweep tries, of which none is a rival."""

COLOURS = {"ours": ("warm", 4), "rival": ("cool", 5), "control": ("grey", 3), ARM: ("arm", 9)}
"""Role to the family of its colours in the style, and how many there are."""

SHAPES = 5


def looks_of(named: Iterable[tuple[str, str, str]]) -> dict[str, Look]:
    """Return a look for each name, ours first.

    Args:
        named: name, role and label; the first of a name counts.
    """
    looks: dict[str, Look] = {}
    found = {name: (role, label) for name, role, label in reversed(list(named))}
    order = list(COLOURS)
    counts = dict.fromkeys(COLOURS, 0)
    for name, (role, label) in sorted(reversed(found.items()), key=lambda x: order.index(x[1][0])):
        family, size = COLOURS[role]
        place = counts[role]
        counts[role] += 1
        colour = f"{family}-{place % size}"
        shape = (place % size + place // size) % SHAPES
        looks[name] = Look(len(looks), role, colour, shape, label)
    return looks


def method_entry(look: Look, tip: str = "") -> Entry:
    """Return the cell that names a method."""
    return Entry(text=look.label, value=look.number, look=look, tip=tip)
