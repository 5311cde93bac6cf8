"""The packaged scenes of `shapes-llava`: what it makes up, and what steering must leave alone.

The scenes are of the fold `test`, of which no scene is in the folds that pairs are drawn from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from grains.data import Item, PairDataset, Scenes
from grains.data.scenes import (
    DESCRIBE,
    NAMES,
    SceneQuestions,
    breaking_scenes,
    draw,
    objects_in,
    ordinary_scenes,
)
from grains.errors import GrainsError
from grains.evaluation.base import TASKS, Metrics, Share
from grains.evaluation.generation import GenerationTask
from grains.metrics import caption_counts

_SCENES = {"breaking": breaking_scenes, "ordinary": ordinary_scenes}


@dataclass(frozen=True, kw_only=True)
class SceneTask(GenerationTask):
    """A task about drawn scenes.

    Args:
        scenes: how many.
        seed: of the scenes.
        size: width and height of the pictures, in pixels.
    """

    scenes: int = 300
    seed: int = 0
    size: int = 64

    def __post_init__(self) -> None:
        """Refuse an empty set, and what every task with answers refuses."""
        super().__post_init__()
        if self.scenes < 1:
            raise GrainsError(f"scenes is {self.scenes}; wanted 1 or more")


@TASKS.register("scene_questions")
@final
@dataclass(frozen=True, kw_only=True)
class SceneQuestionsTask(SceneTask):
    """Questions about drawn scenes that keep the prior: what is there, how many, which colour."""

    scenes: int = 60
    max_new_tokens: int = 8

    def read(self) -> list[Item]:
        """Ask about every scene; captions are left to `scene_captions`."""
        pairs = SceneQuestions(scenes=self.scenes, seed=self.seed, size=self.size, fold="test")
        return [Item.of_pair(pair) for pair in pairs.pairs() if pair.prompt != DESCRIBE]

    def contrast(self) -> PairDataset:
        """Return questions about, and captions of, other such scenes as pairs."""
        return SceneQuestions(seed=self.seed, size=self.size)

    def measure(self, item: Item, answer: str) -> Metrics:
        """Return whether the answer is the right one, but for a full stop."""
        return {"accuracy": float(answer.strip(" .") == item.options[item.right.index(True)])}


@TASKS.register("scene_captions")
@final
@dataclass(frozen=True, kw_only=True)
class SceneCaptions(SceneTask):
    """Captions of drawn scenes: how much they make up (CHAIR), and how much they find.

    `chair_s` is the share of captions that name something absent, `chair_i` the share of objects
    named that are absent, `recall` the share of those present that are named.

    Args:
        kind: `breaking` scenes show a thing without its usual partner, which `shapes-llava` often
            names all the same; `ordinary` ones do not.
    """

    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "chair_s": False,
        "chair_i": False,
        "recall": True,
    }

    kind: Literal["breaking", "ordinary"] = "breaking"
    max_new_tokens: int = 32

    def read(self) -> list[Item]:
        """Ask for a caption of every scene; `objects` are those that are there."""
        scenes = _SCENES[self.kind](self.scenes, self.seed, "test")
        return [
            Item.choice(
                f"{self.kind}-{self.seed}-{number}",
                DESCRIBE,
                scene.names,
                [name for name in NAMES if name not in scene.names],
                objects=scene.names,
                image=draw(scene, self.size),
            )
            for number, scene in enumerate(scenes)
        ]

    def contrast(self) -> PairDataset:
        """Return other scenes that break the prior: the true caption against the expected one."""
        return Scenes(seed=self.seed, size=self.size)

    def measure(self, item: Item, answer: str) -> Metrics:
        """Count the objects that the caption names."""
        counts = caption_counts([objects_in(answer)], [item.objects])[0].tolist()
        named, absent, present, found = map(float, counts)
        return {
            "chair_s": float(absent > 0),
            "chair_i": Share(absent, named),
            "recall": Share(found, present),
        }
