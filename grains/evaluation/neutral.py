"""Neutral text: what steering costs in fluency.

The coefficient is chosen by its damage on these same texts, so that they say what the choice has
cost, and are no fresh test of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from tqdm.auto import tqdm

from grains.data import Item, neutral_texts
from grains.evaluation.base import TASKS, Scores, Task
from grains.evaluation.choice import batches
from grains.evaluation.generation import GenerationTask
from grains.models import SteerableModel

_PROMPT_SHARE = 0.25  # as where damage is measured
_OPENING = 12  # words


@TASKS.register("perplexity")
@final
@dataclass(frozen=True, kw_only=True)
class Perplexity(Task):
    """How likely the packaged neutral texts are: negative log-probability a token, in nats.

    The opening quarter of each text is its prompt. `exp` of `log_perplexity` is the perplexity.
    """

    higher_is_better: ClassVar[Mapping[str, bool]] = {"log_perplexity": False}

    def read(self) -> list[Item]:
        """Read the texts."""
        return _texts()

    def score(self, model: SteerableModel, items: Sequence[Item], *, quiet: bool = False) -> Scores:
        """Score every text."""
        found: dict[int, float] = {}
        bar = tqdm(
            list(batches(model, items, "plain")),
            desc=TASKS.name_of(self),
            leave=False,
            delay=2,
            disable=quiet,
        )
        for batch in bar:
            texts = [items[row].prompt for row in batch]
            encoded = model.encoder.encode_texts(texts, _PROMPT_SHARE, model.device)
            with torch.no_grad():
                mean = model.answer_log_prob(encoded, reduction="mean")
            found |= dict(zip(batch, (-mean).tolist(), strict=True))
        return Scores.of(items, [{"log_perplexity": found[row]} for row in range(len(items))])


@TASKS.register("continuation")
@final
@dataclass(frozen=True, kw_only=True)
class Continuation(GenerationTask):
    """How little the model repeats itself when it goes on from the opening words of neutral texts.

    The prompt is the first 12 words of a text.
    """

    template: str = "plain"

    def read(self) -> list[Item]:
        """Read the openings."""
        return [
            Item(id=item.id, prompt=" ".join(item.prompt.split()[:_OPENING])) for item in _texts()
        ]


def _texts() -> list[Item]:
    texts = enumerate(neutral_texts())
    return [Item(id=f"neutral-{number:02d}", prompt=text) for number, text in texts]
