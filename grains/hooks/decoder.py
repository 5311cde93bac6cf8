"""What the decoder is called with: read once, and put in place again.

A vision-language model merges text and pictures before its decoder. With these two the merging is
done once, and the decoder then runs on changed embeddings with all else as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


class _Captured(Exception):
    """Ends a pass before the decoder runs."""


@contextmanager
def capturing_arguments(decoder: nn.Module) -> Iterator[dict[str, Any]]:
    """Read the keyword arguments of the decoder's next call, and end the pass there.

    Args:
        decoder: the module that owns the decoder blocks.

    Yields:
        A dictionary, filled while the model runs; the call, the last statement of the context, then
        returns nothing.
    """
    seen: dict[str, Any] = {}

    def hook(_module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        seen.update(kwargs)
        raise _Captured

    handle = decoder.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield seen
    except _Captured:
        pass
    finally:
        handle.remove()


@contextmanager
def replacing_arguments(decoder: nn.Module, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Call the decoder with these keyword arguments instead of those it is given."""

    def hook(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**kwargs, **arguments}

    handle = decoder.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
