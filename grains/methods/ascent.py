"""A steering vector that is trained: the preference's gradient, followed for more than one step."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid
from tqdm.auto import tqdm

from grains.arms import Arm
from grains.artifact import SteeringVector
from grains.directions import MeanDifference
from grains.errors import GrainsError
from grains.fitting import Fit
from grains.hooks import editing
from grains.injectors import INJECTORS, Injector, Normalized
from grains.layers import show_layers
from grains.methods.base import METHODS, Candidate, Material, Method
from grains.models import SteerableModel
from grains.sources import Answers
from grains.types import ContrastivePair, Positions, Reduction, checked_choice
from grains.vector_parts import SUMMABLE

Loss = Literal["margin", "dpo"]
"""What is climbed: the margin of all pairs alike, or of those not yet told apart."""

Pushes = dict[int, Float[Tensor, " d_model"]]


@final
@METHODS.register("ascent")
@dataclass(frozen=True, kw_only=True)
class Ascent(Method):
    """Gradient ascent of the preference: a vector a layer, trained through the frozen model.

    Where `objective_gradient` takes the gradient at the unsteered model, this goes on from where
    the last step led, over all pairs several times. Each epoch offers its vector, so that
    validation pairs say how long to train. Layers get strengths of their own.

    Source: bi-directional preference optimisation, Cao et al., NeurIPS 2024 (arXiv 2406.00045).
    It trains one layer's vector, by the loss of DPO against the unsteered model, with a random sign
    in each step; here several layers are trained together, each with a strength of its own, with
    one sign, and by the margin itself unless `loss` says `dpo`, which counts from 0.

    Args:
        injector: how hidden states are moved: `additive` or `normalized`, under which what is
            trained is a displacement.
        positions: where.
        loss: `margin`, whose gradient counts all pairs alike, or `dpo`: less, the better a pair is
            told apart already.
        beta: of `dpo`: how soon that is.
        learning_rate: of Adam, in units of the layer's mean norm.
        epochs: how often each pair is seen.
        batch_size: pairs in one update.
        reduction: how token log-probabilities become the score.
    """

    role: ClassVar[str] = "rival"

    injector: Injector = field(default_factory=Normalized)
    positions: Positions = "all"
    loss: Loss = "margin"
    beta: float = 1.0
    learning_rate: float = 0.001
    epochs: int = 3
    batch_size: int = 8
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        """Refuse settings that train nothing, and injectors that do not displace."""
        injector = INJECTORS.name_of(self.injector)
        if injector not in SUMMABLE:
            raise GrainsError(
                f"the injector is {injector!r}, which does not displace by what is trained; wanted "
                f"{' or '.join(SUMMABLE)}"
            )
        checked_choice(self.loss, Loss, "loss")
        checked_choice(self.reduction, Reduction, "reduction")
        for name in ("beta", "learning_rate", "epochs", "batch_size"):
            if not getattr(self, name) > 0:
                raise GrainsError(f"{name} is {getattr(self, name)!r}; wanted more than 0")

    def fit(self, material: Material) -> list[Candidate]:
        """Train on every set of layers, and offer the vector of each epoch."""
        return [
            candidate for layers in material.layer_sets for candidate in self._of(material, layers)
        ]

    def _of(self, material: Material, layers: Sequence[int]) -> list[Candidate]:
        model, norms = material.model, _norms(material, layers)
        pairs = [pair for batch in material.batches for pair in batch.pairs]
        shuffled, found = random.Random(material.seed), []
        with torch.inference_mode(False):
            pushes = {
                layer: torch.zeros(model.width, device=model.device, requires_grad=True)
                for layer in layers
            }
            optimizer = torch.optim.Adam(pushes.values(), lr=self.learning_rate)
            for epoch in range(self.epochs):
                shuffled.shuffle(pairs)
                for start in tqdm(
                    range(0, len(pairs), self.batch_size),
                    desc=f"Epoch {epoch + 1} of {self.epochs}",
                    delay=2,
                    leave=False,
                    disable=material.quiet,
                ):
                    self._step(
                        model, pairs[start : start + self.batch_size], pushes, norms, optimizer
                    )
                label = f"{show_layers(layers)}, epoch {epoch + 1}"
                found.append(Candidate(label, self._vector(model, pushes, norms)))
        return found

    def _step(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        pushes: Pushes,
        norms: Mapping[int, float],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        edits = {
            layer: partial(self._moved, push=push, norm=norms[layer])
            for layer, push in pushes.items()
        }
        optimizer.zero_grad()
        sides = []
        for side in ("chosen", "rejected"):
            encoded = model.encode(pairs, side)
            with torch.enable_grad(), editing(model, edits, self.positions):
                sides.append(model.answer_log_prob(encoded, reduction=self.reduction))
        margins = sides[0] - sides[1]
        loss = -logsigmoid(self.beta * margins) if self.loss == "dpo" else -margins
        loss.mean().backward()
        optimizer.step()

    def _moved(self, hidden: Tensor, *, push: Tensor, norm: float) -> Tensor:
        return self.injector.edit(hidden, push.to(hidden.dtype), 1.0, norm)

    def _vector(
        self, model: SteerableModel, pushes: Pushes, norms: Mapping[int, float]
    ) -> SteeringVector:
        lengths = {layer: float(push.detach().double().norm()) for layer, push in pushes.items()}
        longest = max(lengths.values())
        if longest == 0:
            raise GrainsError("the preference has no gradient at the chosen layers; wanted others")
        return SteeringVector(
            directions={
                layer: (push.detach().double() / (lengths[layer] or 1.0)).float()
                for layer, push in pushes.items()
            },
            norms=dict(norms),
            coefficient=longest,
            weights={layer: length / longest for layer, length in lengths.items()},
            injector=self.injector,
            positions=self.positions,
            card={"model": model.name, "fingerprint": model.fingerprint},
        )


def _norms(material: Material, layers: Sequence[int]) -> dict[int, float]:
    """Return the mean lengths of hidden states, as other vectors have them."""
    arm = Arm(name="norms", source=Answers(), finder=MeanDifference())
    fit = Fit(material.model, [arm], [], [tuple(layers)], Normalized(), "all", material.seed)
    for batch, memo in material.parts():
        fit.add(batch, memo)
    fit.find(quiet=True)
    return fit.found["norms"].norms
