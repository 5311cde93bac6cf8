"""Which positions count as credited: maskers, by name."""

from grains.maskers.base import MASKERS, Masker
from grains.maskers.random import RandomMasker
from grains.maskers.reversed import Reversed
from grains.maskers.shuffled import Shuffled
from grains.maskers.threshold import Threshold
from grains.maskers.top_fraction import TopFraction
from grains.maskers.top_k import TopK

__all__ = [
    "MASKERS",
    "Masker",
    "RandomMasker",
    "Reversed",
    "Shuffled",
    "Threshold",
    "TopFraction",
    "TopK",
]
