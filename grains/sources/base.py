"""Where a direction finder's rows come from: what `toward` and `away` are."""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grains import activations
from grains.errors import GrainsError
from grains.models import SteerableModel
from grains.registry import Registry
from grains.types import ContrastivePair, Readout, Side, Site, checked_choice

Value = TypeVar("Value")


@dataclass(frozen=True)
class Rows:
    """What one batch of pairs says about each layer.

    Args:
        toward: layer to `[batch, d_model]`, where the hidden state should go.
        away: layer to `[batch, d_model]`, where it should not.
        norms: layer to `[batch]`, the length of the hidden states where they were read.
        gap: completeness gap of the attribution behind each pair, the larger of its two sides;
            NaN where there is none. `[batch]`
        steps: gradient passes spent on each pair. `[batch]`
    """

    toward: dict[int, Float[Tensor, "batch d_model"]]
    away: dict[int, Float[Tensor, "batch d_model"]]
    norms: dict[int, Float[Tensor, " batch"]]
    gap: Float[Tensor, " batch"]
    steps: Int[Tensor, " batch"]

    @staticmethod
    def unattributed(
        toward: dict[int, Tensor], away: dict[int, Tensor], norms: dict[int, Tensor]
    ) -> Rows:
        """Return rows that no attribution stands behind."""
        batch = len(next(iter(toward.values())))
        none = torch.zeros(batch, dtype=torch.long)
        return Rows(toward, away, norms, torch.full((batch,), torch.nan), none)

    @staticmethod
    def cat(parts: Sequence[Rows]) -> Rows:
        """Return the rows of several batches as one."""

        def by_layer(dicts: list[dict[int, Tensor]]) -> dict[int, Tensor]:
            return {layer: torch.cat([rows[layer] for rows in dicts]) for layer in dicts[0]}

        return Rows(
            toward=by_layer([part.toward for part in parts]),
            away=by_layer([part.away for part in parts]),
            norms=by_layer([part.norms for part in parts]),
            gap=torch.cat([part.gap for part in parts]),
            steps=torch.cat([part.steps for part in parts]),
        )

    def take(self, order: Sequence[int]) -> Rows:
        """Return some rows in the given order."""
        where = torch.tensor(order, dtype=torch.long)

        def by_layer(rows: dict[int, Tensor]) -> dict[int, Tensor]:
            return {layer: part[where] for layer, part in rows.items()}

        return Rows(
            toward=by_layer(self.toward),
            away=by_layer(self.away),
            norms=by_layer(self.norms),
            gap=self.gap[where],
            steps=self.steps[where],
        )


class Memo:
    """Results that several sources ask of the same batch, such as one attribution for many masks.

    Keys are frozen components with their settings, so equal work has an equal key. A plug-in with a
    setting that cannot be hashed, such as a list, is computed anew each time.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return what is known under `key`, making it the first time."""
        try:
            hash(key)
        except TypeError:
            return make()
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


@dataclass(frozen=True, kw_only=True)
class DirectionSource(ABC):
    """Turns pairs into the rows that a direction finder reads.

    Attributes:
        site: what the rows are read at, and steered: the decoder's blocks, the vision tower's, or
            single attention heads.

    Raises:
        GrainsError: if a field with a `Literal` type has another value.
    """

    site: ClassVar[Site] = "decoder"

    def __post_init__(self) -> None:
        """Refuse a choice that there is not; what extends this calls it."""
        for name, hint in typing.get_type_hints(type(self)).items():
            if typing.get_origin(hint) is typing.Literal:
                where = f"source {SOURCES.name_of(self)!r}: {name}"
                checked_choice(getattr(self, name), hint, where)

    def blocks(self, model: SteerableModel) -> Sized:
        """Return the blocks at the source's site, or the heads, which `layers` count.

        Raises:
            GrainsError: if there are none: the model reads text alone, or its heads are not known.
        """
        if self.site == "decoder":
            return model.blocks
        if self.site == "heads":
            if model.heads is None:
                raise GrainsError(
                    f"source {SOURCES.name_of(self)!r} reads single attention heads, and where "
                    f"those of {model.name!r} are is not known; wanted another family, or another "
                    "source"
                )
            return model.heads
        if model.vision_blocks is None:
            raise GrainsError(
                f"source {SOURCES.name_of(self)!r} reads the vision tower, and {model.name!r} has "
                "none; wanted a vision-language model, or another source"
            )
        return model.vision_blocks

    @abstractmethod
    def rows(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        layers: Sequence[int],
        memo: Memo,
    ) -> Rows:
        """Return one toward row and one away row a pair and layer, in float32 on the CPU.

        Args:
            model: the frozen model.
            pairs: one batch.
            layers: the blocks of the source's site whose outputs are wanted.
            memo: of this batch, shared by all sources that see it.
        """


@dataclass(frozen=True, kw_only=True)
class BothAnswers(DirectionSource):
    """States at prompt + chosen (*toward*) and prompt + rejected (*away*), at the source's site.

    Args:
        readout: where they are read; `last_prompt` would read the same on both sides.
    """

    readout: Readout = "answer_mean"

    def __post_init__(self) -> None:
        """Refuse the read-out that sees no answer."""
        super().__post_init__()
        if self.readout == "last_prompt":
            raise GrainsError(
                f"source {SOURCES.name_of(self)!r}: readout is 'last_prompt', where both answers "
                "read the same; wanted 'answer_mean' or 'last'"
            )

    def rows(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        layers: Sequence[int],
        memo: Memo,
    ) -> Rows:
        """Read both sides."""
        self.blocks(model)  # refuses a model without them
        chosen, rejected = (
            activations.read(model, model.encode(pairs, side), layers, self.readout, site=self.site)
            for side in typing.get_args(Side)
        )
        return Rows.unattributed(chosen.hidden, rejected.hidden, chosen.norms)


SOURCES: Registry[DirectionSource] = Registry("source", DirectionSource)
