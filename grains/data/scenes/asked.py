"""Requests about ordinary scenes as pairs: the true answer against another of its kind."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import final

from grains.data.base import DATASETS, PairDataset
from grains.data.scenes.captions import DESCRIBE, caption, phrase
from grains.data.scenes.drawing import draw
from grains.data.scenes.questions import NUMBERS, Question, questions
from grains.data.scenes.sampling import Fold, ordinary_scenes
from grains.data.scenes.scene import COLOURS, NAMES, Scene
from grains.errors import GrainsError
from grains.types import ContrastivePair


@DATASETS.register("scene_questions")
@final
@dataclass(frozen=True, kw_only=True)
class SceneQuestions(PairDataset):
    """Captions of, and questions about, scenes that keep the prior: what steering should not touch.

    Args:
        scenes: how many pictures; of each the caption is wanted, and about nine answers.
        seed: of the scenes.
        size: width and height of the pictures, in pixels.
        fold: see `Scenes`.
    """

    scenes: int = 40
    seed: int = 0
    size: int = 64
    fold: Fold = "pairs"

    def __post_init__(self) -> None:
        """Refuse an empty set."""
        if self.scenes < 1:
            raise GrainsError(f"scenes is {self.scenes}; wanted 1 or more")

    def pairs(self) -> list[ContrastivePair]:
        """Draw all scenes and ask of each."""
        found = []
        for number, scene in enumerate(ordinary_scenes(self.scenes, self.seed, self.fold)):
            rng, picture = Random(f"{self.seed} {number}"), draw(scene, self.size)
            described = Question(DESCRIBE, caption(scene.names), "caption")
            for place, asked in enumerate(dict.fromkeys([described, *questions(scene, rng)])):
                found.append(
                    ContrastivePair(
                        id=f"{self.fold}-{self.seed}-{number}-{place}",
                        prompt=asked.question,
                        chosen=asked.answer,
                        rejected=_other(asked, scene, rng),
                        template="chat",
                        image=picture,
                    )
                )
        return found


def _other(asked: Question, scene: Scene, rng: Random) -> str:
    if asked.kind == "caption":
        absent = [name for name in NAMES if name not in scene.names]
        return caption([*scene.names, rng.choice(absent)])
    answers = {
        "presence": ("yes", "no"),
        "count": NUMBERS,
        "colour": COLOURS,
        "left": ("nothing", *map(phrase, NAMES)),
    }[asked.kind]
    return rng.choice([answer for answer in answers if answer != asked.answer])
