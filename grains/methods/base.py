"""A way to steer, whole: from pairs to something that is applied to the model at a strength."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from grains.artifact import SteeringVector
from grains.data import PairBatch
from grains.directions import Certificate
from grains.models import SteerableModel
from grains.registry import Registry
from grains.sources import Memo
from grains.types import ContrastivePair


class Steering(Protocol):
    """What can be applied to a model at a strength: a vector, an adapter, an instruction.

    Attributes:
        coefficient: its own strength; 0 leaves the model as it is, bit for bit.
        graded: whether another strength has another effect; an instruction is given or not. Absent
            means that it has.
    """

    @property
    def coefficient(self) -> float:
        """Its own strength."""
        ...

    def applied_to(
        self, model: Any, coefficient: float | None = None, *, strict: bool = True
    ) -> AbstractContextManager[None]:
        """Steer the model while the returned context is open, at another strength if given."""
        ...

    def to_record(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that acts: tensors by name, and the rest as JSON."""
        ...


class Candidate(NamedTuple):
    """One steering that a method offers; validation pairs choose among them.

    `label` tells it from the others, by its layers where it has some. `certificates` say how far
    the direction of each layer is to be trusted.
    """

    label: str
    steering: Steering
    certificates: Mapping[int, Certificate] = {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What every method of a comparison is given, so that they differ in nothing else.

    Args:
        model: the frozen model.
        batches: the pairs to fit on.
        layer_sets: the sets of decoder blocks that may be steered.
        seed: of whatever is drawn.
        quiet: without progress bars.
    """

    model: SteerableModel
    batches: Sequence[PairBatch]
    layer_sets: Sequence[tuple[int, ...]]
    seed: int = 0
    quiet: bool = False
    memos: tuple[Memo, ...] = field(init=False)
    """One a batch: what several methods ask of the same pairs is computed once."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "memos", tuple(Memo() for _ in self.batches))

    def pairs(self) -> dict[int, ContrastivePair]:
        """Return each pair once by its index in the data, in that order, however it is batched."""
        found = {
            index: pair
            for batch in self.batches
            for index, pair in zip(batch.index.tolist(), batch.pairs, strict=True)
        }
        return dict(sorted(found.items()))

    def parts(self, pairs: int | None = None) -> list[tuple[PairBatch, Memo]]:
        """Return the batches with their memos: of the data's first `pairs` pairs, if given, alone.

        A batch of which some pairs are left out gets a memo of its own.
        """
        whole = list(zip(self.batches, self.memos, strict=True))
        if pairs is None:
            return whole
        first, found = set(list(self.pairs())[:pairs]), []
        for batch, memo in whole:
            kept = [row for row, index in enumerate(batch.index.tolist()) if index in first]
            if len(kept) == len(batch):
                found.append((batch, memo))
            elif kept:
                some = tuple(batch.pairs[row] for row in kept)
                part = dataclasses.replace(batch, index=batch.index[kept], pairs=some)
                found.append((part, Memo()))
        return found


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to steer: ours, a rival's or a control's. Its fields are its whole configuration.

    Attributes:
        role: whose it is.
    """

    role: ClassVar[str] = "rival"
    """`ours`, `rival`, or `control`: what should show no effect if the effect of the others is due
    to what they claim."""

    @abstractmethod
    def fit(self, material: Material) -> list[Candidate]:
        """Return one candidate or more, of any strength: the comparison solves for it.

        Raises:
            GrainsError: if the pairs hold nothing to steer by, or the method is not for the model.
        """

    def restored(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Steering:
        """Make a steering of `fit` again from what its `to_record` returned.

        Raises:
            GrainsError: for anything else.
        """
        return SteeringVector.from_record(record, tensors)


METHODS: Registry[Method] = Registry("method", Method)
