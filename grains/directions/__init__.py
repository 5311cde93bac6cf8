"""Where the hidden state should move: direction finders, by name."""

from grains.directions.base import DIRECTION_FINDERS, Certificate, DirectionFinder
from grains.directions.centred import Centred
from grains.directions.difference_pca import DifferencePCA
from grains.directions.lda import LDA
from grains.directions.logistic import Logistic
from grains.directions.mean_difference import MeanDifference
from grains.directions.pca import PCA

__all__ = [
    "DIRECTION_FINDERS",
    "LDA",
    "PCA",
    "Centred",
    "Certificate",
    "DifferencePCA",
    "DirectionFinder",
    "Logistic",
    "MeanDifference",
]
