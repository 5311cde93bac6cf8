"""CAA: how the two answers' activations differ, without attribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from grains.sources.base import SOURCES, BothAnswers


@final
@SOURCES.register("answers")
@dataclass(frozen=True, kw_only=True)
class Answers(BothAnswers):
    """Activations of prompt + chosen (*toward*) and prompt + rejected (*away*), as CAA reads them.

    Source: Rimsky et al., "Steering Llama 2 via contrastive activation addition", 2023, with
    `mean_difference` as the finder.

    Args:
        readout: where hidden states are read; `last_prompt` would read the same on both sides.
    """
