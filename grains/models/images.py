"""Pictures into a prompt: what a model's processor makes of a text and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from grains.errors import GrainsError
from grains.models.families import Family
from grains.models.patches import patch_boxes

_PER_TOKEN = (
    *("input_ids", "attention_mask", "offset_mapping"),
    *("token_type_ids", "mm_token_type_ids", "labels"),
)


class Coded(NamedTuple):
    """A text as tokens, pictures written out as image tokens.

    `spans` are the characters that each token covers in the written-out text, `pixels` what else
    the model wants, `boxes` where each image token lies in its picture (None without a picture).
    """

    ids: list[int]
    spans: list[tuple[int, int]]
    pixels: dict[str, Tensor] = {}  # noqa: RUF012 - never changed
    boxes: Float[Tensor, "image_tokens 4"] | None = None


class ImageReader:
    """Reads pictures with a model's processor.

    Args:
        processor: of transformers, with a fast tokenizer and an image processor.
        config: the whole model's config.
        family: the model's row of the family table.

    Attributes:
        mark: the processor's image token: a text holds it once a picture.
        token: the id that stands for a part of a picture.
    """

    def __init__(self, processor: Any, config: Any, family: Family) -> None:
        self.processor = processor
        self.config = config
        self.family = family
        self.mark: str = processor.image_token
        self.token: int = config.image_token_id

    @property
    def picture(self) -> str:
        """What stands for one picture in a text."""
        return self.family.picture.format(token=self.mark)

    @property
    def has_chat(self) -> bool:
        """Whether the processor has a chat template, which takes pictures as parts of a message."""
        return bool(self.processor.chat_template)

    def chat(self, prompt: str, pictures: int, system: str = "") -> str:
        """Return a prompt behind its pictures in the processor's chat template."""
        content = [{"type": "image"}] * pictures + [{"type": "text", "text": prompt}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if system:
            said = [{"type": "text", "text": system}]
            messages.insert(0, {"role": "system", "content": said})
        return self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )

    def check_places(self, text: str, pictures: int, name: str, prompt: str, template: str) -> None:
        """Refuse a text that does not hold one placeholder a picture, and say where it comes from.

        Args:
            text: the prompt in its template.
            pictures: how many there are.
            name: what to call the pair in a message.
            prompt: without template.
            template: a name, or a text.
        """
        found = text.count(self.mark)
        if found == pictures:
            return
        times = f"holds {self.mark!r}, which stands for a picture"
        if self.mark in prompt:
            said = f"its prompt {times}; wanted a prompt without, and the picture as image"
        elif self.mark in template:
            said = f"its template {times}; wanted {{image}} in its place"
        elif template == "chat":
            said = (
                f"the chat template writes {self.mark!r} {found} times for {pictures} images; "
                "wanted once an image, or another template, such as '{image}{prompt}'"
            )
        else:
            said = (
                f"its template writes {self.mark!r} {found} times for {pictures} images; wanted "
                "{image} once in it, where all of them stand"
            )
        raise GrainsError(f"pair {name!r}: {said}")

    def read(
        self, text: str, pictures: Sequence[Image.Image], *, special: bool, name: str
    ) -> Coded:
        """Run the processor on one text.

        Args:
            text: with one placeholder a picture.
            pictures: one or more.
            special: whether the tokenizer adds its own special tokens.
            name: what to call the pair in a message.

        Raises:
            GrainsError: if the processor cannot read a picture.
        """
        try:
            made = self._processed(text, pictures, special)
            alone = [made] if len(pictures) == 1 else self._alone(pictures)
        except Exception as error:  # processors fail in many ways
            said = str(error).partition("\n")[0][:120]
            raise GrainsError(
                f"pair {name!r}: the processor cannot read its image "
                f"({type(error).__name__}: {said})"
            ) from error
        boxes = torch.cat(
            [
                patch_boxes(
                    self.config.model_type,
                    self.config,
                    inputs,
                    picture.size,
                    self.processor.image_processor,
                )
                for inputs, picture in zip(alone, pictures, strict=True)
            ]
        )
        ids = made["input_ids"][0].tolist()
        if (count := ids.count(self.token)) != len(boxes):
            raise GrainsError(
                f"pair {name!r}: its image has {count} tokens in the text and {len(boxes)} in the "
                "model; wanted a processor that belongs to the model"
            )
        spans = [(low, high) for low, high in made["offset_mapping"][0].tolist()]
        pixels = {key: made[key] for key in made if key not in _PER_TOKEN}
        return Coded(ids, spans, pixels, boxes)

    def counts(self, pictures: Sequence[Image.Image]) -> list[int]:
        """Return how many image tokens each picture has: in a sequence, they follow each other."""
        return [made["input_ids"][0].tolist().count(self.token) for made in self._alone(pictures)]

    def _alone(self, pictures: Sequence[Image.Image]) -> list[Mapping[str, Any]]:
        return [self._processed(self.picture, [one], False) for one in pictures]

    def _processed(
        self, text: str, pictures: Sequence[Image.Image], special: bool
    ) -> Mapping[str, Any]:
        return self.processor(
            text=[text],
            images=list(pictures),
            return_tensors="pt",
            return_offsets_mapping=True,
            add_special_tokens=special,
        )


def collate(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the pixel tensors of several rows as one batch, for every family alike.

    All but the first dimension are padded with zeros at their ends; the first is concatenated. A
    row without a picture has none.
    """
    batch = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        parts = [row[key] for row in rows if key in row]
        widest = torch.tensor([part.shape[1:] for part in parts]).amax(0).tolist()
        whole = parts[0].new_zeros(sum(map(len, parts)), *widest)
        start = 0
        for part in parts:
            place = (slice(start, start + len(part)), *map(slice, part.shape[1:]))
            whole[place] = part
            start += len(part)
        batch[key] = whole
    return batch
