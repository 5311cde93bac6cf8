"""What a vision-language model hands to its decoder, kept: recorded once, replayed many times.

A model with a vision tower merges text and pictures into one sequence of embeddings. A `Recorder`
runs it up to that point; `Replay.into` lets the decoder run on changed embeddings, with the masks
and positions that belong to the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from grains.hooks import replacing_arguments


@dataclass(frozen=True)
class Replay:
    """The merged embeddings of a batch, and the decoder's other arguments.

    Qwen3-VL's vision tower also feeds features of its lower blocks into the outputs of the first
    decoder blocks (deep stacking). They ride along: the last axis holds the embedding that enters
    block 0, then the features that are added to the outputs of blocks 0, 1, ...; zeros at text. So
    whoever integrates over the embeddings, or masks them, does it jointly for all that a picture
    says. For other models the last axis is `d_model` wide.

    Args:
        embeddings: what enters the decoder, deep-stacked features behind.
        arguments: the decoder's other keyword arguments.
    """

    embeddings: Float[Tensor, "batch seq features"]
    arguments: dict[str, Any]

    def take(self, rows: Int[Tensor, " rows"]) -> Replay:
        """Return the chosen rows, which may repeat."""
        batch = len(self.embeddings)

        def chosen(name: str, value: Tensor) -> Tensor:
            axis = _batch_axis(name, value)
            if value.shape[axis] != batch:  # of length 1: the same for all rows
                return value
            return value.index_select(axis, rows.to(value.device))

        return self._mapped(self.embeddings[rows.to(self.embeddings.device)], chosen)

    def first(self, columns: int) -> Replay:
        """Return the first columns: what was recorded there saw nothing behind them."""

        def cut(name: str, value: Tensor) -> Tensor:
            if name == "attention_mask" and value.ndim == 4:
                return value[..., :columns, :columns]
            return value[..., :columns]

        return self._mapped(self.embeddings[:, :columns], cut)

    def to(self, device: Any) -> Replay:
        """Return the replay on a device."""
        return self._mapped(self.embeddings.to(device), lambda _, value: value.to(device))

    @contextmanager
    def into(
        self, decoder: nn.Module, inputs: Float[Tensor, "batch seq features"]
    ) -> Iterator[Float[Tensor, "batch seq d_model"]]:
        """Let the decoder, when it is called, run on other embeddings.

        Args:
            decoder: the module that was recorded.
            inputs: embeddings, deep-stacked features behind.

        Yields:
            The embeddings without those features, to call the whole model with.
        """
        arguments = dict(self.arguments)
        here = arguments.get("visual_pos_masks")
        first, *deep = inputs.split(_width(decoder), dim=-1)
        if here is not None:
            arguments["deepstack_visual_embeds"] = [part[here] for part in deep]
        with replacing_arguments(decoder, {**arguments, "inputs_embeds": first}):
            yield first

    def _mapped(self, embeddings: Tensor, change: Callable[[str, Tensor], Tensor]) -> Replay:
        def mapped(name: str, value: Any) -> Any:
            if isinstance(value, Mapping):  # masks by kind of layer
                return {key: mapped(name, part) for key, part in value.items()}
            return change(name, value) if isinstance(value, Tensor) and value.ndim > 1 else value

        arguments = {name: mapped(name, value) for name, value in self.arguments.items()}
        return replace(self, embeddings=embeddings, arguments=arguments)


def _batch_axis(name: str, value: Tensor) -> int:
    return 1 if name == "position_ids" and value.ndim == 3 else 0  # 3 or 4 kinds of position first


def _width(decoder: Any) -> int:
    return decoder.config.get_text_config().hidden_size
