"""Which layers: from the words that users write to block numbers, and back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from numbers import Integral

from grains.errors import GrainsError


def parse_layers(spec: str | int | Sequence[int], n_blocks: int) -> tuple[int, ...]:
    """Return the layers that a user means.

    Args:
        spec: `"8-19"`, `"3,5,8-10"`, a number, a list of numbers, `"all"`, or `"middle"`: the
            blocks from 27 % to 67 % of the depth, where steering moves most for its damage.
        n_blocks: how many there are.

    Raises:
        GrainsError: for anything else, and for a layer that the model does not have.

    >>> parse_layers("8-10,12", 30)
    (8, 9, 10, 12)
    >>> parse_layers("middle", 30)
    (8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
    """
    if isinstance(spec, str) and spec == "all":
        return tuple(range(n_blocks))
    if isinstance(spec, str) and spec == "middle":
        first = math.floor(0.27 * n_blocks)
        return tuple(range(first, max(first + 1, math.floor(0.67 * n_blocks))))
    refusal = GrainsError(
        f"layers is {spec!r}; wanted such as '8-19', '3,5,8-10', 'middle' or 'all'"
    )
    if isinstance(spec, str):
        layers: list[int] = []
        for part in spec.split(","):
            found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
            if not found:
                raise refusal
            first, last = int(found[1]), int(found[2] or found[1])
            layers += range(first, last + 1)
    else:
        given = list(spec) if isinstance(spec, Iterable) else [spec]
        if any(isinstance(layer, bool) or not isinstance(layer, Integral) for layer in given):
            raise refusal
        layers = [int(layer) for layer in given]
    outside = [layer for layer in layers if not 0 <= layer < n_blocks]
    if outside:
        raise GrainsError(
            f"layers is {spec!r}: the model has no layer {outside[0]}; wanted 0 to {n_blocks - 1}"
        )
    if not layers:
        raise GrainsError(f"layers is {spec!r}, which names none; wanted one or more")
    return tuple(sorted(set(layers)))


def show_layers(layers: Sequence[int]) -> str:
    """Return layers as a user writes them.

    >>> show_layers([8, 9, 10, 12])
    '8-10,12'
    """
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
