"""Every method at the same damage on every task: what steering gains, beside rivals and controls.

    python -m benchmarks.evidence

Runs the comparison of `benchmarks/evidence.yaml`, writes its report, and puts the table into the
README. What is computed is kept under `out/evidence`: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import publish as publishing
from grains.comparison import Plan, compare
from grains.storage import write_atomically

PLAN = Path(__file__).with_suffix(".yaml")
OUT = Path("out/evidence")
SHOWN = (0.05, 0.1)

Record = Mapping[str, Any]


def tables(record: Record, levels: tuple[float, ...]) -> Iterator[str]:
    """Yield one table a level: methods down, tasks across, the change of the main metric."""
    for level in levels:
        tasks = [(fit, task) for fit in record["fits"] for task in fit["tasks"] if task["effect"]]
        sides = [
            (fit, task) for fit in record["fits"] for task in fit["tasks"] if not task["effect"]
        ]
        roles = {one["name"]: one["role"] for fit in record["fits"] for one in fit["methods"]}
        rows = []
        for name, role in roles.items():
            row = [name, role]
            row += [_change(_cell(task, name, level), task["main"]) for _, task in tasks]
            row.append(_worst(sides, name, level))
            rows.append(row)
        headings = ["method", "", *(f"{task['name']}, {task['main']}" for _, task in tasks)]
        headings.append("MMLU accuracy, worst of the fits")
        yield f"**KL {level:g} nats a token.**"
        yield publishing.table(headings, rows)


def verdict(record: Record, level: float) -> str:
    """Say in words, at a level: who is first, who beats CAA, whether controls show an effect."""
    firsts, beats, twice, loud = [], [], [], []
    for fit in record["fits"]:
        roles = {one["name"]: one["role"] for one in fit["methods"]}
        for task in fit["tasks"]:
            if not task["effect"]:
                continue
            main, label = task["main"], task["name"]
            cells = {cell["method"]: cell for cell in task["cells"] if cell["level"] == level}
            if not cells:
                continue
            change = {name: cell["change"][main] for name, cell in cells.items()}
            best = max(change, key=lambda name: change[name]["mean"])
            ours = max(
                (name for name in change if roles[name] == "ours"),
                key=lambda name: change[name]["mean"],
            )
            within = change[ours]["high"] >= change[best]["mean"]
            firsts.append(
                f"{label}: {best}"
                + ("" if best == ours or not within else f" (ours, {ours}, within its interval)")
            )
            against = cells[ours]["against"].get("caa", {}).get(main)
            if against and against["mean"] > 0 and against["p_value"] < 0.05:
                beats.append(label)
            if "caa" in change and change[ours]["mean"] >= 2 * change["caa"]["mean"] > 0:
                twice.append(label)
            loud += [
                f"{name} on {label} ({change[name]['mean']:+.3f})"
                for name in change
                if roles[name] == "control"
                and (change[name]["low"] > 0 or change[name]["high"] < 0)
            ]
    return (
        f"At KL {level:g}: first is {'; '.join(firsts)}. The best of ours beats CAA with p < 0.05 on "
        f"{', '.join(beats) or 'none'}, and moves the metric twice as far on "
        f"{', '.join(twice) or 'none'}. Controls with an effect: {', '.join(loud) or 'none'}."
    )


def section(record: Record) -> tuple[str, str]:
    """Return all that is published, and the part of it for the README."""
    plan = record["settings"]
    fits = ", ".join(f"{fit['name']} ({_sizes(fit)})" for fit in record["fits"])
    head = (
        f"SmolLM2-135M-Instruct in {plan['dtype']}; {fits}; at most {plan['limit']} unseen questions "
        "a task. Change against unsteered, with its 95 % paired-bootstrap interval; * leaves out 0. "
        "The coefficient of every method is solved for so that the KL to the unsteered model on "
        "neutral text is the one given; an instruction has no strength, and stands at its own."
    )
    said = [verdict(record, level) for level in record["levels"]]
    every = [
        head,
        *said,
        *tables(record, tuple(record["levels"])),
        _areas(record),
        _readers(record),
    ]
    short = [head, *(verdict(record, level) for level in SHOWN), *tables(record, SHOWN[1:])]
    return "\n\n".join(every), "\n\n".join(short)


def _sizes(fit: Record) -> str:
    sizes = fit["data"]["split"]["sizes"]
    return f"{sizes['fit']} pairs to fit, {sizes['val']} to choose"


def _cell(task: Record, method: str, level: float) -> Record | None:
    found = {(cell["method"], cell["level"]): cell for cell in task["cells"]}
    return found.get((method, level)) or found.get((method, None))


def _change(cell: Record | None, metric: str) -> str:
    if cell is None:
        return "not fitted"
    change = cell["change"][metric]
    mark = "*" if change["low"] > 0 or change["high"] < 0 else ""
    own = "" if cell["level"] is not None else " (own damage)"
    return f"{change['mean']:+.3f}{mark} [{change['low']:+.3f}, {change['high']:+.3f}]{own}"


def _worst(sides: list[tuple[Record, Record]], method: str, level: float) -> str:
    found = [(cell, task) for _, task in sides if (cell := _cell(task, method, level))]
    if not found:
        return "not fitted"
    cell, _ = min(found, key=lambda one: one[0]["change"]["accuracy"]["mean"])
    return _change({**cell, "level": level}, "accuracy")


def _areas(record: Record) -> str:
    tasks = [task for fit in record["fits"] for task in fit["tasks"] if task["effect"]]
    names = list(dict.fromkeys(name for task in tasks for name in task["area"]))
    rows = [
        [
            name,
            *(
                f"{a:+.4f}"
                if (a := task["area"].get(name, {}).get(task["main"])) is not None
                else "-"
                for task in tasks
            ),
        ]
        for name in names
    ]
    title = "**Area under the change as a function of KL**, from 0 to the largest level."
    return f"{title}\n\n" + publishing.table(["method", *(task["name"] for task in tasks)], rows)


def _readers(record: Record) -> str:
    rows = []
    for fit in record["fits"]:
        for name, found in fit["generated"].items():
            numbers = [found["distinct_1"], found["distinct_2"], found["perplexity_unsteered"]]
            rows.append([fit["name"], name, *("-" if x is None else f"{x:.3f}" for x in numbers)])
    title = (
        f"**Answers to {record['settings']['samples']} unseen questions** at KL "
        f"{record['settings']['choose_at']:g}: how little they repeat, and their perplexity under the "
        "unsteered model. The answers themselves are in the report."
    )
    headings = ["fit", "method", "distinct-1", "distinct-2", "perplexity"]
    return f"{title}\n\n" + publishing.table(headings, rows)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", help="behaviours of these names")
    parser.add_argument("--show", action="store_true", help="print, publish nothing")
    args = parser.parse_args()
    os.environ.setdefault("GRAINS_DATA", "../shared/data")
    plan = Plan.load(PLAN)
    if args.only:
        plan = Plan.load(
            PLAN,
            {
                "behaviours": [
                    one for one in plan.record()["behaviours"] if one["name"] in args.only
                ]
            },
        )
    record = compare(plan, OUT / "cells", command="python -m benchmarks.evidence")
    if not record:  # another process has it
        return
    text = json.dumps(record, ensure_ascii=False)
    write_atomically(OUT / "comparison.json", f"{text}\n".encode(), overwrite=True)
    if args.show:
        print(section(record)[0])
        return
    publishing.publish("evidence", "Evidence: every method at the same damage", *section(record))


if __name__ == "__main__":
    main()
