"""Published steering vectors, each on the pairs that all methods are fitted on.

Where they differ from what was published is said of each; common to all: directions are unit
vectors, and the comparison finds the strength.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from grains.directions import Centred, DifferencePCA, DirectionFinder
from grains.injectors import Additive, Gated, Injector, Projection
from grains.methods.base import METHODS
from grains.methods.vector import VectorMethod
from grains.sources import Answers, DirectionSource, PerturbedImages

_LAST = Answers(readout="last")
_GATED = Gated(injector=Additive(), threshold=0.0, side="below")


@final
@METHODS.register("caa")
@dataclass(frozen=True, kw_only=True)
class CAA(VectorMethod):
    """CAA: from the mean of the rejected answers' activations to that of the chosen ones'.

    Source: Rimsky et al., ACL 2024 (arXiv 2312.06681). There answers are one letter, read at that
    token, and one layer is steered, at generated positions, by plain addition; here whole answers
    are read at all of their tokens, and each token keeps its length.
    """

    fit = VectorMethod.vectors


@final
@METHODS.register("repe")
@dataclass(frozen=True, kw_only=True)
class RepE(VectorMethod):
    """RepE: the first axis of the differences between both answers' last tokens, added.

    Source: representation engineering with LAT, Zou et al., 2023 (arXiv 2310.01405). It swaps half
    of the pairs, centres, and finds the sign afterwards; the axis here is uncentred, by which the
    sign and the shift are kept from the start.
    """

    source: DirectionSource = _LAST
    direction_finder: DirectionFinder = field(default_factory=DifferencePCA)
    injector: Injector = field(default_factory=Additive)
    fit = VectorMethod.vectors


@final
@METHODS.register("icv")
@dataclass(frozen=True, kw_only=True)
class ICV(VectorMethod):
    """In-context vectors: the first axis of last-token differences, in all layers, length kept.

    Source: Liu et al., ICML 2024 (arXiv 2311.06668). It takes one axis of all layers' states joined
    and adds its part in each; here every layer has an axis of its own, and all have one strength.
    """

    source: DirectionSource = _LAST
    direction_finder: DirectionFinder = field(default_factory=DifferencePCA)
    layers: str | None = "all"
    fit = VectorMethod.vectors


@final
@METHODS.register("actadd")
@dataclass(frozen=True, kw_only=True)
class ActAdd(VectorMethod):
    """ActAdd: the difference of one pair's activations, added.

    Source: activation addition, Turner et al., 2023 (arXiv 2308.10248). Its two prompts are written
    by hand, and their difference, token by token, is added to the first tokens of the prompt in one
    layer. Here it is the data's first pair, read at the last token and added everywhere.
    """

    source: DirectionSource = _LAST
    injector: Injector = field(default_factory=Additive)
    pairs: int | None = 1
    fit = VectorMethod.vectors


@final
@METHODS.register("ablation")
@dataclass(frozen=True, kw_only=True)
class Ablation(VectorMethod):
    """Directional ablation: takes out the component along which chosen and rejected differ.

    The strength is the share that is removed: 1 is all of it, and more mirrors it. Which way the
    direction points plays no part: what is wanted along it goes with what is not.

    Source: Arditi et al., NeurIPS 2024 (arXiv 2406.11717). There one layer's direction is taken out
    in all layers; here each steered layer's own.
    """

    injector: Injector = field(default_factory=Projection)
    fit = VectorMethod.vectors


@final
@METHODS.register("cast")
@dataclass(frozen=True, kw_only=True)
class CAST(VectorMethod):
    """CAST: CAA, added only where a token's state is on the rejected answers' side.

    The gate stands midway between the means of both sides: what lies along the mean of both is
    taken out of the direction, by which the middle is at 0 in every layer.

    Source: conditional activation steering, Lee et al., ICLR 2025 (arXiv 2409.05907). There the
    condition is a vector of its own, found from other texts, with its layers and threshold searched
    on a grid, and is asked once a prompt; see the injector `gated`.
    """

    direction_finder: DirectionFinder = field(default_factory=Centred)
    injector: Injector = _GATED
    fit = VectorMethod.vectors


@final
@METHODS.register("vti")
@dataclass(frozen=True, kw_only=True)
class VTI(VectorMethod):
    """VTI: the vision tower, moved to where it is when nearly all of a picture is hidden.

    Source: Liu, Ye, Zou, 2024, "Reducing Hallucinations in Vision-Language Models via Latent Space
    Steering"; its part for pictures alone. See the source `perturbed_images` for what differs.
    """

    source: DirectionSource = field(default_factory=PerturbedImages)
    direction_finder: DirectionFinder = field(default_factory=DifferencePCA)
    layers: str | None = "all"
    fit = VectorMethod.vectors
