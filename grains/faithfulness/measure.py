"""Attributors on pairs: whose ranking of the positions a model's score follows."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from grains import objectives
from grains.attributors import ATTRIBUTORS, Attributor
from grains.blanks import blank
from grains.errors import GrainsError
from grains.faithfulness.curves import Curves, averaged, perturbed, random_rankings
from grains.faithfulness.result import Faithfulness, Perturbation
from grains.models import SteerableModel
from grains.objectives import Objective
from grains.types import ContrastivePair, Side

RANDOM = "random rankings"


class _Found(NamedTuple):
    """What one ranking of one batch gave: a row a pair, and in the end a column a side."""

    deletion: Tensor
    insertion: Tensor
    gap: Tensor
    steps: Tensor

    @property
    def curves(self) -> Curves:
        return Curves(self.deletion, self.insertion)


def label_of(attributor: Attributor) -> str:
    """Return an attributor's name, and the settings that are not the default ones.

    The token budget, which changes no credit, is left out.

    >>> label_of(ATTRIBUTORS.build("integrated_gradients", steps=32, token_budget=512))
    'integrated_gradients steps=32'
    """
    usual = {field.name: field.default for field in dataclasses.fields(attributor)}
    usual.pop("token_budget", None)
    spec = ATTRIBUTORS.spec(attributor)
    changed = [f"{key}={spec[key]}" for key, value in usual.items() if spec[key] != value]
    return " ".join([spec["name"], *changed])


def measure(
    model: SteerableModel,
    pairs: Sequence[ContrastivePair],
    attributors: Sequence[Any],
    settings: Perturbation | None = None,
    *,
    batch_size: int = 4,
    quiet: bool = False,
) -> Faithfulness:
    """Credit pairs by several attributors, and see whose ranking the score follows.

    Args:
        model: the frozen model.
        pairs: two or more.
        attributors: names, mappings or objects, as the registry takes them.
        settings: the usual ones if not given.
        batch_size: pairs handled together.
        quiet: without a progress bar.

    Raises:
        GrainsError: if there are not enough pairs, an attributor is named twice, a pair has no
            position of the modality, or as encoding and attribution do.
    """
    settings = settings or Perturbation()
    named = _named(attributors)
    if len(pairs) < 2:
        raise GrainsError(f"{len(pairs)} pairs are given; wanted 2 or more, for an interval")
    batches = []
    with tqdm(total=len(pairs), desc="Deleting and inserting", disable=quiet) as bar:
        for start in range(0, len(pairs), batch_size):
            some = pairs[start : start + batch_size]
            sides = [
                _side(model, some, objective, named, settings)
                for objective in _objectives(model, some, settings)
            ]
            batches.append({name: _joined(torch.stack, sides, name) for name in sides[0]})
            bar.update(len(some))
    found = {name: _joined(torch.cat, batches, name) for name in batches[0]}
    random = found.pop(RANDOM)
    return Faithfulness(
        settings=settings,
        pairs=tuple(pair.id or pair.prompt[:40] for pair in pairs),
        random=random.curves,
        curves={name: one.curves for name, one in found.items()},
        gaps={name: one.gap for name, one in found.items()},
        passes={name: float(one.steps.sum(1).double().mean()) for name, one in found.items()},
    )


def _named(attributors: Sequence[Any]) -> dict[str, Attributor]:
    named: dict[str, Attributor] = {}
    for spec in attributors:
        attributor = ATTRIBUTORS.build(spec)
        if (label := label_of(attributor)) in named:
            raise GrainsError(f"attributor {label!r} is named twice; wanted each once")
        named[label] = attributor
    if not named:
        raise GrainsError("no attributor is named; wanted one or more")
    return named


def _objectives(
    model: SteerableModel, pairs: Sequence[ContrastivePair], settings: Perturbation
) -> list[Objective]:
    if settings.scope == "prompt":
        return [objectives.contrast(model, pairs, settings.reduction)]
    return [
        objectives.likelihood(model, pairs, side, settings.reduction)[0]
        for side in typing.get_args(Side)
    ]


def _side(
    model: SteerableModel,
    pairs: Sequence[ContrastivePair],
    objective: Objective,
    attributors: Mapping[str, Attributor],
    settings: Perturbation,
) -> dict[str, _Found]:
    encoded, allowed = objective.encoded, objective.content
    if settings.modality != "both":
        allowed = allowed & (encoded.image if settings.modality == "image" else ~encoded.image)
    for name, some in zip(encoded.names, allowed.any(1).tolist(), strict=True):
        if not some:
            raise GrainsError(
                f"pair {name!r} has no position to fill with modality {settings.modality!r}; "
                "wanted another modality, or pairs with such positions"
            )
    fill = blank(model, pairs, encoded, settings.baseline, settings.image_baseline)
    start = objective.baseline(fill)
    credits = {
        name: attributor.attribute(objective.score, objective.inputs, start)
        for name, attributor in attributors.items()
    }
    rankings = [credit.scores.double() for credit in credits.values()]
    drawn = random_rankings(objective.inputs, allowed, settings.draws, settings.seed)
    curves = perturbed(
        objective.score,
        objective.inputs,
        start,
        torch.cat([torch.stack(rankings), drawn.to(rankings[0].device)]),
        allowed,
        steps=settings.steps,
        token_budget=settings.token_budget,
    )
    deletion, insertion = (curve.cpu() for curve in curves)
    none = torch.full((len(pairs),), torch.nan)
    own = len(rankings)
    random = averaged(Curves(deletion[own:], insertion[own:]))
    found = {
        name: _Found(deletion[at], insertion[at], credit.gap.cpu(), credit.steps.cpu())
        for at, (name, credit) in enumerate(credits.items())
    }
    return {**found, RANDOM: _Found(*random, none, torch.zeros(len(pairs)))}


def _joined(join: Any, parts: Sequence[Mapping[str, _Found]], name: str) -> _Found:
    """Put sides side by side, or batches one behind the other."""
    columns = zip(*(part[name] for part in parts), strict=True)
    axis = 1 if join is torch.stack else 0
    return _Found(*(join(column, axis) for column in columns))
