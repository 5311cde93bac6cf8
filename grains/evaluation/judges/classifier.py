"""A judge that is a local classifier of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from grains.data import Item
from grains.errors import GrainsError, did_you_mean
from grains.evaluation.judges.base import JUDGES, DirectedJudge, check_template, filled
from grains.models.catalog import hub_status
from grains.models.reading import REPORTING, reading, whole

_BATCH = 16


@JUDGES.register("classifier")
@final
@dataclass(frozen=True, kw_only=True)
class ClassifierJudge(DirectedJudge):
    """A sequence classifier's probability of one label, in 0..1: toxic, false, off the point, ...

    A text that is longer than it takes is cut at its end.

    Args:
        model: a hub id or a folder of a transformers sequence classifier.
        label: the label whose probability is the verdict.
        better: whether that label is good (`higher`) or bad (`lower`).
        text: what it reads: a text that holds `{answer}` and may hold `{question}`.
    """

    model: str
    label: str
    text: str = "{answer}"

    def __post_init__(self) -> None:
        """Refuse a text that does not show the answer."""
        check_template(self.text)

    @property
    def metric(self) -> str:
        """Return the label."""
        return self.label

    def judge(
        self, items: Sequence[Item], answers: Sequence[str], *, quiet: bool = False
    ) -> Float[Tensor, " items"]:
        """Classify every answer."""
        model, tokenizer = _loaded(self.model)
        index = _index_of(self.label, model.config.id2label, self.model)
        texts = [
            filled(self.text, item, answer) for item, answer in zip(items, answers, strict=True)
        ]
        longest = min(
            tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512)
        )
        verdicts = torch.zeros(len(texts), dtype=torch.float64)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        with tqdm(total=len(texts), desc="Judge", leave=False, delay=2, disable=quiet) as bar:
            for start in range(0, len(order), _BATCH):
                rows = order[start : start + _BATCH]
                fed = tokenizer(
                    [texts[row] for row in rows],
                    padding=True,
                    truncation=True,
                    max_length=longest,
                    return_tensors="pt",
                )
                with torch.no_grad():
                    logits = model(**fed.to(model.device)).logits
                verdicts[rows] = _probabilities(model.config, logits)[:, index].cpu()
                bar.update(len(rows))
        return verdicts


def _index_of(label: str, labels: dict[int, str], model: str) -> int:
    for index, name in labels.items():
        if name == label:
            return int(index)
    raise GrainsError(f"{model} has no label {label!r}; {did_you_mean(label, labels.values())}")


def _probabilities(config: Any, logits: Tensor) -> Tensor:
    """Return the probability of each label: one by one where several may hold, else sharing 1."""
    several = config.num_labels == 1 or config.problem_type == "multi_label_classification"
    return logits.double().sigmoid() if several else logits.double().softmax(-1)


@lru_cache(maxsize=1)
def _loaded(origin: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = Path(origin).expanduser()
    options: dict[str, Any] = {"trust_remote_code": False}
    place: str | Path = origin
    if folder.is_dir():
        place = folder
    elif hub_status(origin) is None:
        options["local_files_only"] = True
    with reading(origin, "does not load as a sequence classifier"):
        # Without a trained head every verdict would be a random one: `whole` refuses that.
        kind = AutoModelForSequenceClassification
        model = whole(kind.from_pretrained(place, **REPORTING, **options), origin)
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
    if tokenizer.pad_token is None:  # of a decoder, whose texts could not be batched
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.eval().requires_grad_(False).to(device), tokenizer
