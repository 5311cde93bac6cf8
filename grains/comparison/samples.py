"""What a reader looks at: answers before and after, and the tokens that were credited."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from grains.comparison.bench import Bench, Point
from grains.credits import Credits, explain
from grains.methods import VectorMethod
from grains.metrics import distinct_n
from grains.pictures.page import data_uri
from grains.sources import Masked
from grains.types import ContrastivePair

MAX_NEW_TOKENS = 48
SHOWN = 3  # pairs whose credits are kept, of the first
LOOKED_AT = 12


def answered(bench: Bench, points: Mapping[str, Sequence[Point]]) -> dict[str, Any]:
    """Return the answers of every method at the level nearest to where candidates are chosen.

    With them, of all answers of a method together: distinct-1 and distinct-2, and their perplexity
    under the unsteered model, so that nobody takes a stutter for an effect.
    """
    level = min(bench.plan.levels, key=lambda one: abs(one - bench.plan.choose_at))
    pairs = _prompts(bench)[: bench.plan.samples]
    if not pairs:
        return {"generations": [], "generated": {}}
    runs: dict[str, Point | None] = {"unsteered": None}
    for name, mine in points.items():
        runs[name] = min(mine, key=lambda point: abs((point.level or 0) - level))
    answers = {name: _answers(bench, pairs, point) for name, point in runs.items()}
    rows = [
        {
            "prompt": pair.prompt,
            "level": level,
            "answers": {name: said[row] for name, said in answers.items()},
        }
        for row, pair in enumerate(pairs)
    ]
    return {
        "generations": rows,
        "generated": {
            name: {
                "distinct_1": distinct_n(said, 1),
                "distinct_2": distinct_n(said, 2),
                "perplexity_unsteered": _perplexity(bench, pairs, said),
            }
            for name, said in answers.items()
        },
    }


def _prompts(bench: Bench) -> list[ContrastivePair]:
    """Return the questions of the first task, which no fit and no choice has seen."""
    first = bench.asked[0]
    template = getattr(first.task, "template", bench.model.encoder.default_template())
    return [
        ContrastivePair(
            id=item.id,
            prompt=item.prompt,
            chosen="yes",  # no answer is read here
            rejected="no",
            template=template,
            image=item.image,
        )
        for item in first.items
    ]


def _answers(bench: Bench, pairs: Sequence[ContrastivePair], point: Point | None) -> list[str]:
    steered = point.steering.applied_to(bench.model, point.coefficient) if point else nullcontext()
    said: dict[int, str] = {}
    with steered:
        for template in sorted({pair.template for pair in pairs}):
            rows = [row for row, pair in enumerate(pairs) if pair.template == template]
            found = bench.model.generate(
                [pairs[row].prompt for row in rows],
                [pairs[row].image for row in rows],
                template=template,
                max_new_tokens=MAX_NEW_TOKENS,
            )
            said |= dict(zip(rows, found, strict=True))
    return [said[row] for row in sorted(said)]


def _perplexity(
    bench: Bench, pairs: Sequence[ContrastivePair], said: Sequence[str]
) -> float | None:
    """Return the unsteered model's perplexity of the answers, None where none has a word."""
    given = [
        ContrastivePair(
            prompt=pair.prompt,
            chosen=answer,
            rejected=f"not {answer}",
            template=pair.template,
            image=pair.image,
        )
        for pair, answer in zip(pairs, said, strict=True)
        if answer.strip()
    ]
    if not given:
        return None
    with torch.no_grad():
        encoded = bench.model.encode(given, "chosen")
        total = bench.model.answer_log_prob(encoded, reduction="sum").double().sum()
    return float((-total / encoded.answer_mask.sum()).exp())


def credited(bench: Bench) -> list[dict[str, Any]]:
    """Return the strongest credits among the first fit pairs, by the first method that has any."""
    for named in bench.plan.named(bench.behaviour):
        source = named.method.source if isinstance(named.method, VectorMethod) else None
        if isinstance(source, Masked) and named.method.role == "ours":
            found = explain(
                bench.model,
                list(bench.data.split.fit[:LOOKED_AT]),
                source.attributor,
                scope=source.scope,
                baseline=source.baseline,
                image_baseline=source.image_baseline,
                reduction=source.reduction,
            )
            found.sort(key=lambda one: -float(one.scores.abs().sum()))
            return [_credit(one) for one in found[:SHOWN]]
    return []


def _credit(one: Credits) -> dict[str, Any]:
    return {
        "name": one.name,
        "explains": one.explains,
        "tokens": one.tokens,
        "scores": one.scores.tolist(),
        "modality": one.modality,
        "gap": None if math.isnan(one.gap) else one.gap,
        "pictures": [
            {"image": data_uri(picture.image), "boxes": _numbers(picture.boxes)}
            for picture in one.pictures
        ],
    }


def _numbers(boxes: Tensor) -> list[list[float | None]]:
    """Return the numbers, None for NaN, which JSON has not."""
    return [[None if math.isnan(x) else x for x in box] for box in boxes.tolist()]
