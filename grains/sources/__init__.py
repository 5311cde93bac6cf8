"""Where a direction finder's rows come from: masked deltas, answers, gradients, heads, pictures."""

from grains.sources.answers import Answers
from grains.sources.base import SOURCES, DirectionSource, Memo, Rows
from grains.sources.gradient import Gradient
from grains.sources.heads import HeadOutputs
from grains.sources.masked import Masked
from grains.sources.perturbed_images import PerturbedImages
from grains.sources.shuffled_labels import ShuffledLabels

__all__ = [
    "SOURCES",
    "Answers",
    "DirectionSource",
    "Gradient",
    "HeadOutputs",
    "Masked",
    "Memo",
    "PerturbedImages",
    "Rows",
    "ShuffledLabels",
]
