"""Whether credited positions matter: deletion and insertion curves beside random rankings."""

from grains.faithfulness.curves import Curves, averaged, perturbed, random_rankings
from grains.faithfulness.measure import label_of, measure
from grains.faithfulness.plot import plot
from grains.faithfulness.result import Faithfulness, Modality, Perturbation

__all__ = [
    "Curves",
    "Faithfulness",
    "Modality",
    "Perturbation",
    "averaged",
    "label_of",
    "measure",
    "perturbed",
    "plot",
    "random_rankings",
]
