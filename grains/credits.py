"""Credits of one sequence, with what a reader needs to see them: its tokens, and its pictures."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from grains import objectives
from grains.artifact import SteeringVector
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

LONGEST = 1024
"""Pixels of the longer side of the pictures that are kept: what is drawn is smaller still."""


class Picture(NamedTuple):
    """A picture of a sequence, at most `LONGEST` pixels long, and the places of its image tokens.

    `boxes` says where each of them lies in it, as x0 y0 x1 y1 in 0..1, NaN where it has no place.
    """

    image: Image.Image
    boxes: Float[Tensor, "image_tokens 4"]


@dataclass(frozen=True, kw_only=True)
class Credits:
    """One attributed sequence, without padding.

    Args:
        tokens: their text, blanks and newlines included.
        scores: signed credit of each, in nats.
        modality: what each is.
        pictures: in the order of the sequence, as their image tokens are; empty if not known.
        gap: how far the credits are from adding up, as in `Attribution`.
        name: what to call the sequence.
        explains: the score in words, such as `log p("It is.") - log p("It is not.")`.

    Raises:
        GrainsError: if there are not as many of one as of another.
    """

    tokens: tuple[str, ...]
    scores: Float[Tensor, " seq"]
    modality: tuple[Modality, ...]
    pictures: tuple[Picture, ...] = ()
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
        placed, pictured = sum(self.counts), self.modality.count("image")
        if self.pictures and placed != pictured:
            raise GrainsError(
                f"{self.name!r} has {placed} boxes; wanted one an image token, {pictured}"
            )

    @property
    def counts(self) -> list[int]:
        """How many image tokens each picture has."""
        return [len(picture.boxes) for picture in self.pictures]

    @property
    def boxes(self) -> Float[Tensor, "image_tokens 4"] | None:
        """Where each image token lies in its picture; None without pictures."""
        return torch.cat([picture.boxes for picture in self.pictures]) if self.pictures else None

    def placed(self) -> list[tuple[Picture, Float[Tensor, " image_tokens"]]]:
        """Return each picture with the scores of its own tokens."""
        parts = self.of("image").split(self.counts) if self.pictures else []
        return list(zip(self.pictures, parts, strict=True))

    def of(self, modality: Modality) -> Float[Tensor, " tokens"]:
        """Return the scores of the tokens of one modality, in the order of the sequence.

        Raises:
            GrainsError: if there is no such modality.
        """
        checked_choice(modality, Modality, "the modality")
        return self.scores[[index for index, what in enumerate(self.modality) if what == modality]]

    def share(self, modality: Modality) -> float:
        """Return a modality's share of all credit by magnitude; 0 where there is no credit.

        Raises:
            GrainsError: if there is no such modality.
        """
        part, total = (one.double().abs().sum() for one in (self.of(modality), self.scores))
        return float(part / total) if total else 0.0


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


def fit_settings(vector: SteeringVector) -> dict[str, Any]:
    """Return what `explain` takes to credit the pairs of a vector's fit as the fit did.

    Raises:
        GrainsError: if the card does not say it, or the fit attributed nothing.
    """
    components = vector.card.get("components")
    source = components.get("source") if isinstance(components, dict) else None
    if not isinstance(components, dict) or not isinstance(source, dict):
        made = "is a sum or a multiple of others" if vector.card.get("parents") else "does not say"
        raise GrainsError(f"how the vector was fitted its card {made}")
    attributor = components.get("attributor")
    if attributor is None:
        raise GrainsError(
            f"the vector was fitted with source {source.get('name')!r}, which credits no tokens; "
            "wanted one of source 'masked'"
        )
    if not isinstance(attributor, dict) or attributor.get("name") not in ATTRIBUTORS.names():
        # A file must not make us import.
        raise GrainsError(f"the vector's attributor is {attributor!r}; wanted a registered name")
    named = ("scope", "baseline", "image_baseline", "reduction")
    return {"attributor": attributor, **{key: source[key] for key in named if key in source}}


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
    return Credits(
        tokens=texts_of(model.tokenizer, encoded.input_ids[row][real].tolist()),
        scores=scores[real.to(scores.device)].detach().cpu(),
        modality=tuple(
            "image" if image else "text" if content else "template" for image, content in kinds
        ),
        pictures=_pictures(model, pair, encoded.boxes[row]),
        gap=gap,
        name=f"{encoded.names[row]} ({side})" if side else encoded.names[row],
        explains=answers[side] if side else " - ".join(answers.values()),
    )


def _pictures(
    model: SteerableModel, pair: ContrastivePair, boxes: Tensor | None
) -> tuple[Picture, ...]:
    reader = model.encoder.prompter.images
    if boxes is None or reader is None:
        return ()
    images = images_of(pair)
    counts = reader.counts(images) if len(images) > 1 else [len(boxes)]
    for image in images:
        image.thumbnail((LONGEST, LONGEST))  # in place, and never larger
    return tuple(map(Picture, images, boxes.cpu().split(counts)))


def texts_of(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """Return the text of each token by itself, with the blank that it starts with."""

    def decode(tokens: list[int]) -> str:
        return tokenizer.decode(tokens, clean_up_tokenization_spaces=False)

    # Some tokenizers drop the blank at the start of a text: so each is read behind itself.
    known = {token: decode([token, token])[len(decode([token])) :] for token in set(ids)}
    return tuple(known[token] for token in ids)
