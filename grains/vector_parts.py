"""The parts of a steering vector, each checked before it is kept, and their sum.

They come from a fit, from a user's hands or from a file of unknown origin; the same checks serve.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from numbers import Real
from statistics import fmean
from typing import Any, get_args, get_type_hints

import torch
from jaxtyping import Float
from torch import Tensor

from grains.errors import GrainsError, did_you_mean
from grains.hooks import Edit
from grains.injectors.base import INJECTORS, Injector
from grains.layers import show_layers
from grains.types import Positions, Site

SUMMABLE = ("additive", "normalized")
"""Injectors whose coefficient is the length of a displacement, so that two of them have a sum."""


def checked_directions(directions: Mapping[int, Tensor]) -> dict[int, Float[Tensor, " d_model"]]:
    """Return copies in float32 on the CPU, in the order of layers.

    Raises:
        GrainsError: if there is none, or one is not finite, not a unit vector or of another width.
    """
    if not directions:
        raise GrainsError("there are no directions; wanted one layer or more")
    checked: dict[int, Tensor] = {}
    for layer in sorted(directions):
        given = directions[layer]
        if not isinstance(layer, int) or layer < 0:
            raise GrainsError(
                f"a direction is given for layer {layer!r}; wanted a number from 0 on"
            )
        if not (isinstance(given, Tensor) and given.ndim == 1 and given.is_floating_point()):
            found = f"{given.dtype} {list(given.shape)}" if isinstance(given, Tensor) else given
            raise GrainsError(f"the direction of layer {layer} is {found}; wanted floats [d_model]")
        length = float(given.detach().double().norm())
        if not abs(length - 1) < 1e-3:
            state = f"has length {length:g}" if math.isfinite(length) else "is not finite"
            raise GrainsError(f"the direction of layer {layer} {state}; wanted a unit vector")
        checked[layer] = given.detach().to("cpu", torch.float32, copy=True).contiguous()
    widths = {len(direction) for direction in checked.values()}
    if len(widths) > 1:
        raise GrainsError(f"the directions have widths {sorted(widths)}; wanted a single one")
    return checked


def checked_by_layer(
    values: Mapping[int, float], layers: Iterable[int], what: str, default: float | None = None
) -> dict[int, float]:
    """Return one finite number for each of the layers, in their order.

    Raises:
        GrainsError: for a layer too many, or for one that is missing where there is no default.
    """
    layers = list(layers)
    if surplus := [layer for layer in values if layer not in layers]:
        raise GrainsError(f"layer {surplus[0]} has a {what} but no direction; wanted both")
    if default is None and (missing := [layer for layer in layers if layer not in values]):
        raise GrainsError(f"layer {missing[0]} has a direction but no {what}; wanted both")
    return {n: checked_number(values.get(n, default), f"the {what} of layer {n}") for n in layers}


def checked_layer(tensor: str) -> int:
    """Return the layer of a tensor's name, `direction.<layer>`."""
    match = re.fullmatch(r"direction\.(0|[1-9][0-9]{0,5})", tensor)
    if not match:
        raise GrainsError(f"it holds a tensor {tensor!r}; wanted direction.<layer> alone")
    return int(match[1])


def checked_number(value: Any, what: str) -> float:
    """Return a finite float, or refuse the value by the name `what`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise GrainsError(f"{what} is {value!r}; wanted a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise GrainsError(f"{what} is {number}; wanted a finite number")
    return number


def checked_positions(
    positions: Any, site: Site = "decoder", *, pictures: bool = True
) -> Positions:
    """Return one of the names of positions, or suggest one; a vision tower has `all` alone.

    `pictures` says whether the model reads them: else there are no `image` positions.
    """
    if positions not in get_args(Positions):
        near = did_you_mean(str(positions), get_args(Positions))
        raise GrainsError(f"the positions are {positions!r}; {near}")
    if site == "vision" and positions != "all":
        raise GrainsError(
            f"the positions are {positions!r} in the vision tower, which knows no prompt; "
            "wanted 'all'"
        )
    if positions == "image" and not pictures:
        raise GrainsError(
            "positions is 'image' and the model reads text alone; wanted a vision-language model, "
            "or other positions"
        )
    return positions


def refuse_unread(
    layers: Iterable[int], n_layers: int, positions: Positions, *, last: int = 1
) -> None:
    """Refuse to steer pictures where nothing reads them any more.

    Args:
        layers: the steered ones.
        n_layers: how many there are; heads count as layers where they are steered.
        positions: the steered ones.
        last: how many of the layers belong to the last block.
    """
    first = n_layers - last
    if positions == "image" and (given := sorted(layers)) and given[0] >= first:
        raise GrainsError(
            f"layers is {show_layers(given)!r} and positions is 'image': what the last block says "
            f"of a picture reaches no answer; wanted a layer of 0 to {first - 1}"
        )


def named_injector(spec: Any) -> Injector:
    """Build an injector by name, one that it wraps likewise.

    A dotted path is refused: a file must not make us import.

    Raises:
        GrainsError: for an unknown name or unknown settings.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise GrainsError(f"the injector is {spec!r}; wanted a mapping with 'name'")
    if "class_path" in spec:
        raise GrainsError(f"the injector has a class_path, {spec['class_path']!r}; wanted a name")
    if spec["name"] not in INJECTORS.names():
        near = did_you_mean(spec["name"], INJECTORS.names())
        raise GrainsError(f"the injector {spec['name']!r} is not registered; {near}")
    hints = get_type_hints(INJECTORS.get(spec["name"]))
    wrapped = {
        key: named_injector({"name": part} if isinstance(part, str) else part)
        for key, part in spec.items()
        if hints.get(key) is Injector
    }
    return INJECTORS.build({**spec, **wrapped})


def placed_edit(
    injector: Injector, direction: Float[Tensor, " d_model"], strength: float, norm: float
) -> Edit:
    """Return the injector's edit with its direction wherever hidden states turn up."""
    placed: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def move(hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        key = (hidden.device, hidden.dtype)
        if key not in placed:
            # One made in inference mode could not be used later where gradients are wanted.
            with torch.inference_mode(False):
                placed[key] = direction.to(*key)
        return injector.edit(hidden, placed[key], strength, norm)

    return move


def refuse_unsummable(one: Any, other: Any) -> None:
    """Refuse two steering vectors whose sum means nothing.

    They are of two models, injectors, scopes of positions or sites; or of an injector that has no
    sum: two projections, rotations or clamps give another result in another order, and none of them
    is one of the same kind along the sum of the directions.
    """
    name = INJECTORS.name_of(one.injector)
    if name not in SUMMABLE:
        raise GrainsError(
            f"vectors of the injector {name!r} have no sum, since it does not displace by "
            f"coefficient * norm * direction; wanted {' or '.join(SUMMABLE)}"
        )
    for what in ("site", "injector", "positions", "width"):
        ours, theirs = getattr(one, what), getattr(other, what)
        if ours != theirs:
            raise GrainsError(f"the {what} is {ours!r} and {theirs!r}; wanted the same in both")
    ours, theirs = one.card.get("fingerprint"), other.card.get("fingerprint")
    if ours != theirs:
        raise GrainsError(f"the vectors are of two models, {ours} and {theirs}; wanted one")


Push = tuple[Mapping[int, Tensor], Mapping[int, float], Mapping[int, float]]
"""Layer to a unit vector `[d_model]`, to the layer's norm, and to the strength in units of it."""


def summed(
    pushes: Iterable[Push],
) -> tuple[dict[int, Float[Tensor, " d_model"]], dict[int, float], dict[int, float]]:
    """Return the one push that moves hidden states by what all of them do, added up.

    Its norms are means of theirs; a layer that some of them leave alone is moved by the others.
    """
    terms: dict[int, list[tuple[Tensor, float, float]]] = {}
    for directions, norms, strengths in pushes:
        for layer, direction in directions.items():
            term = (direction.double(), norms[layer], strengths[layer])
            terms.setdefault(layer, []).append(term)
    units: dict[int, Tensor] = {}
    means: dict[int, float] = {}
    lengths: dict[int, float] = {}
    for layer, parts in sorted(terms.items()):
        moved = torch.stack([unit * (strength * norm) for unit, norm, strength in parts]).sum(0)
        length = float(moved.norm())
        means[layer] = fmean(norm for _, norm, _ in parts)
        lengths[layer] = length / means[layer]
        # Where they cancel out, any direction does, at a strength of 0.
        units[layer] = moved / length if length else parts[0][0]
    return units, means, lengths


def fingerprint_of(model: Any) -> Mapping[str, Any]:
    """Return the fingerprint of a model that can be steered.

    Raises:
        GrainsError: for anything else, such as the transformers model itself.
    """
    found = getattr(model, "fingerprint", None)
    if not isinstance(found, Mapping):
        raise GrainsError(
            f"the model is a {type(model).__name__}; wanted a SteerableModel, as "
            "SteerableModel.load((model, tokenizer)) makes one"
        )
    return found
