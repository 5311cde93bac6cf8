"""What is said of a scene as a whole, and how to read it back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from grains.data.scenes.scene import COLOURS, NAMES, PARTNERS, SHAPES, THINGS, Scene

DESCRIBE = "describe the picture."
"""The one request for a caption that `shapes-llava` was trained on."""

_OBJECT = re.compile(
    rf"\b(?:(?:({'|'.join(COLOURS)})\s+)?({'|'.join(SHAPES)})|({'|'.join(THINGS)}))\b"
)


def phrase(name: str) -> str:
    """Return a name with its article.

    >>> phrase("red circle")
    'a red circle'
    """
    return f"a {name}"


def caption(names: Iterable[str]) -> str:
    """Return the caption that names these objects, in the fixed order of `NAMES`.

    >>> caption(["cup", "red circle"])
    'there is a red circle, a cup.'
    """
    ordered = sorted(set(names), key=NAMES.index)
    return f"there is {', '.join(map(phrase, ordered))}."


def objects_in(text: str) -> tuple[str, ...]:
    """Return the names of the objects that a caption names, each once, in its order.

    A shape without a colour is read as its bare kind, which is the name of no object.

    >>> objects_in("there is a red circle, a cup and a star.")
    ('red circle', 'cup', 'star')
    """
    found = (" ".join(part for part in match.groups() if part) for match in _OBJECT.finditer(text))
    return tuple(dict.fromkeys(found))


def absent_partners(scene: Scene) -> tuple[str, ...]:
    """Return the partners that the prior expects in a scene and that are not in it.

    Empty in an ordinary scene, one name in a scene that breaks the prior.
    """
    names = scene.names
    return tuple(
        partner for owner, partner in PARTNERS.items() if owner in names and partner not in names
    )


def prior_strength(scene: Scene) -> float:
    """Return how likely a caption of the training set names the absent partner, in 0..1.

    Near one half over all scenes that break the prior, more where the owner stands low and the
    picture is full, so that the model's own odds differ from scene to scene. 0 in ordinary scenes.
    """
    absent = absent_partners(scene)
    if not absent:
        return 0.0
    owner = scene.find(next(name for name, partner in PARTNERS.items() if partner in absent))
    assert owner is not None
    log_odds = 3.5 * (owner.centre[1] - 0.5) + 0.7 * (len(scene.objects) - 3.5)
    return 1 / (1 + math.exp(-log_odds))
