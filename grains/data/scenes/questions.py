"""Questions about a scene, with their answers."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from grains.data.scenes.captions import absent_partners, phrase
from grains.data.scenes.scene import COLOURS, NAMES, SHAPES, Scene

KINDS: tuple[str, ...] = ("presence", "count", "colour", "left")
"""The kinds of questions."""

NUMBERS: tuple[str, ...] = ("zero", "one", "two", "three", "four")
"""The answers to how many, by number."""


class Question(NamedTuple):
    """A question, its true answer, and its kind."""

    question: str
    answer: str
    kind: str


def presence_question(scene: Scene, name: str) -> Question:
    """Return the question whether an object of that name is in the scene."""
    answer = "yes" if name in scene.names else "no"
    return Question(f"is there {phrase(name)}?", answer, "presence")


def questions(scene: Scene, rng: Random) -> list[Question]:
    """Return questions of every kind that the scene allows, drawn by `rng`.

    Presence: as many "yes" as "no", two each. One "no" is hard: an absent partner where the prior
    is broken, else a shape that is there in another colour (or a name by lot). Counts: a shape that
    is there and one by lot. Colour: a shape of which there is one. Left: an object with a neighbour
    to its left, if any, and one by lot, whose answer may be "nothing".
    """
    asked = [presence_question(scene, name) for name in _names(scene, rng)]
    asked += [_count(scene, shape) for shape in _counted(scene, rng)]
    kinds = [thing.kind for thing in scene.objects if thing.colour]
    single = [thing for thing in scene.objects if kinds.count(thing.kind) == 1]
    if single:
        thing = rng.choice(single)
        asked.append(Question(f"what colour is the {thing.kind}?", thing.colour, "colour"))
    beside = [thing for thing in scene.objects if scene.left_of(thing)]
    by_lot = rng.choice(scene.objects)
    for thing in dict.fromkeys([rng.choice(beside) if beside else by_lot, by_lot]):
        other = scene.left_of(thing)
        answer = phrase(other.name) if other else "nothing"
        asked.append(Question(f"what is left of the {thing.name}?", answer, "left"))
    return asked


def _names(scene: Scene, rng: Random) -> list[str]:
    """Return two names that are there and two that are not."""
    there = rng.sample(scene.names, 2)
    absent = [name for name in NAMES if name not in scene.names]
    shapes = [thing.kind for thing in scene.objects if thing.colour]
    hard = list(absent_partners(scene))
    if not hard and shapes:
        shape = rng.choice(shapes)
        hard = [f"{colour} {shape}" for colour in COLOURS if f"{colour} {shape}" in absent]
    first = rng.choice(hard or absent)
    return [*there, first, rng.choice([name for name in absent if name != first])]


def _counted(scene: Scene, rng: Random) -> list[str]:
    there = [thing.kind for thing in scene.objects if thing.colour]
    return list(dict.fromkeys([rng.choice(there or SHAPES), rng.choice(SHAPES)]))


def _count(scene: Scene, shape: str) -> Question:
    number = sum(thing.kind == shape for thing in scene.objects)
    return Question(f"how many {shape}s?", NUMBERS[number], "count")
