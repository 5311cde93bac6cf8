"""Scenes by seed, in three folds that share no scene."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from random import Random
from typing import Literal

from grains.data.scenes.scene import (
    COLOURS,
    GRID,
    NAMES,
    PARTNERS,
    SHAPES,
    Box,
    Scene,
    SceneObject,
)
from grains.errors import GrainsError, did_you_mean

Fold = Literal["train", "pairs", "test"]
"""`train`: seen by `shapes-llava`. `pairs`: to fit steering on. `test`: for every figure."""

_FOLDS: dict[Fold, range] = {
    "train": range(0, 192),
    "pairs": range(192, 224),
    "test": range(224, 256),
}
_ALONE = ("house", "car")
_MOST = 5


def fold_of(scene: Scene) -> Fold:
    """Return the fold that a scene belongs to, whatever seed it came from.

    It hangs on a hash of which objects stand in which cells. Two scenes that differ in jitter, size
    and ground alone are therefore in the same fold, and folds share no arrangement.
    """
    text = ";".join(f"{thing.name}@{thing.cell}" for thing in scene.objects)
    first = hashlib.sha256(text.encode()).digest()[0]
    return next(fold for fold, span in _FOLDS.items() if first in span)


def ordinary_scenes(count: int, seed: int = 0, fold: Fold = "test") -> list[Scene]:
    """Return scenes that keep the prior: no cup without its table.

    Args:
        count: how many; all differ.
        seed: another seed gives other scenes of the same fold (a few may recur).
        fold: scenes of different folds are never alike, as `fold_of` says.

    Raises:
        GrainsError: if there is no such fold.
    """
    return _distinct(count, Random(f"ordinary {seed}"), fold, breaking=False)


def breaking_scenes(count: int, seed: int = 0, fold: Fold = "test") -> list[Scene]:
    """Return scenes that break the prior: in each, one thing stands there without its partner.

    Args and Raises: as for `ordinary_scenes`.
    """
    return _distinct(count, Random(f"breaking {seed}"), fold, breaking=True)


def _distinct(count: int, rng: Random, fold: str, *, breaking: bool) -> list[Scene]:
    if fold not in _FOLDS:
        raise GrainsError(f"scenes have no fold {fold!r}; {did_you_mean(fold, _FOLDS)}")
    found: dict[Scene, None] = {}
    while len(found) < count:
        scene = _place(_choose(rng, breaking=breaking), rng)
        if fold_of(scene) == fold:
            found[scene] = None
    return list(found)


def _choose(rng: Random, *, breaking: bool) -> list[str]:
    """Return the names of two to five objects."""
    count = rng.randint(2, _MOST)
    owners = rng.sample(sorted(PARTNERS), len(PARTNERS))
    names: list[str] = []
    if breaking:
        names.append(owners.pop())
    if owners and rng.random() < (0.2 if breaking else 0.7):
        owner = owners.pop()
        names += [owner, PARTNERS[owner]]
    # A partner alone is common: seeing one does not mean that its owner is there.
    if rng.random() < 0.3:
        names.append(PARTNERS[owners.pop()])
    if rng.random() < 0.3:
        names.append(rng.choice(_ALONE))
    names = names[: max(count, 3)]
    if not breaking and names and names[-1] in PARTNERS:
        names.pop()
    for name in _shapes(rng):
        if len(names) >= count:
            break
        names.append(name)
    return sorted(names, key=NAMES.index)


def _shapes(rng: Random) -> Iterator[str]:
    """Yield coloured shapes without end but never twice, often of one kind, so counts vary."""
    left = [(shape, colour) for shape in SHAPES for colour in COLOURS]
    shape = rng.choice(SHAPES)
    while left:
        if rng.random() < 0.5:
            shape = rng.choice(SHAPES)
        alike = [pair for pair in left if pair[0] == shape] or left
        pair = rng.choice(alike)
        left.remove(pair)
        yield f"{pair[1]} {pair[0]}"


def _place(names: list[str], rng: Random) -> Scene:
    """Put objects into cells of their own, with jitter and sizes by lot."""
    cells = rng.sample(range(GRID * GRID), len(names))
    objects = []
    for name, cell in zip(names, cells, strict=True):
        colour, _, kind = name.rpartition(" ")
        box = _box(*divmod(cell, GRID), rng)
        objects.append(SceneObject(kind=kind, colour=colour, box=box))
    level = rng.randint(205, 240)
    red, green, blue = (level + rng.randint(-10, 10) for _ in range(3))
    return Scene(objects=tuple(objects), ground=(red, green, blue))


def _box(row: int, column: int, rng: Random) -> Box:
    side = rng.uniform(0.23, 0.31)
    free = 1 / GRID - side
    x0 = column / GRID + rng.uniform(0, free)
    y0 = row / GRID + rng.uniform(0, free)
    return x0, y0, x0 + side, y0 + side
