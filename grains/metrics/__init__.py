"""What steering gains and what it costs: sums and counts, added up over processes."""

from grains.metrics.bootstrap import Interval, bootstrap_mean, paired_bootstrap
from grains.metrics.damage import MeanKL, TokenPerplexity, perplexity_ratio
from grains.metrics.preference import Margin, PreferenceAccuracy

__all__ = [
    "Interval",
    "Margin",
    "MeanKL",
    "PreferenceAccuracy",
    "TokenPerplexity",
    "bootstrap_mean",
    "paired_bootstrap",
    "perplexity_ratio",
]
