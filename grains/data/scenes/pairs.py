"""Scenes that break the prior as contrastive pairs: the true caption against the expected one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from grains.data.base import DATASETS, PairDataset
from grains.data.scenes.captions import DESCRIBE, absent_partners, caption
from grains.data.scenes.drawing import draw
from grains.data.scenes.sampling import Fold, breaking_scenes
from grains.errors import GrainsError
from grains.types import ContrastivePair


@DATASETS.register("scenes")
@final
@dataclass(frozen=True, kw_only=True)
class Scenes(PairDataset):
    """Drawn scenes that break the planted prior: the true caption, or one with what is not there.

    Args:
        count: how many.
        seed: of the scenes.
        size: width and height of the pictures, in pixels.
        fold: `pairs` for fitting; `test` holds the scenes that hallucination is measured on;
            `train` those like the ones that `shapes-llava` has seen.
    """

    count: int = 400
    seed: int = 0
    size: int = 64
    fold: Fold = "pairs"

    def __post_init__(self) -> None:
        """Refuse an empty set."""
        if self.count < 1:
            raise GrainsError(f"count is {self.count}; wanted 1 or more")

    def pairs(self) -> list[ContrastivePair]:
        """Draw all scenes."""
        return [
            ContrastivePair(
                id=f"{self.fold}-{self.seed}-{index}",
                prompt=DESCRIBE,
                chosen=caption(scene.names),
                rejected=caption([*scene.names, *absent_partners(scene)]),
                template="chat",
                image=draw(scene, self.size),
            )
            for index, scene in enumerate(breaking_scenes(self.count, self.seed, self.fold))
        ]
