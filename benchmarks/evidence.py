"""Every method at the same damage on every task: what steering gains, beside rivals and controls.

    python -m benchmarks.evidence

Runs the comparison of `benchmarks/evidence.yaml`, writes its record and page to `out/evidence`, and
puts the tables into the README. What is computed is kept there: a run that was stopped goes on
where it was. With `torchrun --nproc-per-node 2 -m benchmarks.evidence` two processes share it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import publish as publishing
from grains.comparison import Plan, compare
from grains.report import Report
from grains.storage import write_atomically

PLAN = Path(__file__).with_suffix(".yaml")
OUT = Path("out/evidence")
JUDGED = (0.05, 0.1)  # levels at which goals are stated
SHOWN = 0.1  # in the README
RIVAL, BY_CREDIT, BY_LOT = "caa", "grains", "random_masks"
OWN = ("mc1", "mc2", "accuracy")  # what a benchmark is known by; the margin moves before it does
MISSED = " †"

Record = Mapping[str, Any]


def main_metric(task: Record) -> str:
    """Return what a task is told by: the margin, where it has one."""
    return task["main"]


def own_metric(task: Record) -> str:
    """Return the benchmark's own metric; what it is told by, where it has none of `OWN`."""
    return next((name for name in OWN if name in task["unsteered"]), task["main"])


Metric = Callable[[Record], str]
METRICS: dict[str, Metric] = {"margin": main_metric, "the benchmark's own metric": own_metric}


def best_of_ours(fit: Record) -> str | None:
    """Return the method of ours with the largest margin on validation pairs; None without any."""
    margins = {
        method["name"]: candidate["val_margin"]
        for method in fit["methods"]
        for candidate in method["candidates"]
        if method["role"] == "ours" and not method["error"]
        if candidate["label"] == method["chosen"]
    }
    return max(margins, key=margins.__getitem__, default=None)


def standing(fit: Record, task: Record, level: float) -> dict[str, Record]:
    """Return the cells of all methods that were brought to a level."""
    missed = _missed(fit)
    cells = {cell["method"]: cell for cell in task["cells"] if cell["level"] == level}
    return {name: cell for name, cell in cells.items() if (name, level) not in missed}


def goals(record: Record, level: float) -> str:
    """Say where the best of ours stands, whether controls are silent, and what it costs."""
    picked = {fit["name"]: best_of_ours(fit) for fit in record["fits"]}
    names = "; ".join(f"{fit}: {ours or 'none was fitted'}" for fit, ours in picked.items())
    said = [f"**KL {level:g} nats a token.** The best of ours by validation margin: {names}."]
    for what, metric_of in METRICS.items():
        effects = [_effects(record, level, metric_of)] if any(picked.values()) else []
        said.append(" ".join([f"By {what}:", *effects, _controls(record, level, metric_of)]))
    if any(picked.values()):
        said += _costs(record, level)
    missed = [
        f"{name} ({fit['name']})"
        for fit in record["fits"]
        for name, at in _missed(fit)
        if at == level
    ]
    if missed:
        said.append(f"Not brought to this level and left out: {', '.join(missed)}.")
    return "\n- ".join(said)


def _effects(record: Record, level: float, metric_of: Metric) -> str:
    """Say on which tasks the best of ours is level with the first, beats CAA, and so on."""
    tasks = list(_tasks(record, effect=True))
    on: dict[str, list[str]] = {
        what: [] for what in ("near", "behind", "below", "rival", "twice", "by lot")
    }
    for fit, task in tasks:
        name, metric, cells = task["name"], metric_of(task), standing(fit, task, level)
        sign, ours = _sign(task, metric), best_of_ours(fit)
        change = {one: c["change"][metric] for one, c in cells.items() if metric in c["change"]}
        if ours not in change:
            on["behind"].append(f"{name}, where it does not stand")
            continue
        gain = {one: sign * found["mean"] for one, found in change.items()}
        first = max(gain, key=gain.__getitem__)
        near = gain[ours] >= sign * change[first]["low" if sign > 0 else "high"]
        for what, holds in {
            "near": near,
            "below": gain[ours] < 0,
            "rival": _beats(cells, ours, RIVAL, metric, sign),
            "twice": gain[ours] >= 2 * gain.get(RIVAL, 0) > 0,
            "by lot": _beats(cells, ours, BY_LOT, metric, sign),
        }.items():
            on[what] += [name] if holds else []
        on["behind"] += [] if near else [f"{name}: {first}"]
    said = {what: _on(names) for what, names in on.items()}
    return (
        f"it is first, or within the interval of the first, on {_on(on['near'], len(tasks))}; "
        f"behind on {said['behind']}; below unsteered on {said['below']}. It beats {RIVAL} with "
        f"p < 0.05 on {said['rival']}, moves at least twice as far as {RIVAL} on {said['twice']}, "
        f"and beats {BY_LOT} with p < 0.05 on {said['by lot']}."
    )


def _controls(record: Record, level: float, metric_of: Metric) -> str:
    """Say whether masks by lot are worse than by credit, and which controls show an effect."""
    worse, loud = [], []
    for fit, task in _tasks(record, effect=True):
        metric, cells = metric_of(task), standing(fit, task, level)
        if _beats(cells, BY_CREDIT, BY_LOT, metric, _sign(task, metric)):
            worse.append(task["name"])
        for method in fit["methods"]:
            change = cells.get(method["name"], {"change": {}})["change"].get(metric)
            # What is reversed should show an effect, the opposite one.
            null = method["role"] == "control" and method["name"] != "reversed_ranking"
            if null and change and _marked(change):
                loud.append(f"{method['name']} on {task['name']} ({change['mean']:+.3f})")
    return (
        f"{BY_LOT} is worse than {BY_CREDIT} with p < 0.05 on {_on(worse)}. Controls whose "
        f"interval leaves out 0: {', '.join(loud) or 'none'}."
    )


def _costs(record: Record, level: float) -> Iterable[str]:
    """Say what the best of ours costs on each side effect, at worst over the fits."""
    for title, parts in _sides(record).items():
        metric = own_metric(parts[0][1])
        found = [
            (_sign(task, metric) * cell["change"][metric]["mean"], name, fit["name"])
            for fit, task in parts
            if (name := best_of_ours(fit))
            and (cell := standing(fit, task, level).get(name))
            and metric in cell["change"]
        ]
        if not found:
            yield f"{title}: the best of ours stands on none of the fits."
            continue
        gain, name, fit = min(found)
        lost = f"{-100 * gain:.1f} points" if metric in OWN else f"{-gain:.3f}"
        loses = f"loses at most {lost}" if gain < 0 else "loses nothing"
        yield f"{title}, {metric}: the best of ours {loses} ({name}, {fit})."


def table(record: Record, level: float, metric_of: Metric) -> str:
    """Return methods by tasks: the change of a metric of each at a level of damage."""
    tasks, sides = list(_tasks(record, effect=True)), _sides(record)
    roles = {one["name"]: one["role"] for fit in record["fits"] for one in fit["methods"]}
    rows = [
        [
            name,
            role,
            *(_shown([one], name, level, metric_of) for one in tasks),
            *(_shown(parts, name, level, metric_of) for parts in sides.values()),
        ]
        for name, role in roles.items()
    ]
    rows.sort(key=lambda row: ("ours", "rival", "control").index(row[1]))
    headings = ["method", "", *(f"{task['name']}: {metric_of(task)}" for _, task in tasks)]
    headings += [
        f"{title}: {metric_of(parts[0][1])}{', worst of the fits' if len(parts) > 1 else ''}"
        for title, parts in sides.items()
    ]
    return publishing.table(headings, rows)


def section(record: Record) -> tuple[str, str]:
    """Return all that is published, and the part of it for the README."""
    plan = record["settings"]
    fits = ", ".join(fit["name"] for fit in record["fits"])
    sizes = record["fits"][0]["data"]["split"]["sizes"]
    head = (
        f"SmolLM2-135M-Instruct in {plan['dtype']}. Fits: {fits}; {sizes['fit']} pairs to fit and "
        f"{sizes['val']} to choose each, at most {plan['limit']} unseen questions a task. Change "
        "against unsteered with its 95 % paired-bootstrap interval, * where that leaves out 0: of "
        "the margin, which gradients ascend and candidates are chosen by (of `mc2`, which has "
        "none), and of the metric that a benchmark is known by. Every method is brought to the "
        "same KL to the unsteered model on neutral text by its coefficient; † where that could not "
        "be, which counts for no goal. An instruction has no strength and stands at its own "
        "damage. `perplexity` is of the neutral text by which coefficients are found."
    )
    said = [goals(record, level) for level in JUDGED]
    tables = {
        level: [
            f"**KL {level:g} nats a token, by {what}.**\n\n{table(record, level, metric_of)}"
            for what, metric_of in METRICS.items()
        ]
        for level in record["levels"]
    }
    every = [head, *said, *(one for some in tables.values() for one in some)]
    short = [head, *said, *tables[SHOWN]]
    return "\n\n".join([*every, Report(record).markdown()]), "\n\n".join(short)


Part = tuple[Record, Record]
"""A fit and one of its tasks."""


def _tasks(record: Record, *, effect: bool) -> Iterable[Part]:
    return (
        (fit, task) for fit in record["fits"] for task in fit["tasks"] if task["effect"] is effect
    )


def _sides(record: Record) -> dict[str, list[Part]]:
    """Return the side effects by name, each of all fits."""
    found: dict[str, list[Part]] = {}
    for fit, task in _tasks(record, effect=False):
        found.setdefault(task["label"], []).append((fit, task))
    return found


def _missed(fit: Record) -> dict[tuple[str, float | None], None]:
    """Return the methods and levels that no coefficient leads to, in their order."""
    return {(one["method"], one["level"]): None for one in fit["points"] if not one["reached"]}


def _sign(task: Record, metric: str) -> int:
    return -1 if task["higher_is_better"].get(metric) is False else 1


def _beats(cells: Mapping[str, Record], one: str, other: str, metric: str, sign: int) -> bool:
    """Return whether one method is better than another, of which both stand at the level."""
    if one not in cells or other not in cells:
        return False
    more = cells[one]["against"].get(other, {}).get(metric)
    return bool(more) and sign * more["mean"] > 0 and more["p_value"] < 0.05


def _marked(change: Record) -> bool:
    return change["low"] > 0 or change["high"] < 0


def _on(names: list[str], total: int | None = None) -> str:
    """Return how many tasks there are, of how many, and which."""
    of = "" if total is None else f" of {total}"
    return f"{len(names)}{of} ({', '.join(names)})" if names else f"0{of}"


def _shown(parts: Iterable[Part], method: str, level: float, metric_of: Metric) -> str:
    """Return a method's change, the worst of those in several fits."""
    found, none = [], "not fitted"
    for fit, task in parts:
        metric = metric_of(task)
        cells = {cell["level"]: cell for cell in task["cells"] if cell["method"] == method}
        cell = cells.get(level) or cells.get(None)
        none = "no value" if cell else none
        if cell and (change := cell["change"].get(metric)):
            own = "" if cell["level"] is not None else " (own damage)"
            missed = MISSED if (method, cell["level"]) in _missed(fit) else ""
            found.append((_sign(task, metric) * change["mean"], _change(change) + own + missed))
    return min(found)[1] if found else none


def _change(change: Record) -> str:
    mark = "*" if _marked(change) else ""
    return f"{change['mean']:+.3f}{mark} [{change['low']:+.3f}, {change['high']:+.3f}]"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", help="behaviours of these names; nothing is published")
    args = parser.parse_args()
    os.environ.setdefault("GRAINS_DATA", "../shared/data")
    plan = Plan.load(PLAN)
    if args.only:
        some = [one for one in plan.record()["behaviours"] if one["name"] in args.only]
        plan = Plan.load(PLAN, {"behaviours": some})
    record = compare(plan, OUT / "cells", command="python -m benchmarks.evidence")
    if not record:  # another process has it
        return
    text = json.dumps(record, ensure_ascii=False)
    write_atomically(OUT / "comparison.json", text.encode(), overwrite=True)
    write_atomically(OUT / "report.html", Report(record).html().encode(), overwrite=True)
    every, short = section(record)
    if args.only:
        print(every)
    else:
        publishing.publish("evidence", "Evidence: every method at the same damage", every, short)


if __name__ == "__main__":
    main()
