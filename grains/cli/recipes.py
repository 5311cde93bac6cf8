"""Recipes by name: `--config smollm2-truthfulqa` is a file that comes with the package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grains.errors import GrainsError, did_you_mean

FOLDER = Path(__file__).parents[1] / "recipes"
"""Where the recipes are; each says in its head what it is, and what runs it."""


def located(given: str) -> str:
    """Return the path of a recipe that is given by its name; anything else is returned as it is.

    A file of that name comes first.

    Raises:
        GrainsError: for a bare word that is neither a file nor a recipe.
    """
    bare = "/" not in given and not given.endswith((".yaml", ".yml", ".json"))
    if not bare or "\n" in given or ": " in given or Path(given).is_file():
        return given
    recipe = FOLDER / f"{given}.yaml"
    if not recipe.is_file():
        names = [path.stem for path in FOLDER.glob("*.yaml")]
        raise GrainsError(
            f"--config is {given!r}, no file and no recipe; {did_you_mean(given, names)}"
        )
    return str(recipe)


def with_recipes(argv: Sequence[str]) -> list[str]:
    """Return the arguments with the names of recipes replaced by their paths."""
    found: list[str] = []
    for before, word in zip(["", *argv], argv, strict=False):
        flag, given, value = word.partition("=")
        if before in ("-c", "--config"):
            word = located(word)
        elif given and flag in ("-c", "--config"):
            word = f"{flag}={located(value)}"
        found.append(word)
    return found
