"""GrAInS: what the credited tokens contribute to the hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Bool
from torch import Tensor

from grains import activations, objectives
from grains.attributors import Attributor, IntegratedGradients
from grains.maskers import Masker, TopK
from grains.models import Encoded, Fill, SteerableModel
from grains.objectives import Objective
from grains.sources.base import SOURCES, DirectionSource, Memo, Rows
from grains.types import Attribution, ContrastivePair, Readout, Reduction, Scope, Side


@final
@SOURCES.register("masked")
@dataclass(frozen=True, kw_only=True)
class Masked(DirectionSource):
    """Deltas of masked inputs: attribute, mask the credited tokens, see how activations change.

    With scope `prompt`, the contrast credits the prompt's tokens. The supporting ones are masked
    before the chosen answer (*toward*), the opposing ones before the rejected answer (*away*);
    with the `last_prompt` read-out the answers are not needed and left out. With scope `sequence`,
    each answer's own likelihood credits prompt and answer; *toward* is what supports the chosen
    sequence, *away* what supports the rejected one.

    Args:
        attributor: who is to be credited.
        masker: which positions count as credited.
        scope: what is attributed.
        readout: where hidden states are read. A single read-out position is never masked, nor what
            stands behind it and is not seen from there.
        baseline: the embedding that attribution starts from at content positions.
        fill: the embedding that a masked position gets.
        reduction: how token log-probabilities become the attributed score.
    """

    attributor: Attributor = field(default_factory=IntegratedGradients)
    masker: Masker = field(default_factory=TopK)
    scope: Scope = "sequence"
    readout: Readout = "answer_mean"
    baseline: Fill = "mean"
    fill: Fill = "mean"
    reduction: Reduction = "mean"

    def rows(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        layers: Sequence[int],
        memo: Memo,
    ) -> Rows:
        """Attribute, mask, and read the deltas of both sides."""
        if self.scope == "prompt":
            return self._prompt_rows(model, pairs, layers, memo)
        sides = []
        answers: tuple[Side, Side] = ("chosen", "rejected")
        for side in answers:
            objective, encoded = objectives.likelihood(model, pairs, side, self.reduction)
            credit = self._attribute(model, objective, memo, side)
            allowed = objective.content & ~self._unseen(encoded)
            selected = self.masker.select(credit.scores, allowed).positive
            whole, (delta,) = self._deltas(model, encoded, [selected], layers)
            sides.append((delta, whole.norms, credit))
        (toward, norms, chosen), (away, _, rejected) = sides
        gap = torch.maximum(chosen.gap, rejected.gap)
        return Rows(toward, away, norms, gap.cpu(), (chosen.steps + rejected.steps).cpu())

    def _prompt_rows(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        layers: Sequence[int],
        memo: Memo,
    ) -> Rows:
        objective = objectives.contrast(model, pairs, self.reduction)
        credit = self._attribute(model, objective, memo, "contrast")
        if self.readout == "last_prompt":
            encoded = model.encode(pairs, None)
            allowed = objective.content & ~self._unseen(encoded)
            selection = self.masker.select(credit.scores, allowed)
            whole, (toward, away) = self._deltas(model, encoded, list(selection), layers)
        else:
            selection = self.masker.select(credit.scores, objective.content)
            whole, (toward,) = self._deltas(
                model, model.encode(pairs, "chosen"), [selection.positive], layers
            )
            _, (away,) = self._deltas(
                model, model.encode(pairs, "rejected"), [selection.negative], layers
            )
        return Rows(toward, away, whole.norms, credit.gap.cpu(), credit.steps.cpu())

    def _attribute(
        self, model: SteerableModel, objective: Objective, memo: Memo, what: str
    ) -> Attribution:
        key = (self.attributor, self.baseline, self.reduction, what)
        start = objective.baseline(model.filler(self.baseline))
        return memo.get(
            key, lambda: self.attributor.attribute(objective.score, objective.inputs, start)
        )

    def _unseen(self, encoded: Encoded) -> Bool[Tensor, "batch seq"]:
        # A single position that is read may not be masked: its delta would be its own embedding.
        # It does not see what stands behind it either: masking that would change nothing.
        if self.readout == "answer_mean":
            return torch.zeros_like(encoded.content)
        return encoded.readout(self.readout).cumsum(1) > 0

    def _deltas(
        self,
        model: SteerableModel,
        encoded: Encoded,
        selections: list[Tensor],
        layers: Sequence[int],
    ) -> tuple[activations.Activations, list[dict[int, Tensor]]]:
        return activations.deltas(model, encoded, selections, layers, self.readout, self.fill)
