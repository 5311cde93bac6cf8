"""Contrastive pairs: data sets by name, splits by question, batches for Lightning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grains.data.base import DATASETS, PairBatch, PairDataset
from grains.data.caa import CAA
from grains.data.faitheval import FaithEvalCounterfactual
from grains.data.file import PairFile
from grains.data.images import images_of, open_image
from grains.data.items import Item, draw, unseen
from grains.data.mmhal_bench import MMHalBench
from grains.data.mmlu import MMLU
from grains.data.mmmu import MMMU
from grains.data.neutral import neutral_texts
from grains.data.pope import POPE
from grains.data.questions import ImageQuestion
from grains.data.scenes import Scenes
from grains.data.spa_vl import SPAVL
from grains.data.splits import Split, short_question, split_pairs
from grains.data.starter import Starter
from grains.data.toxigen import ToxiGen
from grains.data.truthfulqa import TruthfulQA

if TYPE_CHECKING:
    from grains.data.datamodule import SteeringDataModule


def __getattr__(name: str) -> Any:
    """Import the data module, and Lightning with it, when it is asked for."""
    if name == "SteeringDataModule":
        from grains.data.datamodule import SteeringDataModule

        return SteeringDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CAA",
    "DATASETS",
    "MMLU",
    "MMMU",
    "POPE",
    "SPAVL",
    "FaithEvalCounterfactual",
    "ImageQuestion",
    "Item",
    "MMHalBench",
    "PairBatch",
    "PairDataset",
    "PairFile",
    "Scenes",
    "Split",
    "Starter",
    "SteeringDataModule",
    "ToxiGen",
    "TruthfulQA",
    "draw",
    "images_of",
    "neutral_texts",
    "open_image",
    "short_question",
    "split_pairs",
    "unseen",
]
