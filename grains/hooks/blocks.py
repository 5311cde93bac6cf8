"""Blocks: their outputs read, and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from grains.errors import GrainsError
from grains.hooks.columns import Steered, marked_generation
from grains.hooks.heads import Heads
from grains.types import Positions, Site, checked_choice

Edit = Callable[[Tensor], Tensor]
"""A hidden state `[..., d_model]` to another of the same shape and dtype."""


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
    site: Site = "decoder",
) -> Iterator[dict[int, Any]]:
    """Read the residual stream at the outputs of some blocks, or the outputs of attention heads.

    Args:
        model: the model that is run inside the context.
        layers: which blocks, or which heads.
        keep: what is kept of each `[batch, seq, d_model]`; the whole tensor by default.
        stop: end the forward pass after the last of the blocks, so that what follows is not
            computed; the call, the last statement of the context, then returns nothing.
        site: of the decoder, or of the vision tower, whose blocks give `[pictures, seq, d_model]`
            or, in Qwen's towers, `[patches, d_model]`. The tower runs when pairs are encoded and
            when answers are generated, and not when embeddings are scored. Or `heads`, which give
            `[batch, seq, width of a head]`.

    Yields:
        A dictionary, filled while the model runs: layer to what was kept.

    Raises:
        GrainsError: for the site `vision` of a model that reads text alone, and for the site
            `heads` of one whose heads are not known.
    """
    blocks = _blocks_of(model, site)
    wanted = sorted(set(layers))
    read: dict[int, Any] = {}

    def note(layer: int, hidden: Tensor) -> None:
        read[layer] = keep(hidden)
        if stop and layer == wanted[-1]:
            raise _Stopped

    def reader(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            note(layer, output[0] if isinstance(output, tuple) else output)

        return hook

    with ExitStack() as stack:
        if isinstance(blocks, Heads):
            for handle in blocks.hook_reader(wanted, note):
                stack.callback(handle.remove)
        else:
            for layer in wanted:
                handle = blocks[layer].register_forward_hook(reader(layer))
                stack.callback(handle.remove)
        try:
            yield read
        except _Stopped:
            pass


@contextmanager
def editing(
    model: Hookable,
    edits: Mapping[int, Edit],
    positions: Positions = "all",
    *,
    site: Site = "decoder",
) -> Iterator[None]:
    """Change the outputs of some blocks, or attention heads, while the context is open.

    Works in plain passes and in `generate`, with any cache or none, greedy, sampled or beams: the
    decoder says before each pass which columns it holds, so a cached step of one token and a full
    pass agree on what is prompt, what is generated and what is a picture. Nothing here looks at
    padding: padded prompts must be padded on the left, as generation wants them.

    Args:
        model: the model that is run inside the context.
        edits: layer, or head, to the function that is applied to the hidden states there.
        positions: which columns. In a pass outside of `generate` and of `prompt_ends_at`, all
            columns without a cache are the prompt.
        site: of the decoder, or of the vision tower, at all of its tokens. The tower runs when
            pairs are encoded and when answers are generated: an `Encoded` made inside of the
            context keeps the edited features, one made outside does not get them. Or of single
            heads, before they are joined.

    Raises:
        GrainsError: for the site `vision` with other positions than `all`; for that site, or the
            positions `image`, if the model reads text alone; for the site `heads`, if those of the
            model are not known.
    """
    blocks = _blocks_of(model, site)
    steered = Steered(positions, getattr(model, "image_token_id", None))
    if site == "vision" and positions != "all":
        raise GrainsError(
            f"positions is {positions!r} in the vision tower, which knows no prompt; wanted 'all'"
        )

    def editor(edit: Edit) -> Callable[..., Any]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            if not steered.any:
                return None
            if isinstance(output, tuple):
                return (steered.apply(edit, output[0]), *output[1:])
            return steered.apply(edit, output)

        return hook

    def edit_head(head: int, hidden: Tensor) -> Tensor:
        return steered.apply(edits[head], hidden) if steered.any else hidden

    with ExitStack() as stack:
        if steered.by_modality:
            note = model.lm.register_forward_pre_hook(steered.note_ids, with_kwargs=True)
            stack.callback(note.remove)
        watch = model.decoder.register_forward_pre_hook(steered.watch, with_kwargs=True)
        stack.callback(watch.remove)
        if isinstance(blocks, Heads):
            for handle in blocks.hook_editor(edits, edit_head):
                stack.callback(handle.remove)
        else:
            for layer, edit in edits.items():
                # Towers hand on hidden states that transformers' own hooks gather: be there first.
                handle = blocks[layer].register_forward_hook(editor(edit), prepend=site == "vision")
                stack.callback(handle.remove)
        stack.enter_context(marked_generation(model.lm))
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


def _blocks_of(model: Hookable, site: Site) -> nn.ModuleList | Heads:
    if checked_choice(site, Site, "site") == "decoder":
        return model.blocks
    if site == "heads":
        if (heads := getattr(model, "heads", None)) is None:
            raise GrainsError(
                "site is 'heads' and where those of this model are is not known; wanted a model of "
                "another family, or 'decoder'"
            )
        return heads
    blocks = getattr(model, "vision_blocks", None)
    if blocks is None:
        raise GrainsError(
            "site is 'vision' and the model reads text alone; wanted a vision-language model, or "
            "'decoder'"
        )
    return blocks
