"""Rows of a benchmark: from a folder that the user names, or from the hub."""

from __future__ import annotations

from grains.data.origins import VARIABLE, find_file, hub_rows
from grains.data.rows import Row, read_rows
from grains.errors import GrainsError


def benchmark_rows(
    dataset: str, name: str, data_dir: str | None, hub: tuple[str, str | None, str]
) -> list[Row]:
    """Read a benchmark.

    Args:
        dataset: who asks, for the errors.
        name: the file inside the folder.
        data_dir: the folder; without it, the one in GRAINS_DATA; without both, the hub is asked.
        hub: repository, config and split there.

    Raises:
        GrainsError: if there is nowhere to read from, or the file is missing or broken.
    """
    path = find_file(name, data_dir, dataset)
    rows = read_rows(path) if path is not None else hub_rows(*hub)
    if rows is None:
        raise GrainsError(
            f"dataset {dataset!r} was given no place to read from; give data_dir, or set "
            f"{VARIABLE}, to a folder that holds {name}, or read it from the hub ({hub[0]}): "
            "pip install 'grains-steering[hub]'"
        )
    return rows
