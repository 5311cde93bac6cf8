"""What steering gains and what it costs: sums and counts, added up over processes."""

from grains.metrics.bootstrap import Interval, bootstrap_mean, paired_bootstrap
from grains.metrics.damage import MeanKL, TokenPerplexity, perplexity_ratio
from grains.metrics.distinct import distinct_n
from grains.metrics.hallucination import HallucinationRate, caption_counts, objects_named
from grains.metrics.multiple_choice import mc1, mc2, mc3, mc_margin
from grains.metrics.pope import PopeScore, pope_counts, says_yes
from grains.metrics.preference import Margin, PreferenceAccuracy
from grains.metrics.ratios import paired_ratio_bootstrap

__all__ = [
    "HallucinationRate",
    "Interval",
    "Margin",
    "MeanKL",
    "PopeScore",
    "PreferenceAccuracy",
    "TokenPerplexity",
    "bootstrap_mean",
    "caption_counts",
    "distinct_n",
    "mc1",
    "mc2",
    "mc3",
    "mc_margin",
    "objects_named",
    "paired_bootstrap",
    "paired_ratio_bootstrap",
    "perplexity_ratio",
    "pope_counts",
    "says_yes",
]
