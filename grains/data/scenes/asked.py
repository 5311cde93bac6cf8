"""Questions about ordinary scenes as pairs: the true answer against another of its kind."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import final

from grains.data.base import DATASETS, PairDataset
from grains.data.scenes.captions import phrase
from grains.data.scenes.drawing import draw
from grains.data.scenes.questions import NUMBERS, Question, questions
from grains.data.scenes.sampling import Fold, ordinary_scenes
from grains.data.scenes.scene import COLOURS, NAMES
from grains.errors import GrainsError
from grains.types import ContrastivePair


@DATASETS.register("scene_questions")
@final
@dataclass(frozen=True, kw_only=True)
class SceneQuestions(PairDataset):
    """Questions about drawn scenes that keep the planted prior: what steering should leave alone.

    Args:
        scenes: how many pictures; about nine questions are asked of each.
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
            for place, asked in enumerate(dict.fromkeys(questions(scene, rng))):
                found.append(
                    ContrastivePair(
                        id=f"{self.fold}-{self.seed}-{number}-{place}",
                        prompt=asked.question,
                        chosen=asked.answer,
                        rejected=_other(asked, rng),
                        template="chat",
                        image=picture,
                    )
                )
        return found


def _other(asked: Question, rng: Random) -> str:
    answers = {
        "presence": ("yes", "no"),
        "count": NUMBERS,
        "colour": COLOURS,
        "left": ("nothing", *map(phrase, NAMES)),
    }[asked.kind]
    return rng.choice([answer for answer in answers if answer != asked.answer])
