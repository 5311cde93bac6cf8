"""Fits that are kept: what a method found from some pairs, on disk as soon as it is there."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grains._version import __version__
from grains.card import plain
from grains.data.base import pair_sha256
from grains.directions import Certificate
from grains.errors import GrainsError
from grains.methods import METHODS, Candidate, Material, Method
from grains.storage import load_record, save_record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a method offers for some pairs.

    Args:
        candidates: one or more.
        seconds: how long the fit took.
    """

    candidates: tuple[Candidate, ...]
    seconds: float


def fitted(method: Method, material: Material, folder: Path | None) -> Fitted:
    """Fit a method, or read what the same fit has left in the folder.

    Raises:
        GrainsError: as `Method.fit`.
    """
    path = None if folder is None else folder / f"{_key(method, material)}.safetensors"
    if path is not None and path.exists():
        with contextlib.suppress(GrainsError):  # damaged from outside: it can be made again
            return _read(path, method)
    start = time.monotonic()
    candidates = method.fit(material)
    seconds = round(time.monotonic() - start, 1)
    found = Fitted(candidates=tuple(candidates), seconds=seconds)
    if path is None:
        return found
    _write(path, found)
    return _read(path, method)  # so that a run that went on and one that did not are the same


def _key(method: Method, material: Material) -> str:
    given = {
        "grains": __version__,
        "method": METHODS.spec(method),
        "model": material.model.fingerprint,
        "dtype": str(material.model.dtype),
        "device": material.model.device.type,
        "layers": material.layer_sets,
        "seed": material.seed,
        "pairs": [
            [int(index), pair_sha256(pair)]
            for batch in material.batches
            for index, pair in zip(batch.index, batch.pairs, strict=True)
        ],
    }
    return hashlib.sha256(json.dumps(plain(given), sort_keys=True).encode()).hexdigest()[:32]


def _write(path: Path, found: Fitted) -> None:
    tensors, records = {}, []
    for number, candidate in enumerate(found.candidates):
        held, record = candidate.steering.to_record()
        tensors |= {f"{number}/{name}": tensor for name, tensor in held.items()}
        marks = {layer: dataclasses.asdict(one) for layer, one in candidate.certificates.items()}
        records.append({"label": candidate.label, "steering": record, "certificates": marks})
    known = {"candidates": records, "seconds": found.seconds}
    save_record(path, tensors, plain(known), overwrite=True)


def _read(path: Path, method: Method) -> Fitted:
    known, tensors = load_record(path)
    candidates = []
    for number, record in enumerate(known["candidates"]):
        mine = f"{number}/"
        held = {
            name.removeprefix(mine): tensor
            for name, tensor in tensors.items()
            if name.startswith(mine)
        }
        candidates.append(
            Candidate(
                record["label"],
                method.restored(record["steering"], held),
                _marks(record["certificates"]),
            )
        )
    return Fitted(candidates=tuple(candidates), seconds=known["seconds"])


def _marks(given: Mapping[str, Any]) -> dict[int, Certificate]:
    return {int(layer): Certificate(**mark) for layer, mark in given.items()}
