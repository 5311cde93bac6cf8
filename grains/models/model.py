"""A transformers model behind the few verbs that steering needs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from typing import Any, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from grains.hooks import contiguous_head, prompt_ends_at
from grains.models.asking import asked, check_amount
from grains.models.encoding import Encoded, Encoder
from grains.models.families import (
    family_of,
    find_blocks,
    find_heads,
    find_vision_blocks,
    vision_width,
)
from grains.models.fills import Fill, Fills
from grains.models.fingerprint import mark_of
from grains.models.images import ImageReader
from grains.models.likelihood import reduced, token_log_probs
from grains.models.loading import load_pretrained
from grains.models.recorder import Recorder
from grains.types import ContrastivePair, Reduction, Side


class SteerableModel:
    """A frozen causal language model that can be read, attributed and steered.

    Not an `nn.Module`, so that no checkpoint, cast or move of a trainer touches it. A model with a
    vision tower reads pictures as well; it always runs by record and replay, see `Replay`.

    Args:
        lm: a causal language model or vision-language model of transformers.
        processor: its fast tokenizer, or its processor, without which no picture is read.
        name: what artifacts call the model.
        blocks: dotted path of the decoder blocks, for a family that is not known.

    Attributes:
        lm: the model as transformers made it.
        blocks: its decoder blocks, in order.
        heads: its attention heads; None where it is not known where they are joined.
        vision_blocks: the blocks of its vision tower; None without one.
        decoder: the module that owns the decoder blocks and is called once a pass.
        encoder: turns pairs into token ids.
    """

    def __init__(
        self, lm: Any, processor: Any, *, name: str = "", blocks: str | None = None
    ) -> None:
        self.lm = lm.eval().requires_grad_(False)
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.name = name or getattr(lm.config, "name_or_path", "") or type(lm).__name__
        self.config = lm.config.get_text_config()
        self.blocks_path, self.blocks = find_blocks(lm, blocks)
        self.heads = find_heads(lm, self.blocks)
        self.vision_blocks = find_vision_blocks(lm)
        self.decoder: nn.Module = lm.get_decoder()
        self._fills = Fills(lm.get_input_embeddings(), self.tokenizer)
        self._takes_positions = "position_ids" in inspect.signature(lm.forward).parameters
        longest = getattr(self.config, "max_position_embeddings", None)
        family, images, self._recorder = family_of(lm.config.model_type), None, None
        if family is not None and family.vision:
            self._recorder = Recorder(lm, self.decoder, family)
            if hasattr(processor, "image_processor"):
                images = ImageReader(processor, lm.config, family)
        self.encoder = Encoder(self.tokenizer, longest, images, bool(family and family.prefix))

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device | None = None,
        blocks: str | None = None,
        **options: Any,
    ) -> SteerableModel:
        """Load a model.

        Args:
            source: a name of the catalog (`smollm2-135m-instruct`, `shapes-llava`), a hub id, a
                local folder, a GGUF file, `(model, tokenizer)` or `(model, processor)`.
            dtype: such as `"bfloat16"`; float32 on a CPU and bfloat16 on a GPU if not given.
            device: such as `"cuda:1"`; a GPU where there is one if not given.
            blocks: dotted path of the decoder blocks, for a family that is not known.
            options: passed to transformers, such as `device_map`.

        Raises:
            GrainsError: if there is no such model, it cannot be read, or its blocks are not found.
        """
        lm, processor, name = load_pretrained(source, dtype=dtype, device=device, **options)
        return cls(lm, processor, name=name, blocks=blocks)

    def __repr__(self) -> str:
        return (
            f"SteerableModel({self.name!r}, {len(self.blocks)} blocks of width {self.width}, "
            f"{str(self.dtype).removeprefix('torch.')} on {self.device})"
        )

    @property
    def width(self) -> int:
        """Width of the residual stream, `d_model`."""
        return self.config.hidden_size

    @property
    def device(self) -> torch.device:
        """Where the embeddings live, and so where inputs go."""
        return self._table.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the embeddings."""
        return self._table.weight.dtype

    @property
    def dispatched(self) -> bool:
        """Whether the model is spread over devices and so must not be moved."""
        return bool(getattr(self.lm, "hf_device_map", None))

    def to(self, device: str | torch.device) -> SteerableModel:
        """Move the model, unless it is spread over devices; return it."""
        if not self.dispatched:
            self.lm.to(device)
        return self

    @property
    def image_token_id(self) -> int | None:
        """The token that stands for a part of a picture; None for a model that reads text alone."""
        return None if self.vision_blocks is None else self.lm.config.image_token_id

    # --- text and pictures in ------------------------------------------------------------------

    def encode(self, pairs: Sequence[ContrastivePair], side: Side | None) -> Encoded:
        """Encode the prompts with one side's answers, or the prompts alone if `side` is None.

        A vision tower runs here, once, and never again for the batch.
        """
        encoded, pixels = self.encoder.read(pairs, side, self.device)
        if self._recorder is None:
            return encoded
        return replace(encoded, replay=self._recorder.record(encoded, pixels))

    def embed(self, encoded: Encoded) -> Float[Tensor, "batch seq d_model"]:
        """Return the merged input embeddings: what enters the decoder; `Replay` tells of more."""
        if self._recorder is not None:
            return self._recorder.replay_of(encoded).embeddings
        with torch.no_grad():
            return self._table(encoded.input_ids)

    def filler(self, kind: Fill) -> Float[Tensor, " d_model"]:
        """Return the embedding that stands for nothing, as a baseline or in a masked position.

        It is as wide as what `embed` returns, zeros where that holds deep-stacked features.
        """
        fill = self._fills.of(kind)
        deep = self._recorder.deep if self._recorder else 0
        return torch.nn.functional.pad(fill, (0, deep * len(fill)))

    # --- numbers out ---------------------------------------------------------------------------

    def logits(
        self,
        encoded: Encoded,
        inputs: Float[Tensor, "batch seq d_model"] | None = None,
        *,
        keep: int = 0,
    ) -> Float[Tensor, "batch kept vocab"]:
        """Run the model.

        Args:
            encoded: the batch.
            inputs: embeddings to use instead of the tokens' own, such as masked ones.
            keep: logits of that many last columns only; 0 for all.
        """
        with ExitStack() as stack:
            if self._recorder is not None:
                replay = self._recorder.replay_of(encoded)
                whole = replay.embeddings if inputs is None else inputs
                inputs = stack.enter_context(replay.into(self.decoder, whole))
            fed = {"input_ids": encoded.input_ids} if inputs is None else {"inputs_embeds": inputs}
            fed |= self.positions(encoded.position_ids)
            stack.enter_context(prompt_ends_at(encoded.prompt_length, encoded.image))
            stack.enter_context(contiguous_head(self.lm.get_output_embeddings()))
            return self.lm(
                **fed,
                attention_mask=encoded.attention_mask,
                use_cache=False,
                logits_to_keep=keep,
            ).logits

    def positions(self, position_ids: Int[Tensor, "batch seq"]) -> dict[str, Tensor]:
        """Return what the model is to be told of positions: nothing, if it counts them itself."""
        return {"position_ids": position_ids} if self._takes_positions else {}

    def token_log_probs(
        self, encoded: Encoded, inputs: Float[Tensor, "batch seq d_model"] | None = None
    ) -> Float[Tensor, "batch answer"]:
        """Return log p of each answer token given all before it; 0 at padding."""
        width = encoded.input_ids.shape[1] - encoded.prompt_length
        # logits[t - 1] scores token t: one more column in front, and the last one left out.
        logits = self.logits(encoded, inputs, keep=width + 1)[:, -width - 1 : -1]
        return token_log_probs(logits, encoded)

    def answer_log_prob(
        self,
        encoded: Encoded,
        inputs: Float[Tensor, "batch seq d_model"] | None = None,
        *,
        reduction: Reduction = "mean",
    ) -> Float[Tensor, " batch"]:
        """Return the teacher-forced log-probability of each answer, in nats (a token, for `mean`).

        Raises:
            GrainsError: if it is not finite, naming the pair.
        """
        return reduced(self.token_log_probs(encoded, inputs), encoded, reduction)

    @overload
    def generate(self, prompts: str, images: Any = None, **options: Any) -> str: ...
    @overload
    def generate(
        self, prompts: list[str], images: Sequence[Any] | None = None, **options: Any
    ) -> list[str]: ...
    def generate(
        self,
        prompts: str | list[str],
        images: Any = None,
        *,
        template: str | None = None,
        max_new_tokens: int = 64,
        **options: Any,
    ) -> str | list[str]:
        """Answer prompts; greedy, unless `options` say otherwise.

        Args:
            prompts: one prompt or several, which are then answered as one batch.
            images: for one prompt a picture or a tuple of pictures; for several, as many of these
                as prompts, None where there is none.
            template: as in `ContrastivePair`; the chat template, where there is one, if not given.
            max_new_tokens: the longest answer, 1 or more.
            options: passed to transformers' `generate`, such as `num_beams` or `do_sample`. There
                is one answer a prompt: for several, give the prompt several times.

        Raises:
            GrainsError: if there is no prompt, the images are not as many, or `max_new_tokens` or
                `num_return_sequences` is not as said.
        """
        pairs = asked(prompts, images, template or self.encoder.default_template())
        check_amount(max_new_tokens, options.get("num_return_sequences") or 1)
        encoded, pixels = self.encoder.read(pairs, None, self.device)
        fed = {"input_ids": encoded.input_ids, "attention_mask": encoded.attention_mask}
        if self._recorder is not None:
            fed = self._recorder.inputs(encoded, pixels)
        options = {"do_sample": False, **options}
        with prompt_ends_at(encoded.prompt_length), torch.no_grad():
            tokens = self.lm.generate(
                **fed,
                max_new_tokens=max_new_tokens,
                pad_token_id=self.tokenizer.pad_token_id,
                **options,
            )
        new = tokens[:, encoded.prompt_length :]
        answers = [text.strip() for text in self.tokenizer.batch_decode(new, True)]
        return answers[0] if isinstance(prompts, str) else answers

    # --- who it is -----------------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What a steering vector must find again: family, `mark_of` the decoder and the tower."""
        own = mark_of(self.blocks, self.width, ("embeddings", self._table.weight))
        family = {"model_type": self.lm.config.model_type}
        if self.heads is not None:
            family |= {"heads": {"n_blocks": len(self.heads), "width": self.heads.width}}
        if self.vision_blocks is None:
            return family | own
        return family | own | {"vision": mark_of(self.vision_blocks, vision_width(self.lm.config))}

    @property
    def _table(self) -> Any:
        return self.lm.get_input_embeddings()
