"""Credits of one sequence, with what a reader needs to see them: its tokens, and its picture."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from grains import objectives
from grains.attributors import ATTRIBUTORS
from grains.blanks import ImageFill, blank
from grains.data.images import images_of
from grains.errors import GrainsError
from grains.models import Encoded, Fill, SteerableModel
from grains.objectives import Objective
from grains.types import ContrastivePair, Reduction, Scope, Side, checked_choice

Modality = Literal["text", "image", "template"]
"""What a token is: a word that may be credited, a part of a picture, or neither: special tokens and
the template around the prompt, which are held and get no credit."""


@dataclass(frozen=True, kw_only=True)
class Credits:
    """One attributed sequence, without padding.

    Args:
        tokens: their text, blanks and newlines included.
        scores: signed credit of each, in nats.
        modality: what each is.
        boxes: where each image token lies in the picture, as x0 y0 x1 y1 in 0..1, NaN where it has
            no place; None without one picture.
        image: the picture; None if there is none, or more than one.
        gap: how far the credits are from adding up, as in `Attribution`.
        name: what to call the sequence.
        explains: the score in words, such as `log p("It is.") - log p("It is not.")`.

    Raises:
        GrainsError: if there are not as many of one as of another.
    """

    tokens: tuple[str, ...]
    scores: Float[Tensor, " seq"]
    modality: tuple[Modality, ...]
    boxes: Float[Tensor, "image_tokens 4"] | None = None
    image: Image.Image | None = None
    gap: float = float("nan")
    name: str = ""
    explains: str = ""

    def __post_init__(self) -> None:
        """Refuse what does not belong together."""
        counts = {"scores": len(self.scores), "modalities": len(self.modality)}
        for what, count in counts.items():
            if count != len(self.tokens):
                raise GrainsError(
                    f"{self.name!r} has {count} {what}; wanted one a token, {len(self.tokens)}"
                )
        pictured = self.modality.count("image")
        if self.boxes is not None and len(self.boxes) != pictured:
            raise GrainsError(
                f"{self.name!r} has {len(self.boxes)} boxes; wanted one an image token, {pictured}"
            )

    def of(self, modality: Modality) -> Float[Tensor, " tokens"]:
        """Return the scores of the tokens of one modality, in the order of the sequence."""
        return self.scores[[index for index, what in enumerate(self.modality) if what == modality]]

    def share(self, modality: Modality) -> float:
        """Return a modality's share of all credit by magnitude; 0 where there is no credit."""
        total = self.scores.double().abs().sum()
        return float(self.of(modality).double().abs().sum() / total) if total else 0.0


def explain(
    model: SteerableModel,
    pairs: Sequence[ContrastivePair],
    attributor: Any = "integrated_gradients",
    scope: Scope = "prompt",
    baseline: Fill = "mean",
    image_baseline: ImageFill = "mean",
    reduction: Reduction = "mean",
) -> list[Credits]:
    """Credit every token of some pairs.

    Args:
        model: the model.
        pairs: handled as one batch.
        attributor: a name, `{name, settings}`, or an attributor.
        scope: `prompt` credits the prompt's tokens under the contrast, one result a pair;
            `sequence` the prompt and answer of each side under its own likelihood, two a pair.
        baseline: what attribution starts from at words.
        image_baseline: the same at a picture's tokens, see `grains.blanks`.
        reduction: how token log-probabilities become the attributed score.

    Returns:
        The credits in the order of the pairs; with scope `sequence`, chosen before rejected.

    Raises:
        GrainsError: for a wrong setting, or as encoding and attribution do.
    """
    method = ATTRIBUTORS.build(attributor)
    for given, choices, what in (
        (scope, Scope, "scope"),
        (baseline, Fill, "baseline"),
        (image_baseline, ImageFill, "image_baseline"),
        (reduction, Reduction, "reduction"),
    ):
        checked_choice(given, choices, what)

    def credited(objective: Objective, side: Side | None) -> list[Credits]:
        fill = blank(model, pairs, objective.encoded, baseline, image_baseline)
        start = objective.baseline(fill)
        found = method.attribute(objective.score, objective.inputs, start)
        rows = zip(pairs, found.scores, found.gap.tolist(), strict=True)
        return [
            _credits(model, pair, objective.encoded, row, scores, gap, side)
            for row, (pair, scores, gap) in enumerate(rows)
        ]

    if scope == "prompt":
        return credited(objectives.contrast(model, pairs, reduction), None)
    sides = [
        credited(objectives.likelihood(model, pairs, side, reduction)[0], side)
        for side in typing.get_args(Side)
    ]
    return [credits for both in zip(*sides, strict=True) for credits in both]


def _credits(
    model: SteerableModel,
    pair: ContrastivePair,
    encoded: Encoded,
    row: int,
    scores: Tensor,
    gap: float,
    side: Side | None,
) -> Credits:
    real = encoded.attention_mask[row].bool()
    kinds = zip(encoded.image[row][real].tolist(), encoded.content[row][real].tolist(), strict=True)
    answers = {name: f"log p({getattr(pair, name)!r})" for name in typing.get_args(Side)}
    pictures, boxes = images_of(pair), encoded.boxes[row]
    if len(pictures) != 1:  # of several, a box does not say in which one it lies
        pictures, boxes = (None,), None
    return Credits(
        tokens=texts_of(model.tokenizer, encoded.input_ids[row][real].tolist()),
        scores=scores[real.to(scores.device)].detach().cpu(),
        modality=tuple(
            "image" if image else "text" if content else "template" for image, content in kinds
        ),
        boxes=None if boxes is None else boxes.cpu(),
        image=pictures[0],
        gap=gap,
        name=f"{encoded.names[row]} ({side})" if side else encoded.names[row],
        explains=answers[side] if side else " - ".join(answers.values()),
    )


def texts_of(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """Return the text of each token by itself, with the blank that it starts with."""

    def decode(tokens: list[int]) -> str:
        return tokenizer.decode(tokens, clean_up_tokenization_spaces=False)

    # Some tokenizers drop the blank at the start of a text: so each is read behind itself.
    known = {token: decode([token, token])[len(decode([token])) :] for token in set(ids)}
    return tuple(known[token] for token in ids)
