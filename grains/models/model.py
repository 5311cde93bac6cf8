"""A transformers model behind the few verbs that steering needs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from grains.errors import GrainsError
from grains.hooks import contiguous_head, prompt_ends_at
from grains.models.encoding import Encoded, Encoder
from grains.models.families import find_blocks
from grains.models.fingerprint import weights_hash
from grains.models.loading import load_pretrained
from grains.types import ContrastivePair, Reduction, Side

Fill = Literal["mean", "eos", "pad", "zeros"]
"""An embedding that says nothing: the table's mean, a token's, or zeros."""


class SteerableModel:
    """A frozen causal language model that can be read, attributed and steered.

    Not an `nn.Module`, so that no checkpoint, cast or move of a trainer touches it.

    Args:
        lm: a transformers causal language model.
        tokenizer: its fast tokenizer.
        name: what artifacts call the model.
        blocks: dotted path of the decoder blocks, for a family that is not known.

    Attributes:
        lm: the model as transformers made it.
        blocks: its decoder blocks, in order.
        decoder: the module that owns them and is called once a pass.
        encoder: turns pairs into token ids.
    """

    def __init__(
        self, lm: Any, tokenizer: Any, *, name: str = "", blocks: str | None = None
    ) -> None:
        self.lm = lm.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name or getattr(lm.config, "name_or_path", "") or type(lm).__name__
        self.config = lm.config.get_text_config()
        self.blocks_path, self.blocks = find_blocks(lm, blocks)
        self.decoder: nn.Module = lm.get_decoder()
        longest = getattr(self.config, "max_position_embeddings", None)
        self.encoder = Encoder(tokenizer, longest)

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
            source: a name of the catalog (`smollm2-135m-instruct`), a hub id, a local folder, a
                GGUF file, or `(model, tokenizer)`.
            dtype: such as `"bfloat16"`; float32 on a CPU and bfloat16 on a GPU if not given.
            device: such as `"cuda:1"`; a GPU where there is one if not given.
            blocks: dotted path of the decoder blocks, for a family that is not known.
            options: passed to transformers, such as `device_map`.

        Raises:
            GrainsError: if there is no such model, it cannot be read, or its blocks are not found.
        """
        lm, tokenizer, name = load_pretrained(source, dtype=dtype, device=device, **options)
        return cls(lm, tokenizer, name=name, blocks=blocks)

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

    # --- text in -------------------------------------------------------------------------------

    def encode(self, pairs: Sequence[ContrastivePair], side: Side | None) -> Encoded:
        """Encode the prompts with one side's answers, or the prompts alone if `side` is None."""
        return self.encoder.encode(pairs, side, self.device)

    def embed(self, encoded: Encoded) -> Float[Tensor, "batch seq d_model"]:
        """Return the merged input embeddings: what enters the decoder."""
        with torch.no_grad():
            return self._table(encoded.input_ids)

    def filler(self, kind: Fill) -> Float[Tensor, " d_model"]:
        """Return the embedding that stands for nothing, as a baseline or in a masked position."""
        if kind == "zeros":  # as wide as the table, which OPT's residual stream may exceed
            return torch.zeros_like(self._table.weight[0])
        if kind == "mean":
            return self._mean_embedding
        token = getattr(self.tokenizer, f"{kind}_token_id", None)
        if token is None:
            raise GrainsError(f"the fill is {kind!r}, but the tokenizer has no such token")
        with torch.no_grad():
            return self._table(torch.tensor(token, device=self.device))

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
        fed = {"input_ids": encoded.input_ids} if inputs is None else {"inputs_embeds": inputs}
        if self._takes_positions:
            fed["position_ids"] = encoded.position_ids
        head = self.lm.get_output_embeddings()
        with prompt_ends_at(encoded.prompt_length), contiguous_head(head):
            return self.lm(
                **fed,
                attention_mask=encoded.attention_mask,
                use_cache=False,
                logits_to_keep=keep,
            ).logits

    def token_log_probs(
        self, encoded: Encoded, inputs: Float[Tensor, "batch seq d_model"] | None = None
    ) -> Float[Tensor, "batch answer"]:
        """Return log p of each answer token given all before it; 0 at padding."""
        start = encoded.prompt_length
        width = encoded.input_ids.shape[1] - start
        # logits[t - 1] scores token t: one more column in front, and the last one left out.
        logits = self.logits(encoded, inputs, keep=width + 1)[:, -width - 1 : -1]
        answer = encoded.answer_mask[:, start:]
        # Padding is left out first: the vocabulary is wide. Float32 for what is narrower than it.
        scored = logits[answer]
        losses = torch.nn.functional.cross_entropy(
            scored.to(torch.promote_types(scored.dtype, torch.float32)),
            encoded.input_ids[:, start:][answer],
            reduction="none",
        )
        return losses.new_zeros(answer.shape).masked_scatter(answer, -losses)

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
        total = self.token_log_probs(encoded, inputs).sum(1)
        finite = total.detach().isfinite()
        if not finite.all():
            name = encoded.names[int((~finite).nonzero()[0, 0])]
            raise GrainsError(
                f"pair {name!r}: the model's log-probability is {total[~finite][0].item()}; wanted "
                "a finite number (a larger dtype, such as float32, or a smaller coefficient)"
            )
        return total / encoded.answer_mask.sum(1) if reduction == "mean" else total

    @overload
    def generate(self, prompts: str, **options: Any) -> str: ...
    @overload
    def generate(self, prompts: list[str], **options: Any) -> list[str]: ...
    def generate(
        self,
        prompts: str | list[str],
        *,
        template: str | None = None,
        max_new_tokens: int = 64,
        **options: Any,
    ) -> str | list[str]:
        """Answer prompts; greedy, unless `options` say otherwise.

        Args:
            prompts: one prompt or several, which are then answered as one batch.
            template: as in `ContrastivePair`; the chat template, where there is one, if not given.
            max_new_tokens: the longest answer, 1 or more.
            options: passed to transformers' `generate`, such as `num_beams` or `do_sample`. There
                is one answer a prompt: for several, give the prompt several times.

        Raises:
            GrainsError: if there is no prompt, or `max_new_tokens` or `num_return_sequences` is not
                as said.
        """
        several = [prompts] if isinstance(prompts, str) else list(prompts)
        if not several:
            raise GrainsError("there are no prompts; wanted one or more")
        if max_new_tokens < 1:
            raise GrainsError(f"max_new_tokens is {max_new_tokens}; wanted 1 or more")
        if (count := options.get("num_return_sequences") or 1) != 1:
            raise GrainsError(
                f"num_return_sequences is {count}; wanted 1: give the prompt {count} times"
            )
        template = template or self.encoder.default_template()
        pairs = [
            ContrastivePair(prompt=prompt, chosen="yes", rejected="no", template=template)
            for prompt in several
        ]
        encoded = self.encode(pairs, None)
        options = {"do_sample": False, **options}
        with prompt_ends_at(encoded.prompt_length), torch.no_grad():
            tokens = self.lm.generate(
                input_ids=encoded.input_ids,
                attention_mask=encoded.attention_mask,
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
        """What a steering vector must find again: family, blocks, width, and a hash of weights.

        The hash samples the embeddings and every parameter of every block, as `weights_hash` says.
        """
        named = [("embeddings", self._table.weight), *self.blocks.named_parameters()]
        return {
            "model_type": self.lm.config.model_type,
            "n_blocks": len(self.blocks),
            "width": self.width,
            "weights": weights_hash(named),
        }

    @property
    def _table(self) -> Any:
        return self.lm.get_input_embeddings()

    @cached_property
    def _mean_embedding(self) -> Float[Tensor, " d_model"]:
        # Through the module, not its weight: Gemma's scales what it looks up.
        count, width = self._table.weight.shape
        tokens = torch.arange(count, device=self.device)
        total = torch.zeros(width, device=self.device, dtype=torch.float64)
        with torch.no_grad():
            for part in tokens.split(8192):
                total += self._table(part).double().sum(0)
        return (total / len(tokens)).to(self.dtype)

    @cached_property
    def _takes_positions(self) -> bool:
        import inspect

        return "position_ids" in inspect.signature(self.lm.forward).parameters
