"""Many settings tried on validation pairs, one chosen and tested; what is done stays done."""

from grains.sweep.halving import Halving
from grains.sweep.result import SweepResult
from grains.sweep.sweep import Sweep

__all__ = ["Halving", "Sweep", "SweepResult"]
