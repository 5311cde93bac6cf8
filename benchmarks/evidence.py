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
from collections.abc import Mapping
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

Record = Mapping[str, Any]


def tasks_of(record: Record, *, effect: bool) -> list[Record]:
    """Return the tasks that show a behaviour, or the side effects, of all fits."""
    return [task for fit in record["fits"] for task in fit["tasks"] if task["effect"] is effect]


def roles_of(record: Record) -> dict[str, str]:
    """Return every method with its role."""
    return {one["name"]: one["role"] for fit in record["fits"] for one in fit["methods"]}


def table(record: Record, level: float) -> str:
    """Return methods by tasks: the change of the main metric at a level of damage."""
    tasks, sides = tasks_of(record, effect=True), tasks_of(record, effect=False)
    rows = []
    for name, role in roles_of(record).items():
        cells = [(_cell(task, name, level), task["main"]) for task in tasks]
        lost = [cell for task in sides if (cell := _cell(task, name, level))]
        if lost:
            worst = min(lost, key=lambda cell: cell["change"]["accuracy"]["mean"])
            cells.append((worst, "accuracy"))
        rows.append([name, role, *(_change(cell, main) for cell, main in cells)])
    rows.sort(key=lambda row: ("ours", "rival", "control").index(row[1]))
    headings = ["method", "", *(f"{task['name']}: {task['main']}" for task in tasks)]
    headings.append("MMLU accuracy, worst of the fits")
    return f"**KL {level:g} nats a token.**\n\n" + publishing.table(headings, rows)


def goals(record: Record, level: float) -> str:
    """Say who is first, who beats CAA, what MMLU loses, and whether controls show an effect."""
    roles, first, beats, twice, loud = roles_of(record), [], [], [], []
    for task in tasks_of(record, effect=True):
        main, cells = task["main"], {c["method"]: c for c in task["cells"] if c["level"] == level}
        change = {name: cell["change"][main] for name, cell in cells.items()}
        ranked = sorted(change, key=lambda name: -change[name]["mean"])
        ours = next(name for name in ranked if roles[name] == "ours")
        level_with = change[ours]["high"] >= change[ranked[0]]["mean"]
        of_ours = "" if ranked[0] == ours else f" (ours: {ours}{'' if level_with else ', behind'})"
        first.append(f"{task['name']}: {ranked[0]}{of_ours}")
        more = cells[ours]["against"].get("caa", {}).get(main)
        if more and more["mean"] > 0 and more["p_value"] < 0.05:
            beats.append(task["name"])
        if "caa" in change and change[ours]["mean"] >= 2 * change["caa"]["mean"] > 0:
            twice.append(task["name"])
        loud += [
            f"{name} on {task['name']} ({change[name]['mean']:+.3f})"
            for name in ranked
            if roles[name] == "control" and _marked(change[name])
        ]
    return (
        f"KL {level:g}. First is: {'; '.join(first)}. The best of ours beats CAA with p < 0.05 on "
        f"{', '.join(beats) or 'none'}; it moves the metric at least twice as far on "
        f"{', '.join(twice) or 'none'}. Controls whose interval leaves out 0: "
        f"{', '.join(loud) or 'none'}."
    )


def section(record: Record) -> tuple[str, str]:
    """Return all that is published, and the part of it for the README."""
    plan = record["settings"]
    fits = ", ".join(fit["name"] for fit in record["fits"])
    sizes = record["fits"][0]["data"]["split"]["sizes"]
    head = (
        f"SmolLM2-135M-Instruct in {plan['dtype']}. Fits: {fits}; {sizes['fit']} pairs to fit and "
        f"{sizes['val']} to choose each, at most {plan['limit']} unseen questions a task. Change "
        "against unsteered with its 95 % paired-bootstrap interval, * where that leaves out 0. "
        "Every method is brought to the same KL to the unsteered model on neutral text by its "
        "coefficient; an instruction has no strength and stands at its own damage."
    )
    said = [goals(record, level) for level in JUDGED]
    every = [head, *said, *(table(record, level) for level in record["levels"])]
    short = [head, *said, table(record, SHOWN)]
    return "\n\n".join([*every, Report(record).markdown()]), "\n\n".join(short)


def _cell(task: Record, method: str, level: float) -> Record | None:
    found = {(cell["method"], cell["level"]): cell for cell in task["cells"]}
    return found.get((method, level)) or found.get((method, None))


def _marked(change: Record) -> bool:
    return change["low"] > 0 or change["high"] < 0


def _change(cell: Record | None, metric: str) -> str:
    if cell is None:
        return "not fitted"
    change = cell["change"][metric]
    mark = "*" if _marked(change) else ""
    own = "" if cell["level"] is not None else " (own damage)"
    return f"{change['mean']:+.3f}{mark} [{change['low']:+.3f}, {change['high']:+.3f}]{own}"


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
