"""Who is to be credited: attributors, by name."""

from grains.attributors.base import ATTRIBUTORS, Attributor
from grains.attributors.gradient_x_input import GradientXInput
from grains.attributors.integrated_gradients import IntegratedGradients
from grains.attributors.occlusion import Occlusion
from grains.attributors.random import RandomAttributor
from grains.attributors.smoothgrad import SmoothGrad

__all__ = [
    "ATTRIBUTORS",
    "Attributor",
    "GradientXInput",
    "IntegratedGradients",
    "Occlusion",
    "RandomAttributor",
    "SmoothGrad",
]
