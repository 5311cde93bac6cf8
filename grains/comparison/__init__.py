"""Steering beside its rivals and controls, at equal damage."""

from grains.comparison.plan import Behaviour, Plan
from grains.comparison.run import compare

__all__ = ["Behaviour", "Plan", "compare"]
