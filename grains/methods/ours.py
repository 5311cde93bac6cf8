"""Attribution- and gradient-based steering."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, final

from grains.methods.base import METHODS
from grains.methods.vector import VectorMethod
from grains.sources import DirectionSource, Gradient, Masked


@final
@METHODS.register("grains")
@dataclass(frozen=True, kw_only=True)
class Grains(VectorMethod):
    """GrAInS: what the credited tokens contribute to the hidden states.

    Source: Nguyen et al., ACL 2026 (arXiv 2507.18043).
    """

    role: ClassVar[str] = "ours"
    source: DirectionSource = field(default_factory=Masked)
    fit = VectorMethod.vectors


@final
@METHODS.register("objective_gradient")
@dataclass(frozen=True, kw_only=True)
class ObjectiveGradient(VectorMethod):
    """The gradient of the preference at the hidden states: what the objective wants of a layer."""

    role: ClassVar[str] = "ours"
    source: DirectionSource = field(default_factory=Gradient)
    fit = VectorMethod.vectors
