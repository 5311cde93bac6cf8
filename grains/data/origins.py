"""Where a benchmark is read from: a folder that the user names, or the hub."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grains.data.rows import Row
from grains.errors import GrainsError

VARIABLE = "GRAINS_DATA"


def find_file(name: str, data_dir: str | None, dataset: str) -> Path | None:
    """Return the file `name` of the data folder, or None if no folder is given.

    Args:
        name: path of the file inside the folder.
        data_dir: the folder; without it, the one that the environment variable GRAINS_DATA names.
        dataset: who asks, for the error.

    Raises:
        GrainsError: if a folder is given and it, or the file in it, is missing.
    """
    given = data_dir or os.environ.get(VARIABLE)
    if not given:
        return None
    said_by = "data_dir" if data_dir else VARIABLE
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise GrainsError(
            f"{said_by} is {str(folder)!r}, which is not a folder; "
            f"dataset {dataset!r} wants one that holds {name}"
        )
    if not (folder / name).is_file():
        raise GrainsError(
            f"{folder / name} does not exist; "
            f"dataset {dataset!r} wants it in the folder that {said_by} names"
        )
    return folder / name


def hub_rows(
    repository: str,
    config: str | None,
    split: str,
    *,
    prepare: Callable[[Any, Any], Any] = lambda _, data: data,
) -> list[Row] | None:
    """Read a data set from the hub, or return None if the `datasets` package is not installed.

    Args:
        repository: its name on the hub.
        config: which of its parts, if it has several.
        split: such as `validation`.
        prepare: given the `datasets` package and the data, returns the data whose rows are read.

    Raises:
        GrainsError: if the hub does not answer or has no such data set.
    """
    try:
        datasets: Any = importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        if error.name != "datasets":  # installed, but broken: say so instead of hiding it
            raise GrainsError(f"the datasets package does not import: {error}") from error
        return None
    try:
        data = datasets.load_dataset(repository, config, split=split)
        records = list(prepare(datasets, data))
    except Exception as error:  # network, cache and schema errors of three libraries
        reason = (str(error).splitlines() or [""])[0]
        raise GrainsError(
            f"{repository} could not be read from the hub ({type(error).__name__}: {reason}); "
            f"give data_dir or {VARIABLE} to read it from a folder"
        ) from error
    return [
        Row(place=f"{repository}, row {number}", fields=record)
        for number, record in enumerate(records, start=1)
    ]
