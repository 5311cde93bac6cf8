"""Where a direction finder's rows come from: masked deltas, answers, gradients, pictures."""

from grains.sources.answers import Answers
from grains.sources.base import SOURCES, DirectionSource, Memo, Rows
from grains.sources.gradient import Gradient
from grains.sources.masked import Masked
from grains.sources.perturbed_images import PerturbedImages

__all__ = [
    "SOURCES",
    "Answers",
    "DirectionSource",
    "Gradient",
    "Masked",
    "Memo",
    "PerturbedImages",
    "Rows",
]
