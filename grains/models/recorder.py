"""Runs a vision-language model up to its decoder, where text and pictures have become one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from grains.errors import GrainsError
from grains.hooks import capturing_arguments
from grains.models.encoding import Encoded
from grains.models.families import Family
from grains.models.replay import Replay

_LEFT_OUT = ("input_ids", "inputs_embeds", "past_key_values", "deepstack_visual_embeds")


class Recorder:
    """Makes replays of one model.

    Args:
        lm: a vision-language model of transformers.
        decoder: the module that owns its decoder blocks.
        family: its row of the family table.
    """

    def __init__(self, lm: Any, decoder: nn.Module, family: Family) -> None:
        self.lm = lm
        self.decoder = decoder
        self.family = family

    @property
    def deep(self) -> int:
        """How many deep-stacked features a token has beside its embedding."""
        return len(getattr(self.lm.config.vision_config, "deepstack_visual_indexes", ()))

    def inputs(self, encoded: Encoded, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what the whole model is called with, token types laid out like the ids.

        Without these types Gemma 3 and PaliGemma attend causally where they must not, and Qwen
        loses the positions of the picture, without an error.
        """
        fed = {"input_ids": encoded.input_ids, "attention_mask": encoded.attention_mask}
        if self.family.prefix:
            fed["token_type_ids"] = encoded.answer_mask.long()
        elif self.family.token_types:
            fed[self.family.token_types] = encoded.image.long()
        dtype = self.lm.get_input_embeddings().weight.dtype
        for key, value in pixels.items():
            fed[key] = value.to(dtype) if value.is_floating_point() else value
        return fed

    def record(self, encoded: Encoded, pixels: dict[str, Tensor]) -> Replay:
        """Run the vision tower, once, and all else that precedes the decoder, without gradient."""
        with torch.no_grad(), capturing_arguments(self.decoder) as seen:
            self.lm(**self.inputs(encoded, pixels), use_cache=False)
        embeddings = seen["inputs_embeds"]
        if self.deep:
            batch, seq, width = embeddings.shape
            behind = embeddings.new_zeros(batch, seq, self.deep, width)
            for index, features in enumerate(seen.get("deepstack_visual_embeds") or ()):
                behind[seen["visual_pos_masks"], index] = features.to(behind)
            embeddings = torch.cat([embeddings, behind.flatten(2)], dim=-1)
        return Replay(embeddings, {key: seen[key] for key in seen if key not in _LEFT_OUT})

    def replay_of(self, encoded: Encoded) -> Replay:
        """Return a batch's replay, recorded now for one that was made of ids without a picture.

        Raises:
            GrainsError: if a picture was there and its features are not.
        """
        if encoded.replay is not None:
            return encoded.replay
        if encoded.image.any():
            raise GrainsError("a batch has image tokens and no replay; wanted what `encode` makes")
        return self.record(encoded, {})
