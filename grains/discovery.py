"""The one place that looks for plug-ins: entry points of other people's distributions."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

import entrypoints


def discover(group: str) -> list[entrypoints.EntryPoint]:
    """List the entry points of a group over all installed distributions, without importing any.

    A source layout may be listed twice: repeats are dropped. One malformed file of any distribution
    makes the reader raise: then each is read by itself, and only what cannot be read is left out.
    """
    try:
        found = entrypoints.get_group_all(group)
    except Exception:
        found = list(_readable_points(group))
    unique = {(point.name, point.module_name, point.object_name): point for point in found}
    return list(unique.values())


def _readable_points(group: str) -> Iterator[entrypoints.EntryPoint]:
    for installed in importlib.metadata.distributions():
        try:
            points = installed.entry_points.select(group=group)
        except Exception:  # whatever a reader stumbles over
            continue
        distro = entrypoints.Distribution(installed.name, installed.version)
        for point in points:
            yield entrypoints.EntryPoint(point.name, point.module, point.attr, distro=distro)
