"""What a comparison found for one behaviour, as JSON."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grains.comparison.bench import Asked, Bench, Point, Standing
from grains.comparison.plan import Named
from grains.comparison.samples import answered, credited
from grains.evaluation import TASKS, Scores
from grains.methods import METHODS

MAIN = ("margin", "mc2", "accuracy")
"""The metric that a task is told by: the first that it has; else its first."""

Points = Mapping[str, Sequence[Point]]


def record_of(bench: Bench) -> dict[str, Any]:
    """Return everything about a behaviour; what is not kept is computed."""
    standings = {named: bench.standing(named) for named in bench.plan.named(bench.behaviour)}
    points = {named.name: one.points for named, one in standings.items() if one.points}
    return {
        "name": bench.behaviour.name,
        "data": bench.data.describe(),
        "methods": [_method(named, standing) for named, standing in standings.items()],
        "points": [
            {
                "method": name,
                "level": point.level,
                "coefficient": point.coefficient,
                **point.damage._asdict(),
                "reached": point.reached,
            }
            for name, mine in points.items()
            for point in mine
        ],
        "tasks": [_task(bench, asked, points) for asked in bench.asked],
        **answered(bench, points),
        "credits": credited(bench),
    }


def _method(named: Named, standing: Standing) -> dict[str, Any]:
    chosen = standing.chosen
    marks = chosen.certificates if chosen else {}
    return {
        "name": named.name,
        "role": named.method.role,
        "summary": (inspect.getdoc(type(named.method)) or "").partition("\n")[0],
        "settings": METHODS.spec(named.method),
        "seconds": standing.seconds,
        "error": standing.error,
        "candidates": [
            {
                "label": offer.candidate.label,
                "coefficient": offer.coefficient,
                **offer.damage._asdict(),
                "val_margin": offer.margin,
            }
            for offer in standing.offers
        ],
        "chosen": chosen.label if chosen else None,
        "budget": getattr(chosen.steering, "card", {}).get("budget") if chosen else None,
        "certificates": {str(layer): dataclasses.asdict(mark) for layer, mark in marks.items()},
    }


def _task(bench: Bench, asked: Asked, points: Points) -> dict[str, Any]:
    plan, unsteered = bench.plan, bench.scores(asked, None)
    scored = {
        (name, point.level): bench.scores(asked, point)
        for name, mine in points.items()
        for point in mine
    }
    cells, figures = [], unsteered.figures()
    for (name, level), scores in scored.items():
        others = {other: found for other in plan.against if (found := scored.get((other, level)))}
        cells.append(
            {
                "method": name,
                "level": level,
                "means": scores.figures(),
                "change": _changes(unsteered, scores, plan.seed),
                "against": {
                    other: _changes(found, scores, plan.seed)
                    for other, found in others.items()
                    if other != name
                },
                "values": _values(scores),
            }
        )
    return {
        **asked.task.describe(bench.model, asked.items),
        "name": TASKS.name_of(asked.task),
        "label": asked.task.label(),
        "effect": not asked.side_effect,
        "items": len(asked.items),
        "left_out": asked.left_out,
        "main": next((name for name in MAIN if name in figures), next(iter(figures))),
        "higher_is_better": dict(asked.task.higher_is_better),
        "ids": [item.id for item in asked.items],
        "unsteered": unsteered.figures(),
        "unsteered_values": _values(unsteered),
        "cells": cells,
        "area": {
            name: _area(mine, {point.level: scored[name, point.level] for point in mine}, unsteered)
            for name, mine in points.items()
        },
    }


def _values(scores: Scores) -> dict[str, Any]:
    """Return one number a question and metric; of a ratio of sums, its two parts."""
    return {name: column.tolist() for name, column in {**scores.values, **scores.shares}.items()}


def _changes(before: Scores, after: Scores, seed: int) -> dict[str, Any]:
    return {name: one._asdict() for name, one in before.changes(after, seed=seed).items()}


def _area(
    points: Sequence[Point], scored: Mapping[float | None, Scores], unsteered: Scores
) -> dict[str, float]:
    """Return the area under the change as a function of KL, from no damage to the last level.

    A method that does not reach a level has a smaller area for it; its points say so.
    """
    if points[0].level is None:
        return {}
    kl = np.array([0.0, *(point.damage.kl for point in points)])
    order = kl.argsort(kind="stable")
    figures = [unsteered.figures(), *(scored[point.level].figures() for point in points)]
    areas = {}
    for metric, before in figures[0].items():
        change = np.array([figure[metric] - before for figure in figures])
        areas[metric] = float(np.trapezoid(change[order], kl[order]))
    return areas
