"""How a hidden state is moved along a direction: injectors, by name."""

from grains.injectors.additive import Additive
from grains.injectors.base import INJECTORS, Injector
from grains.injectors.clamp import Clamp
from grains.injectors.gated import Gated
from grains.injectors.normalized import Normalized
from grains.injectors.projection import Projection
from grains.injectors.rotation import Rotation

__all__ = [
    "INJECTORS",
    "Additive",
    "Clamp",
    "Gated",
    "Injector",
    "Normalized",
    "Projection",
    "Rotation",
]
