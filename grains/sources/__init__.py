"""Where a direction finder's rows come from: masked deltas, answers, gradients."""

from grains.sources.answers import Answers
from grains.sources.base import SOURCES, DirectionSource, Memo, Rows, describe_source
from grains.sources.gradient import Gradient
from grains.sources.masked import Masked

__all__ = [
    "SOURCES",
    "Answers",
    "DirectionSource",
    "Gradient",
    "Masked",
    "Memo",
    "Rows",
    "describe_source",
]
