"""GrAInS: what the credited tokens contribute to the hidden states."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from torch import Tensor

from grains import activations, objectives
from grains.attributors import Attributor, IntegratedGradients
from grains.blanks import ImageFill, blank
from grains.errors import GrainsError
from grains.maskers import Masker, Shuffled, TopK
from grains.models import Encoded, Fill, SteerableModel
from grains.objectives import Objective
from grains.sources.base import SOURCES, DirectionSource, Memo, Rows
from grains.types import Attribution, ContrastivePair, Readout, Reduction, Scope, Selection, Side


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
        masker: which positions count as credited; of words and picture together, unless
            `image_masker` is given.
        image_masker: which positions of the picture count as credited, among themselves.
        modality: whether words, the picture's tokens, or both may be masked.
        scope: what is attributed.
        readout: where hidden states are read. A single read-out position is never masked, nor what
            stands behind it and is not seen from there.
        baseline: the embedding that attribution starts from at words.
        image_baseline: the same at a picture's tokens, see `grains.blanks`.
        fill: the embedding that a masked word gets.
        image_fill: the same at a picture's tokens.
        reduction: how token log-probabilities become the attributed score.
    """

    attributor: Attributor = field(default_factory=IntegratedGradients)
    masker: Masker = field(default_factory=TopK)
    scope: Scope = "sequence"
    readout: Readout = "answer_mean"
    baseline: Fill = "mean"
    fill: Fill = "mean"
    reduction: Reduction = "mean"
    modality: Literal["both", "text", "image"] = "both"
    image_masker: Masker | None = None
    image_baseline: ImageFill = "mean"
    image_fill: ImageFill = "mean"

    def __post_init__(self) -> None:
        """Refuse a masker of its own for pictures where not both kinds are masked."""
        super().__post_init__()
        if self.image_masker is not None and self.modality != "both":
            raise GrainsError(
                f"source 'masked': image_masker is given and modality is {self.modality!r}; "
                "wanted modality 'both', or the masker of that kind as masker alone"
            )

    def shuffled(self, seed: int) -> Masked:
        """Return the control: as many masked positions of each kind, but others."""
        image = self.image_masker and Shuffled(masker=self.image_masker, seed=seed)
        masker = Shuffled(masker=self.masker, seed=seed)
        return dataclasses.replace(self, masker=masker, image_masker=image)

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
            credit = self._attribute(model, pairs, objective, memo, side)
            selected = self._select(credit, objective).positive
            whole, (delta,) = self._deltas(model, pairs, encoded, [selected], layers)
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
        credit = self._attribute(model, pairs, objective, memo, "contrast")
        selection = self._select(credit, objective)
        if self.readout == "last_prompt":
            whole, (toward, away) = self._deltas(
                model, pairs, objective.encoded, list(selection), layers
            )
        else:
            whole, (toward,) = self._deltas(
                model, pairs, model.encode(pairs, "chosen"), [selection.positive], layers
            )
            _, (away,) = self._deltas(
                model, pairs, model.encode(pairs, "rejected"), [selection.negative], layers
            )
        return Rows(toward, away, whole.norms, credit.gap.cpu(), credit.steps.cpu())

    def _attribute(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        objective: Objective,
        memo: Memo,
        what: str,
    ) -> Attribution:
        key = (self.attributor, self.baseline, self.image_baseline, self.reduction, what)

        def attributed() -> Attribution:
            fill = blank(model, pairs, objective.encoded, self.baseline, self.image_baseline)
            start = objective.baseline(fill)
            return self.attributor.attribute(objective.score, objective.inputs, start)

        return memo.get(key, attributed)

    def _select(self, credit: Attribution, objective: Objective) -> Selection:
        image, allowed = objective.encoded.image, objective.content
        # A single position that is read may not be masked: its delta would be its own embedding.
        # It does not see what stands behind it either: masking that would change nothing. (In the
        # prompts alone, every answer's read-out stands behind all positions.)
        if (self.readout == "last" and self.scope == "sequence") or self.readout == "last_prompt":
            allowed = allowed & (objective.encoded.readout(self.readout).cumsum(1) == 0)
        if self.modality == "image" and not image.any():
            raise GrainsError(
                f"source 'masked': modality is 'image' and pair {objective.encoded.names[0]!r} has "
                "no image, nor has any other of its batch; wanted pairs with one"
            )
        if self.modality != "both":
            allowed = allowed & (image if self.modality == "image" else ~image)
        if self.image_masker is None:
            if isinstance(self.masker, Shuffled):  # a control with as many words, as many parts
                return self.masker.within(credit.scores, allowed, (image, ~image))
            return self.masker.select(credit.scores, allowed)
        words = self.masker.select(credit.scores, allowed & ~image)
        parts = self.image_masker.select(credit.scores, allowed & image)
        return Selection(words.positive | parts.positive, words.negative | parts.negative)

    def _deltas(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        encoded: Encoded,
        selections: list[Tensor],
        layers: Sequence[int],
    ) -> tuple[activations.Activations, list[dict[int, Tensor]]]:
        fill = blank(model, pairs, encoded, self.fill, self.image_fill)
        return activations.deltas(model, encoded, selections, layers, self.readout, fill)
