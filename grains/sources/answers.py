"""CAA: how the two answers' activations differ, without attribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from grains import activations
from grains.errors import GrainsError
from grains.models import SteerableModel
from grains.sources.base import SOURCES, DirectionSource, Memo, Rows
from grains.types import ContrastivePair, Readout


@final
@SOURCES.register("answers")
@dataclass(frozen=True, kw_only=True)
class Answers(DirectionSource):
    """Activations of prompt + chosen (*toward*) and prompt + rejected (*away*), as CAA reads them.

    Source: Rimsky et al., "Steering Llama 2 via contrastive activation addition", 2023, with
    `mean_difference` as the finder.

    Args:
        readout: where hidden states are read; `last_prompt` would read the same on both sides.
    """

    readout: Readout = "answer_mean"

    def __post_init__(self) -> None:
        """Refuse the read-out that sees no answer."""
        super().__post_init__()
        if self.readout == "last_prompt":
            raise GrainsError(
                "source 'answers': readout is 'last_prompt', where both answers read the same; "
                "wanted 'answer_mean' or 'last'"
            )

    def rows(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        layers: Sequence[int],
        memo: Memo,
    ) -> Rows:
        """Read both sides' activations."""
        chosen = activations.read(model, model.encode(pairs, "chosen"), layers, self.readout)
        rejected = activations.read(model, model.encode(pairs, "rejected"), layers, self.readout)
        return Rows.unattributed(chosen.hidden, rejected.hidden, chosen.norms)
