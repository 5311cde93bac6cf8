"""ITI: what single attention heads put out at the two answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from grains.errors import GrainsError
from grains.hooks import recording
from grains.models import Encoded, SteerableModel
from grains.sources.base import SOURCES, DirectionSource, Memo, Rows
from grains.types import ContrastivePair, Readout, Site


@final
@SOURCES.register("heads")
@dataclass(frozen=True, kw_only=True)
class HeadOutputs(DirectionSource):
    """Outputs of attention heads at prompt + chosen (*toward*) and prompt + rejected (*away*).

    Before they are joined and projected, as ITI reads them. Layers count heads through all blocks,
    see `grains.types.Site`; the method `iti` chooses among them.

    Source: inference-time intervention, Li et al., NeurIPS 2023 (arXiv 2306.03341).

    Args:
        readout: where they are read; `last_prompt` would read the same on both sides.
    """

    readout: Readout = "last"

    site: ClassVar[Site] = "heads"

    def __post_init__(self) -> None:
        """Refuse the read-out that sees no answer."""
        super().__post_init__()
        if self.readout == "last_prompt":
            raise GrainsError(
                "source 'heads': readout is 'last_prompt', where both answers read the same; "
                "wanted 'last' or 'answer_mean'"
            )

    def rows(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        layers: Sequence[int],
        memo: Memo,
    ) -> Rows:
        """Read both sides' heads."""
        self.blocks(model)
        toward, norms = self._read(model, model.encode(pairs, "chosen"), layers)
        away, _ = self._read(model, model.encode(pairs, "rejected"), layers)
        return Rows.unattributed(toward, away, norms)

    def _read(
        self, model: SteerableModel, encoded: Encoded, heads: Sequence[int]
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        weights = encoded.readout(self.readout)

        def keep(output: Float[Tensor, "batch seq width"]) -> tuple[Tensor, Tensor]:
            output = output.float()
            on = weights.to(output.device)
            lengths = (output.norm(dim=-1) * on).sum(1)
            return torch.einsum("bsd,bs->bd", output, on).cpu(), lengths.cpu()

        with torch.no_grad(), recording(model, heads, keep, stop=True, site=self.site) as read:
            model.logits(encoded, keep=1)
        outputs, norms = ({head: read[head][part] for head in read} for part in (0, 1))
        return outputs, norms
