"""The long steps of a sweep, each done once, stored as it ends, and told to one bar."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from grains._version import __version__
from grains.artifact import SteeringVector
from grains.attributors import ATTRIBUTORS, Attributor
from grains.card import plain
from grains.cells import CellStore, Tensors, digest_of
from grains.damage import NO_DAMAGE, Damage, DamageCurve, NeutralText
from grains.data import PairBatch
from grains.data.base import pair_sha256, sha256_of
from grains.models import SteerableModel
from grains.scoring import score_part
from grains.sources import SOURCES, DirectionSource, Memo, Rows
from grains.sweep.progress import Progress
from grains.types import Attribution, ContrastivePair

Value = TypeVar("Value")
SIDES = 2
PASSES = 4
"""What one pair's rows are taken to cost until the bar has seen it: each side, whole and masked."""


class Work:
    """What a sweep asks of a model.

    Args:
        model: the frozen model.
        store: where results are kept.
        progress: the bar.
        neutral: the texts, or pairs, that damage is measured on.
    """

    def __init__(
        self,
        model: SteerableModel,
        store: CellStore,
        progress: Progress,
        neutral: Sequence[str] | Sequence[ContrastivePair],
    ) -> None:
        self.model, self.progress, self.neutral = model, progress, neutral
        self._store = store
        self._of_model = {
            "grains": __version__,
            "model": model.fingerprint,
            "dtype": str(model.dtype),
            "device": model.device.type,
        }

    def rows(self, source: DirectionSource, batch: PairBatch, memo: BatchMemo) -> Rows:
        """Return a source's rows of one batch."""
        rows = functools.partial(source.rows, self.model, batch.pairs, memo.layers, memo)
        return memo.get(source, rows)

    def damage(self, vector: SteeringVector) -> Damage:
        """Return the damage of a vector at its own strength."""

        def measure() -> Tensors:
            text = self._text
            with vector.applied_to(self.model):
                damage = text.damage()
            return {name: torch.tensor(x) for name, x in damage._asdict().items()}

        key = {"damage": digest_of(vector), "neutral": self._neutral_content}
        found = self.stored("damage", len(self.neutral), key, measure)
        return Damage(**{name: float(value) for name, value in found.items()})

    def curve(self, vector: SteeringVector, *, sign: float = 1.0) -> DamageCurve:
        """Return the damage of a vector as a function of its coefficient times `sign`."""
        return _StoredCurve(self, vector, sign)

    def perplexity(self) -> float:
        """Return the unsteered model's perplexity on neutral text."""
        key = {"perplexity": self._neutral_content}
        found = self.stored(
            "damage", 0, key, lambda: {"perplexity": torch.tensor(self._text.perplexity)}
        )
        return float(found["perplexity"])

    def scores(
        self, vector: SteeringVector | None, part: Sequence[PairBatch], kind: str
    ) -> Float[Tensor, "pairs 4"]:
        """Return `score_pairs` of some pairs in data order, unsteered if no vector is given."""

        def score() -> Tensors:
            with vector.applied_to(self.model) if vector else nullcontext():
                return {"scores": score_part(self.model, part)}

        pairs = sha256_of(_content(batch.pairs) for batch in part)
        key = {"scores": vector and digest_of(vector), "pairs": pairs}
        amount = SIDES * sum(len(batch.pairs) for batch in part)
        return self.stored(kind, amount, key, score)["scores"].double()

    def stored(
        self, kind: str, amount: float, key: Mapping[str, Any], make: Callable[[], Tensors]
    ) -> Tensors:
        """Return what is known under a key, or make it; an amount of 0 is a part of other work."""

        def timed() -> Tensors:
            start = time.perf_counter()
            found = make()
            if amount:
                self.progress.did(kind, amount, time.perf_counter() - start)
            return found

        return self._store.get({**self._of_model, **key}, timed)

    @functools.cached_property
    def _text(self) -> NeutralText:
        return NeutralText(self.model, self.neutral, quiet=True)

    @functools.cached_property
    def _neutral_content(self) -> str:
        return _content(self.neutral)


class BatchMemo(Memo):
    """Attributions and rows of one batch, each of which outlasts the process.

    Args:
        work: of the sweep.
        batch: the pairs.
        layers: whose rows are wanted.
    """

    def __init__(self, work: Work, batch: PairBatch, layers: Sequence[int]) -> None:
        super().__init__()
        self._work, self.layers = work, list(layers)
        self._pairs, self._size = _content(batch.pairs), len(batch.pairs)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return what is known under `key`, on disk too if it is an attribution or rows."""
        value: Any
        if isinstance(key, DirectionSource):
            at = {"rows": plain(SOURCES.spec(key)), "layers": self.layers}
            amount = PASSES * self._size
            value = _rows(self._stored(at, amount, lambda: _of_rows(make())))
        elif isinstance(key, tuple) and key and isinstance(key[0], Attributor):
            at = {"attribution": plain([ATTRIBUTORS.spec(key[0]), *map(str, key[1:])])}
            found = self._stored(at, 0, lambda: _of_attribution(make()))
            device = self._work.model.device
            scores, gap = found["scores"].to(device), found["gap"].to(device)
            value = Attribution(scores, gap, found["steps"].long().to(device))
        else:
            value = super().get(key, make)
        return value

    def _stored(self, at: dict[str, Any], amount: float, make: Callable[[], Tensors]) -> Tensors:
        return self._work.stored("rows", amount, {**at, "pairs": self._pairs}, make)


class _StoredCurve(DamageCurve):
    """A damage curve whose points outlast the process."""

    def __init__(self, work: Work, vector: SteeringVector, sign: float) -> None:
        self._work, self._vector, self._sign = work, vector, sign
        self.known = {0.0: NO_DAMAGE}

    def at(self, coefficient: float) -> Damage:
        """Return the damage at a coefficient."""
        if coefficient not in self.known:
            strong = dataclasses.replace(self._vector, coefficient=self._sign * coefficient)
            self.known[coefficient] = self._work.damage(strong)
        return self.known[coefficient]


def _of_rows(rows: Any) -> Tensors:
    sides = {"toward": rows.toward, "away": rows.away, "norms": rows.norms}
    named = {f"{side}.{layer}": part for side, by in sides.items() for layer, part in by.items()}
    return {**named, "gap": rows.gap, "steps": rows.steps}


def _rows(tensors: Tensors) -> Rows:
    sides: dict[str, dict[int, Tensor]] = {"toward": {}, "away": {}, "norms": {}}
    for name in tensors:
        side, dot, layer = name.partition(".")
        if dot:
            sides[side][int(layer)] = tensors[name]
    in_order = {side: dict(sorted(by_layer.items())) for side, by_layer in sides.items()}
    return Rows(**in_order, gap=tensors["gap"], steps=tensors["steps"].long())


def _of_attribution(credit: Any) -> Tensors:
    return {"scores": credit.scores, "gap": credit.gap, "steps": credit.steps}


def _content(items: Iterable[str | ContrastivePair]) -> str:
    return sha256_of(
        pair_sha256(item) if isinstance(item, ContrastivePair) else item for item in items
    )
