"""Results that took long to compute, each on disk as soon as it is there.

A run that is killed loses the one cell it was at; the same run, started again, reads the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from grains.errors import GrainsError
from grains.storage import load_record, save_record

Tensors = dict[str, Tensor]


class Recorded(Protocol):
    """What can be written down: tensors by name, and all else as what JSON can hold."""

    def to_record(self) -> tuple[Tensors, dict[str, Any]]:
        """Return both."""
        ...


def digest_of(recorded: Recorded) -> str:
    """Return a hash of everything that acts: equal steering has an equal digest.

    How it was made, its card, does not count.
    """
    tensors, record = recorded.to_record()
    digest = hashlib.sha256(json.dumps({**record, "card": {}}, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


class CellStore:
    """Tensors by what they were computed from.

    Args:
        folder: where cells are kept, made if it is not there; None for a store that forgets with
            the process.

    Raises:
        GrainsError: if the folder cannot be made or written.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else _writable(Path(folder).expanduser())
        self._held: dict[str, Tensors] = {}

    def get(self, key: Mapping[str, Any], make: Callable[[], Tensors]) -> Tensors:
        """Return what is known under a key, making it the first time.

        What was just made and what is read again are equal bit for bit: float32 on the CPU.

        Args:
            key: all that the result depends on, as JSON: model, steering, questions, seeds.
            make: computes tensors by name. A cell is written when it returns, whole or not at all.
        """
        text = json.dumps(key, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        known = self._read(name)
        return self._made(name, json.loads(text), make) if known is None else known

    def forget(self) -> None:
        """Drop all cells, and what a killed run left of one; other files stay."""
        self._held.clear()
        for path in [] if self.folder is None else self.folder.iterdir():
            if re.fullmatch(r"\.?[0-9a-f]{32}\.safetensors(\.[0-9a-f]+\.tmp)?", path.name):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()

    def _read(self, name: str) -> Tensors | None:
        if self.folder is None:
            return self._held.get(name)
        if not (path := self._path(name)).exists():
            return None
        try:
            return load_record(path)[1]
        except GrainsError:  # damaged from outside: a cell can always be made again
            return None

    def _made(self, name: str, key: dict[str, Any], make: Callable[[], Tensors]) -> Tensors:
        found = {
            part: tensor.detach().to("cpu", torch.float32).contiguous()
            for part, tensor in make().items()
        }
        if self.folder is None:
            self._held[name] = found
        else:
            save_record(self._path(name), found, key, overwrite=True)
        return found

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.safetensors"


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError("no permission")
    except OSError as error:
        reason = error.strerror or error
        raise GrainsError(f"the folder {folder} cannot be written ({reason}); {_WANTED}") from error
    return folder


_WANTED = "wanted a writable place"
