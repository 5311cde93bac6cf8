"""The only place that registers a hook: reading the residual stream, and editing it.

Every function here is a context manager that leaves nothing behind, also after an exception.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from grains.errors import GrainsError
from grains.types import Positions

Edit = Callable[[Tensor], Tensor]
"""A hidden state `[..., d_model]` to another of the same shape and dtype."""

_PROMPT_LENGTH: ContextVar[int | None] = ContextVar("prompt_length", default=None)


@runtime_checkable
class Hookable(Protocol):
    """What a hook needs of a model: the transformers model, its decoder and its blocks."""

    lm: Any
    decoder: nn.Module
    blocks: nn.ModuleList


class _Stopped(Exception):
    """Ends a forward pass once everything that was wanted is read."""


@contextmanager
def recording(
    model: Hookable,
    layers: Iterable[int],
    keep: Callable[[Float[Tensor, "batch seq d_model"]], Any] = lambda hidden: hidden,
    *,
    stop: bool = False,
) -> Iterator[dict[int, Any]]:
    """Read the residual stream at the outputs of some blocks.

    Args:
        model: the model that is run inside the context.
        layers: which blocks.
        keep: what is kept of each `[batch, seq, d_model]`; the whole tensor by default.
        stop: end the forward pass after the last of the blocks, so that what follows is not
            computed; the call, the last statement of the context, then returns nothing.

    Yields:
        A dictionary, filled while the model runs: layer to what was kept.
    """
    wanted = sorted(set(layers))
    read: dict[int, Any] = {}

    def reader(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            read[layer] = keep(output[0] if isinstance(output, tuple) else output)
            if stop and layer == wanted[-1]:
                raise _Stopped

        return hook

    with ExitStack() as stack:
        for layer in wanted:
            handle = model.blocks[layer].register_forward_hook(reader(layer))
            stack.callback(handle.remove)
        try:
            yield read
        except _Stopped:
            pass


@contextmanager
def prompt_ends_at(column: int) -> Iterator[None]:
    """Say where the prompt ends in the passes run inside: the column of the first answer token."""
    token = _PROMPT_LENGTH.set(column)
    try:
        yield
    finally:
        _PROMPT_LENGTH.reset(token)


@contextmanager
def editing(
    model: Hookable, edits: Mapping[int, Edit], positions: Positions = "all"
) -> Iterator[None]:
    """Change the residual stream at the outputs of some blocks while the context is open.

    Works in plain passes and in `generate`, with any cache or none, greedy, sampled or beams: the
    decoder says before each pass which columns it holds, so a cached step of one token and a full
    pass agree on what is prompt and what is generated. Nothing here looks at padding: padded
    prompts must be padded on the left, as generation wants them.

    Args:
        model: the model that is run inside the context.
        edits: layer to the function that is applied to the hidden states there.
        positions: which columns. In a pass outside of `generate` and of `prompt_ends_at`, all
            columns without a cache are the prompt.
    """
    steered = _Steered(positions)

    def editor(edit: Edit) -> Callable[..., Any]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            if not steered.any:
                return None
            if isinstance(output, tuple):
                return (steered.apply(edit, output[0]), *output[1:])
            return steered.apply(edit, output)

        return hook

    with ExitStack() as stack:
        watch = model.decoder.register_forward_pre_hook(steered.watch, with_kwargs=True)
        stack.callback(watch.remove)
        for layer, edit in edits.items():
            handle = model.blocks[layer].register_forward_hook(editor(edit))
            stack.callback(handle.remove)
        stack.enter_context(_marked_generation(model.lm))
        yield


@contextmanager
def contiguous_head(head: nn.Module) -> Iterator[None]:
    """Hand the output head whole blocks of memory.

    With `logits_to_keep` transformers slices the hidden states, and torch multiplies a slice by a
    frozen weight row by row: 3 times slower in float32, and 10 times in bfloat16 on a CPU.
    """
    handle = head.register_forward_pre_hook(
        lambda _module, args: (args[0].contiguous(), *args[1:]) if args else None
    )
    try:
        yield
    finally:
        handle.remove()


class _Steered:
    """The columns of the current pass that are edited: a slice, from where the prompt ends."""

    def __init__(self, positions: Positions) -> None:
        self.positions = positions
        self.any = True
        self.columns = slice(None)

    def watch(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.positions == "all":
            return
        tokens = next(
            value
            for value in (kwargs.get("inputs_embeds"), kwargs.get("input_ids"), *args)
            if value is not None
        )
        cache = kwargs.get("past_key_values")
        start = int(cache.get_seq_length()) if cache is not None else 0
        length = tokens.shape[1]
        prompt = _PROMPT_LENGTH.get()
        if prompt is None:
            # Outside of generate, what is already in the cache and what comes first is the prompt.
            prompt = start if start else length
            self._refuse_right_padding(kwargs.get("attention_mask"))
        seam = min(max(prompt - start, 0), length)
        if self.positions == "prompt":
            low, high = 0, seam
        elif self.positions == "generated":
            low, high = seam, length
        else:
            low, high = min(max(prompt - 1 - start, 0), length), length
        self.any = low < high
        self.columns = slice(None) if (low, high) == (0, length) else slice(low, high)

    def apply(self, edit: Edit, hidden: Tensor) -> Tensor:
        if self.columns == slice(None):
            return edit(hidden)
        # Not in place: the block's output may be needed as it was by autograd.
        edited = hidden.clone()
        edited[:, self.columns] = edit(hidden[:, self.columns])
        return edited

    def _refuse_right_padding(self, mask: Any) -> None:
        if self.positions == "last" and isinstance(mask, Tensor) and mask.ndim == 2:
            if not bool(mask[:, -1].all()):
                raise GrainsError(
                    "positions is 'last' and the batch is padded on the right; wanted left padding"
                )


@contextmanager
def _marked_generation(lm: Any) -> Iterator[None]:
    """Let `generate` say how long its prompt is: without a cache no single pass can tell."""
    before = vars(lm).get("generate")
    generate = lm.generate

    @functools.wraps(generate)
    def marked(*args: Any, **kwargs: Any) -> Any:
        given = [*args[:1], *(kwargs.get(key) for key in ("inputs", "input_ids", "inputs_embeds"))]
        prompt = next((value for value in given if isinstance(value, Tensor)), None)
        if prompt is None or _PROMPT_LENGTH.get() is not None:
            return generate(*args, **kwargs)
        with prompt_ends_at(prompt.shape[1]):
            return generate(*args, **kwargs)

    lm.generate = marked
    try:
        yield
    finally:
        if before is None:
            del lm.generate
        else:
            lm.generate = before
