"""Which columns of a pass are steered: what is prompt, what is generated, what is a picture."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from jaxtyping import Bool
from torch import Tensor, nn

from grains.errors import GrainsError
from grains.types import Positions


class _Layout(NamedTuple):
    prompt: int
    image: Tensor | None


_LAYOUT: ContextVar[_Layout | None] = ContextVar("layout", default=None)


@contextmanager
def prompt_ends_at(column: int, image: Bool[Tensor, "rows seq"] | None = None) -> Iterator[None]:
    """Say where the prompt ends in the passes run inside: the column of the first answer token.

    Args:
        column: that column.
        image: which positions hold an image token, for passes that are given embeddings; where
            token ids are given, they say it themselves.
    """
    token = _LAYOUT.set(_Layout(column, image))
    try:
        yield
    finally:
        _LAYOUT.reset(token)


class Steered:
    """The positions of the current pass that are edited.

    For most scopes a slice of columns, for `image` and `text` a mask `[rows, seq]`.

    Args:
        positions: the scope.
        image_token: id of the token that stands for a part of a picture, None if there is none.
    """

    def __init__(self, positions: Positions, image_token: int | None) -> None:
        if positions == "image" and image_token is None:
            raise GrainsError(
                "positions is 'image' and the model reads text alone; wanted a vision-language "
                "model, or other positions"
            )
        self.positions = positions
        self.by_modality = positions in ("image", "text") and image_token is not None
        self.any = True
        self.where: slice | Tensor = slice(None)
        self._image_token = image_token
        self._ids: Tensor | None = None

    def note_ids(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember the token ids of the pass that begins; a hook of the whole model."""
        given = [kwargs.get("input_ids"), *args[:1]]
        self._ids = next((ids for ids in given if isinstance(ids, Tensor)), None)

    def watch(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find the positions of the pass that begins; a hook of the decoder."""
        if self.positions == "all" or (self.positions == "text" and not self.by_modality):
            return
        tokens = next(
            value
            for value in (kwargs.get("inputs_embeds"), kwargs.get("input_ids"), *args)
            if value is not None
        )
        cache = kwargs.get("past_key_values")
        start = int(cache.get_seq_length()) if cache is not None else 0
        if self.by_modality:
            self._watch_modality(tokens, start)
        else:
            self._watch_columns(tokens.shape[1], start, kwargs.get("attention_mask"))

    def _watch_columns(self, length: int, start: int, mask: Any) -> None:
        layout = _LAYOUT.get()
        if layout is None:
            # Outside of generate, what is already in the cache and what comes first is the prompt.
            prompt = start if start else length
            self._refuse_right_padding(mask)
        else:
            prompt = layout.prompt
        seam = min(max(prompt - start, 0), length)
        if self.positions == "prompt":
            low, high = 0, seam
        elif self.positions == "generated":
            low, high = seam, length
        else:
            low, high = min(max(prompt - 1 - start, 0), length), length
        self.any = low < high
        self.where = slice(None) if (low, high) == (0, length) else slice(low, high)

    def _watch_modality(self, tokens: Tensor, start: int) -> None:
        layout, shape = _LAYOUT.get(), tokens.shape[:2]
        if self._ids is not None and self._ids.shape == shape:
            image = self._ids == self._image_token
            if layout is not None:  # no picture is generated, whatever token is
                image[:, max(layout.prompt - start, 0) :] = False
        elif layout is not None and layout.image is not None and layout.image.shape == shape:
            image = layout.image
        else:
            raise GrainsError(
                f"positions is {self.positions!r} and a pass is given embeddings alone, which do "
                "not say where the picture is; wanted input_ids"
            )
        self.where = image if self.positions == "image" else ~image
        self.any = bool(self.where.any())

    def apply(self, edit: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        """Return the hidden states `[rows, seq, d_model]` with the steered ones edited."""
        if isinstance(self.where, slice) and self.where == slice(None):
            return edit(hidden)
        # Not in place: the block's output may be needed as it was by autograd.
        edited = hidden.clone()
        where = (slice(None), self.where) if isinstance(self.where, slice) else self.where
        if isinstance(where, Tensor):
            where = where.to(hidden.device)
        edited[where] = edit(hidden[where])
        return edited

    def _refuse_right_padding(self, mask: Any) -> None:
        if self.positions == "last" and isinstance(mask, Tensor) and mask.ndim == 2:
            if not bool(mask[:, -1].all()):
                raise GrainsError(
                    "positions is 'last' and the batch is padded on the right; wanted left padding"
                )


@contextmanager
def marked_generation(lm: Any) -> Iterator[None]:
    """Let `generate` say how long its prompt is: without a cache no single pass can tell."""
    before = vars(lm).get("generate")
    generate = lm.generate

    @functools.wraps(generate)
    def marked(*args: Any, **kwargs: Any) -> Any:
        given = [*args[:1], *(kwargs.get(key) for key in ("inputs", "input_ids", "inputs_embeds"))]
        prompt = next((value for value in given if isinstance(value, Tensor)), None)
        if prompt is None or _LAYOUT.get() is not None:
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
