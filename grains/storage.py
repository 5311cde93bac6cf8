"""Files that are whole or not there: float32 tensors beside one JSON record, in safetensors.

Reading trusts nothing that a file says about itself. It never unpickles or imports, and it takes no
more memory than a file that small can fill.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from grains.errors import GrainsError

KEY = "grains"
"""The one metadata key. With a second one, equal artifacts would no longer be equal bytes."""

MAX_BYTES = 2**28
MAX_HEADER = 2**24


class Unwritable(GrainsError):
    """A file could not be written: the disk is full, or the folder may not be written."""


def refuse_existing(path: str | Path, *, overwrite: bool = False) -> Path:
    """Return the path if a file may be written there: to be asked before long work begins.

    Raises:
        GrainsError: if it is a folder, or exists and may not be overwritten.
    """
    path = Path(path).expanduser()
    if os.path.isdir(path):
        raise GrainsError(f"{path} is a folder; wanted the name of a file")
    if os.path.exists(path) and not overwrite:
        raise GrainsError(f"{path} exists; wanted another name, or overwrite (--overwrite)")
    return path


def write_atomically(path: str | Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a file so that a crash at any moment leaves the old one whole.

    Missing folders are made.

    Raises:
        GrainsError: as `refuse_existing` does, or if the folder cannot be written.
    """
    path = refuse_existing(path, overwrite=overwrite)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise Unwritable(f"{path} cannot be written ({error}); wanted a writable place") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def save_record(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    record: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write tensors and what is to be known about them into one file, atomically."""
    text = json.dumps(record, allow_nan=False)
    write_atomically(path, save(dict(tensors), metadata={KEY: text}), overwrite=overwrite)


def load_record(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `save_record` wrote.

    Returns:
        The record, and the tensors, all float32 on the CPU.

    Raises:
        GrainsError: for whatever else the path holds, within a second.
    """
    path = Path(path).expanduser()
    _refuse_at_a_glance(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise GrainsError(f"{path} is a safetensors file of something else; {_WANTED}")
            record = json.loads(metadata[KEY])
            if not isinstance(record, dict):
                raise GrainsError(f"{path} holds a {type(record).__name__} as record; {_WANTED}")
            for name in file.keys():
                dtype = file.get_slice(name).get_dtype()
                if dtype != "F32":
                    raise GrainsError(f"{path}: {name!r} is {dtype}; wanted F32")
            # Clones, since the tensors of an open file change or vanish with it.
            return record, {name: file.get_tensor(name).clone() for name in file.keys()}
    except GrainsError:
        raise
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise GrainsError(f"{path} does not read as safetensors ({error}); {_WANTED}") from error


_WANTED = "wanted a file written by SteeringVector.save"


def _refuse_at_a_glance(path: Path) -> None:
    if os.path.isdir(path):
        raise GrainsError(f"{path} is a folder; {_WANTED}")
    if not os.path.isfile(path):
        problem = "is not a regular file" if os.path.exists(path) else "does not exist"
        raise GrainsError(f"{path} {problem}; {_WANTED}")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise GrainsError(f"{path} cannot be read ({error}); {_WANTED}") from error
    if size > MAX_BYTES:
        raise GrainsError(f"{path} has {size} bytes, a vector at most {MAX_BYTES}; {_WANTED}")
    if size < 8 or header > size - 8:
        raise GrainsError(f"{path} is cut short at {size} bytes, or not safetensors; {_WANTED}")
    if header > MAX_HEADER:
        raise GrainsError(f"{path} has a header of {header} bytes; {_WANTED}")
