"""The card of a steering vector: how it was made, as plain JSON.

=============  ================================================================================
`model`        name under which the model was loaded
`fingerprint`  what the model must show again: `model_type`, `n_blocks`, `width`, `weights`,
               under `vision` the last three of its vision tower, where it has one, and under
               `heads` number and width of its attention heads, where they are known
`site`         what is edited: outputs of blocks, `decoder` or `vision`, or of attention `heads`
`data`         id of the data set and of its split
`components`   settings of every component, by kind
`seeds`        by what they seeded
`certificates` what speaks for each direction, by layer
`validation`   rows of the table from which layers and coefficient were chosen
`versions`     of python, grains, torch and transformers
`created`      UTC, ISO 8601
`parents`      only after arithmetic: `factor`, `coefficient` and `card` of each vector that went in
=============  ================================================================================
"""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any

import numpy as np
from torch import Tensor

from grains._version import __version__
from grains.errors import GrainsError
from grains.types import Site

Card = dict[str, Any]

_PARTS = {
    "vision": "a vision tower and the model {} reads text alone; wanted a vision-language model",
    "heads": "attention heads and where those of the model {} are is not known; wanted another one",
}
"""The parts of a fingerprint beside the decoder, and what is said to a model without them."""


def new_card(
    *,
    model: str,
    fingerprint: Mapping[str, Any],
    data: Mapping[str, Any],
    components: Mapping[str, Any],
    seeds: Mapping[str, int],
    site: Site = "decoder",
    certificates: Mapping[int, Any] | None = None,
    validation: Iterable[Mapping[str, Any]] = (),
) -> Card:
    """Return the card of a vector made just now; the legend is at the top of this module."""
    return plain(
        {
            "model": model,
            "fingerprint": fingerprint,
            "site": site,
            "data": data,
            "components": components,
            "seeds": seeds,
            "certificates": certificates or {},
            "validation": list(validation),
            **_made_now(),
        }
    )


def combined(terms: Sequence[tuple[float, float, Card]]) -> Card:
    """Return the card of a linear combination, given factor, coefficient and card of each term.

    The combination is written over the vectors that were fitted, so that arithmetic on results of
    arithmetic stays flat, and what ends as one such vector times 1 has its card again.
    """
    parents = [
        {**parent, "factor": factor * parent["factor"]}
        for factor, coefficient, card in terms
        for parent in card.get("parents")
        or [{"factor": 1.0, "coefficient": coefficient, "card": card}]
    ]
    if len(parents) == 1 and parents[0]["factor"] == 1.0:
        return parents[0]["card"]
    first = terms[0][2]
    shared = {key: first[key] for key in ("model", "fingerprint", "site") if key in first}
    return {**shared, **_made_now(), "parents": parents}


def splits_of(card: Card) -> list[Card]:
    """Return the records of all splits that went into a vector, those of its parents included."""
    split = card.get("data", {}).get("split")
    parents = [found for parent in card.get("parents", []) for found in splits_of(parent["card"])]
    return ([split] if split else []) + parents


def neutral_of(card: Card) -> Any:
    """Return the data set on which the fit measured damage, None for packaged text."""
    return card.get("components", {}).get("neutral")


def check_card(card: Any) -> Card:
    """Return a card as JSON will give it back.

    Raises:
        GrainsError: for what is no card: JSON cannot hold it, or a part that is read has no shape.
    """
    card = plain(card)
    fingerprint = card.get("fingerprint", {}) if isinstance(card, dict) else None
    if not isinstance(fingerprint, dict) or not all(
        isinstance(fingerprint.get(part, {}), dict) for part in _PARTS
    ):
        raise GrainsError("the card is not a mapping, or its fingerprint is none; wanted mappings")
    parents = card.get("parents", [])
    if not isinstance(parents, list) or not all(
        isinstance(parent, dict)
        and isinstance(parent.get("factor"), (int, float))
        and isinstance(parent.get("card"), dict)
        for parent in parents
    ):
        raise GrainsError("the card's parents are malformed; wanted a factor and a card of each")
    return card


def check_model(
    card: Card,
    layers: Iterable[int],
    width: int,
    site: Site,
    model: Mapping[str, Any],
    *,
    strict: bool,
) -> None:
    """Refuse a model that a vector was not made for.

    Args:
        card: the vector's.
        layers: the blocks, or heads, that it steers.
        width: of its directions.
        site: whose blocks they are, or `heads`.
        model: the model's fingerprint.
        strict: refuse other weights and another family, too. Another shape is always refused.

    Raises:
        GrainsError: naming both models.
    """
    known, theirs = card.get("fingerprint", {}), _described(model)
    if site == "decoder":
        made_for = {"width": width, **known}
        place, wanted, found = "", made_for, model
    else:
        made_for = {**known, site: {"width": width, **known.get(site, {})}}
        if site not in model:
            raise GrainsError(f"the vector steers {_PARTS[site].format(theirs)}")
        place = " of the vision tower" if site == "vision" else " of attention heads"
        wanted, found = made_for[site], model[site]
    ours = _described(made_for, card.get("model"))
    if found["width"] != width:
        raise GrainsError(
            f"the vector is for {ours}, the model is {theirs}; wanted equal widths{place}"
        )
    # Heads are counted through all blocks: as many, but in other blocks, are others.
    counts = [(found, wanted), (model, known)] if site == "heads" else [(found, wanted)]
    if any(there["n_blocks"] != here.get("n_blocks", there["n_blocks"]) for there, here in counts):
        raise GrainsError(
            f"the vector is for {ours}, the model is {theirs}; wanted as many blocks{place}"
        )
    if max(layers) >= found["n_blocks"]:
        raise GrainsError(f"the vector steers layer {max(layers)}{place}, the model is {theirs}")
    if not strict:
        return
    for key, what in (
        ("model_type", "the same family"),
        ("weights", "the same weights"),
        ("vision", "the same vision tower"),
    ):
        if made_for.get(key) != model.get(key):
            raise GrainsError(
                f"the vector is for {ours}, the model is {theirs}; wanted {what}, or strict=False"
            )


def plain(value: Any, at: str = "card") -> Any:
    """Return a value as JSON will give it back: text keys, lists, numbers; NaN and inf are None.

    >>> plain({8: (1, float("nan"))})
    {'8': [1, None]}

    Raises:
        GrainsError: for what JSON cannot hold, naming its place.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return plain(value.tolist(), at)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{at}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{at}[{index}]") for index, item in enumerate(value)]
    raise GrainsError(f"{at} is a {type(value).__name__}; wanted text, a number, a list, a mapping")


def _made_now() -> Card:
    packages = {name: version(name) for name in ("torch", "transformers")}
    return {
        "versions": {"python": platform.python_version(), "grains": __version__, **packages},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _described(fingerprint: Mapping[str, Any], name: str | None = None) -> str:
    """Write a fingerprint in a few words, such as `llama, 30 blocks, width 576, weights 3fa2c1`."""
    parts = [repr(name) if name else "", str(fingerprint.get("model_type", "an unnamed model"))]
    parts += _shape(fingerprint)
    if "heads" in fingerprint:
        heads = fingerprint["heads"]
        parts.append(f"{heads.get('n_blocks', 'some')} heads of width {heads.get('width')}")
    if "vision" in fingerprint:
        parts.append("vision tower of " + ", ".join(_shape(fingerprint["vision"])))
    return "(" + ", ".join(filter(None, parts)) + ")"


def _shape(part: Mapping[str, Any]) -> list[str]:
    return [
        *([f"{part['n_blocks']} blocks"] if "n_blocks" in part else []),
        *([f"width {part['width']}"] if "width" in part else []),
        *([f"weights {str(part['weights'])[:8]}"] if "weights" in part else []),
    ]
