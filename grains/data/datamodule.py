"""Any data set, split and served to Lightning in batches that know where they belong."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from grains.data.base import DATASETS, PairBatch, PairDataset, identity
from grains.data.rows import SUFFIXES
from grains.data.splits import PARTS, Split, check_counts, split_pairs
from grains.errors import GrainsError, did_you_mean
from grains.types import ContrastivePair


class SteeringDataModule(LightningDataModule):
    """Contrastive pairs, split by question into fit, val and test.

    Args:
        dataset: a name (`starter`, `truthfulqa`, `caa`, or a plug-in's), the path of a `.jsonl`,
            `.csv` or `.parquet` file, a mapping `{"name": ..., settings}` with either as its name,
            a data set, or a list of pairs, as objects or as mappings of their fields.
        fit: how many pairs directions are found from. None: all that remain.
        val: how many pairs layers and coefficients are chosen on. None: all that remain.
        test: how many pairs the effect is measured on. None: all that remain.
        seed: of the split.
        batch_size: pairs handled together.
        template: how prompts are put to the model, in place of the data set's own way: `qa`,
            `plain`, `chat`, or a text that holds `{prompt}`.
        data_dir: folder of benchmark files, for data sets that read from one. None: the environment
            variable GRAINS_DATA, then the hub.

    Raises:
        GrainsError: for a wrong setting at once; for missing or broken data, or too few pairs, when
            the data is first read.
    """

    def __init__(
        self,
        dataset: str
        | dict[str, Any]
        | PairDataset
        | list[ContrastivePair]
        | list[dict[str, Any]] = "starter",
        fit: int | None = 100,
        val: int | None = 100,
        test: int | None = None,
        seed: int = 0,
        batch_size: int = 8,
        template: str | None = None,
        data_dir: str | None = None,
    ) -> None:
        super().__init__()
        check_counts(fit=fit, val=val, test=test)
        if type(seed) is not int:
            raise GrainsError(f"seed is {seed!r}; wanted an integer")
        if type(batch_size) is not int or batch_size < 1:
            raise GrainsError(f"batch_size is {batch_size!r}; wanted 1 or more")
        self.dataset = _resolved(dataset, data_dir)
        self.counts = {"fit": fit, "val": val, "test": test}
        self.seed = seed
        self.batch_size = batch_size
        self.template = template

    @cached_property
    def pairs(self) -> list[ContrastivePair]:
        """All pairs as the data set gives them, read once."""
        given = self.dataset
        pairs = given.pairs() if isinstance(given, PairDataset) else given
        if not pairs:
            raise GrainsError("the dataset holds no pair; wanted at least one")
        return pairs

    @cached_property
    def split(self) -> Split:
        """The three parts, with the template put in place."""
        split = split_pairs(self.pairs, **self.counts, seed=self.seed)
        if self.template is None:
            return split
        parts = {name: _with_template(getattr(split, name), self.template) for name in PARTS}
        return dataclasses.replace(split, **parts)

    def prepare_data(self) -> None:
        """Read the data in one process first, so that a download happens once."""
        _ = self.pairs

    def setup(self, stage: str) -> None:
        """Split the data; every process draws the same split."""
        _ = self.split
        # Two warnings that are wrong here: loader processes would only cost time, since the pairs
        # lie in memory; and an empty list is what val=0 asks for.
        warnings.filterwarnings("ignore", ".*dataloader' does not have many workers.*")
        warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Return the batches of the fit part, not shuffled."""
        return self._loader("fit")

    def val_dataloader(self) -> DataLoader[PairBatch] | list[PairBatch]:
        """Return the batches of the val part, or an empty list, at which Lightning skips it."""
        return self._loader("val") if self.split.val else []

    def test_dataloader(self) -> DataLoader[PairBatch]:
        """Return the batches of the test part."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[PairBatch]:
        """Return the batches of the test part."""
        return self._loader("test")

    def describe(self) -> dict[str, Any]:
        """Return what an artifact records: the data's identity, templates and split, as JSON."""
        templates = {self.template} if self.template else {pair.template for pair in self.pairs}
        return {
            "dataset": self._source(),
            "templates": sorted(templates),
            "split": self.split.record(),
        }

    @classmethod
    def again(cls, record: Mapping[str, Any]) -> SteeringDataModule:
        """Return the data module that described itself so: a vector's card has it under `data`.

        Raises:
            GrainsError: if no name leads back to the data set, or it gives other pairs by now.
        """
        source = record["dataset"]
        if source["name"] not in DATASETS.names():  # a file must not make us import
            raise GrainsError(
                f"the data set is recorded as {source['name']!r}, and no name leads back to it; "
                "wanted a data set or a file of pairs"
            )
        made = cls({**source["settings"], "name": source["name"]})
        if record["templates"] != sorted({pair.template for pair in made.pairs}):
            made.template = record["templates"][0]
        if not made.split_as(record):
            raise GrainsError(
                f"data set {source['name']!r} gives other pairs than are recorded; wanted the data "
                "as it was"
            )
        return made

    def split_as(self, record: Mapping[str, Any]) -> bool:
        """Draw the split that was recorded, if the data is the same; return whether it is."""
        data, split, before = record["dataset"], record["split"], (self.counts, self.seed)
        sizes, ids = {part: split["sizes"][part] for part in PARTS}, split["ids_sha256"]
        if self._source()["sha256"] != data["sha256"]:
            return False
        self.seed = split["seed"]
        # A part that was the rest is drawn last: which one it was is not recorded.
        for rest in (None, *PARTS):
            self.counts = {**sizes, **({rest: None} if rest else {})}
            self.__dict__.pop("split", None)
            if self.split.record()["ids_sha256"] == ids:
                return True
        self.counts, self.seed = before
        self.__dict__.pop("split", None)
        return False

    def _source(self) -> dict[str, Any]:
        given = self.dataset
        if isinstance(given, PairDataset):
            return given.source(self.pairs)
        return identity("list", {}, self.pairs)

    def _loader(self, name: Literal["fit", "val", "test"]) -> DataLoader[PairBatch]:
        part = getattr(self.split, name)
        if not part:
            raise GrainsError(
                f"the {name} part is empty: {len(self.pairs)} pairs were split with "
                f"{', '.join(f'{key}={count}' for key, count in self.counts.items())}; "
                f"wanted at least one pair in {name}"
            )
        # A DataLoader is typed by its items; what it hands out are `_collate`'s batches of them.
        loader: DataLoader[Any] = DataLoader(
            _Indexed(part), batch_size=self.batch_size, collate_fn=_collate
        )
        return loader


class _Indexed(Dataset[tuple[int, ContrastivePair]]):
    """A part whose items know their index in it."""

    def __init__(self, pairs: Sequence[ContrastivePair]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[int, ContrastivePair]:
        return index, self.pairs[index]


def _collate(items: Sequence[tuple[int, ContrastivePair]]) -> PairBatch:
    index, pairs = zip(*items, strict=True)
    return PairBatch(index=torch.tensor(index), pairs=pairs)


def _with_template(pairs: Sequence[ContrastivePair], template: str) -> tuple[ContrastivePair, ...]:
    return tuple(dataclasses.replace(pair, template=template) for pair in pairs)


def _resolved(dataset: Any, data_dir: str | None) -> PairDataset | list[ContrastivePair]:
    """Turn whatever a user may write into a data set, or a list of pairs."""
    settings = {} if data_dir is None else {"data_dir": data_dir}
    if isinstance(dataset, list | tuple):
        if settings:
            raise GrainsError(
                f"data_dir is {data_dir!r}, but a list of pairs is read from no folder"
            )
        return [_pair(item, number) for number, item in enumerate(dataset, start=1)]
    if isinstance(dataset, Mapping) and _is_path(dataset.get("name")):
        dataset = {**dataset, "name": "file", "path": dataset["name"]}
    if isinstance(dataset, str | os.PathLike) and _is_path(dataset):
        return DATASETS.build("file", path=os.fspath(dataset), **settings)
    if isinstance(dataset, PairDataset) and settings and not hasattr(dataset, "data_dir"):
        raise GrainsError(f"dataset {DATASETS.name_of(dataset)!r} has no setting 'data_dir'")
    return DATASETS.build(dataset, **settings)


def _pair(item: Any, number: int) -> ContrastivePair:
    """Return one pair of a list; `number` counts them from 1."""
    if isinstance(item, ContrastivePair):
        return item
    known = {field.name: field.default for field in dataclasses.fields(ContrastivePair)}
    if not isinstance(item, Mapping):
        raise GrainsError(
            f"the dataset lists {item!r}; wanted pairs (ContrastivePair), or mappings of "
            f"{', '.join(known)}"
        )
    for key in item:
        if key not in known:
            raise GrainsError(
                f"pair {number} of the list has no field {key!r}; {did_you_mean(str(key), known)}"
            )
    lacking = [key for key in known if known[key] is dataclasses.MISSING and key not in item]
    if lacking:
        raise GrainsError(f"pair {number} of the list lacks {lacking[0]!r}; wanted some text")
    return ContrastivePair(**item)


def _is_path(text: Any) -> bool:
    if not isinstance(text, str):
        return isinstance(text, os.PathLike)
    if text.lower().endswith(SUFFIXES) or "/" in text or os.sep in text:
        return True
    return "." in text and Path(text).is_file()  # a file `starter` does not hide the name
