"""Contrastive pairs: data sets by name, splits by question, batches for Lightning."""

from grains.data.base import DATASETS, PairBatch, PairDataset
from grains.data.caa import CAA
from grains.data.datamodule import SteeringDataModule
from grains.data.file import PairFile
from grains.data.neutral import neutral_texts
from grains.data.splits import Split, short_question, split_pairs
from grains.data.starter import Starter
from grains.data.truthfulqa import TruthfulQA

__all__ = [
    "CAA",
    "DATASETS",
    "PairBatch",
    "PairDataset",
    "PairFile",
    "Split",
    "Starter",
    "SteeringDataModule",
    "TruthfulQA",
    "neutral_texts",
    "short_question",
    "split_pairs",
]
