"""ITI: what single attention heads put out at the two answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from grains.sources.base import SOURCES, BothAnswers
from grains.types import Readout, Site


@final
@SOURCES.register("heads")
@dataclass(frozen=True, kw_only=True)
class HeadOutputs(BothAnswers):
    """Outputs of attention heads at prompt + chosen (*toward*) and prompt + rejected (*away*).

    Before they are joined and projected, as ITI reads them. Layers count heads through all blocks,
    see `grains.types.Site`; the method `iti` chooses among them.

    Source: inference-time intervention, Li et al., NeurIPS 2023 (arXiv 2306.03341).

    Args:
        readout: where they are read; `last_prompt` would read the same on both sides.
    """

    readout: Readout = "last"

    site: ClassVar[Site] = "heads"
