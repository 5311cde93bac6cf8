"""Gradient-based attribution for inference-time steering, as a system of parts.

The way of the data:

    pairs -> model -> attribute -> mask -> deltas -> direction -> inject -> evaluate -> artifact
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from grains._version import __version__
from grains.errors import GrainsError

if TYPE_CHECKING:
    from grains.artifact import SteeringVector
    from grains.attributors import ATTRIBUTORS, Attributor
    from grains.comparison import Plan, compare
    from grains.credits import Credits, explain
    from grains.data import DATASETS, PairDataset, SteeringDataModule
    from grains.directions import DIRECTION_FINDERS, DirectionFinder
    from grains.evaluation import JUDGES, TASKS
    from grains.injectors import INJECTORS, Injector
    from grains.maskers import MASKERS, Masker
    from grains.methods import METHODS
    from grains.models import SteerableModel
    from grains.module import SteeringModule
    from grains.report import Report
    from grains.sources import SOURCES, DirectionSource
    from grains.sweep import Sweep, SweepResult
    from grains.types import Attribution, ContrastivePair, ScoreFn, Selection

# Resolved on first use, so that `import grains` costs next to nothing.
_HOMES = {
    "grains.types": ("ContrastivePair", "Attribution", "ScoreFn", "Selection"),
    "grains.data": ("DATASETS", "PairDataset", "SteeringDataModule"),
    "grains.models": ("SteerableModel",),
    "grains.attributors": ("ATTRIBUTORS", "Attributor"),
    "grains.maskers": ("MASKERS", "Masker"),
    "grains.sources": ("SOURCES", "DirectionSource"),
    "grains.directions": ("DIRECTION_FINDERS", "DirectionFinder"),
    "grains.injectors": ("INJECTORS", "Injector"),
    "grains.evaluation": ("JUDGES", "TASKS"),
    "grains.credits": ("Credits", "explain"),
    "grains.artifact": ("SteeringVector",),
    "grains.module": ("SteeringModule",),
    "grains.methods": ("METHODS",),
    "grains.sweep": ("Sweep", "SweepResult"),
    "grains.comparison": ("Plan", "compare"),
    "grains.report": ("Report",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ATTRIBUTORS",
    "DATASETS",
    "DIRECTION_FINDERS",
    "INJECTORS",
    "JUDGES",
    "MASKERS",
    "METHODS",
    "SOURCES",
    "TASKS",
    "Attribution",
    "Attributor",
    "ContrastivePair",
    "Credits",
    "DirectionFinder",
    "DirectionSource",
    "GrainsError",
    "Injector",
    "Masker",
    "PairDataset",
    "Plan",
    "Report",
    "ScoreFn",
    "Selection",
    "SteerableModel",
    "SteeringDataModule",
    "SteeringModule",
    "SteeringVector",
    "Sweep",
    "SweepResult",
    "__version__",
    "compare",
    "explain",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'grains' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
