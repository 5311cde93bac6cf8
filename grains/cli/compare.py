"""`grains compare`: steering beside its rivals and controls, at equal damage."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grains.cli.arguments import Parser
from grains.cli.recipes import with_recipes
from grains.errors import GrainsError

RECORD = "comparison.json"


def run(command: str, argv: Sequence[str]) -> None:
    """Run `grains compare`."""
    parser = _parser(command)
    args, rest = parser.parse_known_args(with_recipes(argv))
    if args.config is None:
        raise GrainsError("there is nothing to compare; wanted --config FILE")

    from grains.comparison import Plan, compare
    from grains.storage import refuse_existing, write_atomically

    plan = Plan.load(args.config, _changes(rest))
    folder = Path(args.out).expanduser()
    record_path = refuse_existing(folder / RECORD, overwrite=args.overwrite)
    said = shlex.join(["grains", command, *argv])
    record = compare(plan, folder / "cells", fresh=args.fresh, command=said)
    if not record:  # another process has it
        return
    text = json.dumps(record, ensure_ascii=False)
    write_atomically(record_path, f"{text}\n".encode(), overwrite=args.overwrite)
    show(record)
    print(f"wrote {record_path}; `grains report {record_path} --out page.html` shows it in full")


def _parser(command: str) -> Parser:
    parser = Parser(
        prog=f"grains {command}",
        usage=f"grains {command} --config FILE [--out FOLDER] [--overwrite] [--SETTING VALUE ...]",
        description="Fit methods on the same pairs, bring each to the same damage on neutral text, "
        "and score each on the same unseen questions: steering, its rivals, and controls that "
        "should show nothing. `grains components method` lists the methods. What is computed is "
        "kept in the folder: a run that was stopped goes on where it was, and several processes, "
        "started by torchrun, share the work.",
        epilog="Settings on the command line go over the file: --limit 50 --levels '[0.05]'.",
    )
    add = parser.add_argument
    add("--config", metavar="FILE", help="a YAML file, or a recipe's name, such as starter-compare")
    add("--out", metavar="FOLDER", default="out/compare", help=f"for {RECORD} [out/compare]")
    add("--fresh", action="store_true", help="forget the cells that the folder holds")
    add("--overwrite", action="store_true", help=f"replace {RECORD} there; cells are kept")
    return parser


def _changes(rest: Sequence[str]) -> dict[str, Any]:
    from grains.cli.settings import read_value

    changes, left = {}, list(rest)
    while left:
        flag, given, value = left.pop(0).partition("=")
        if not flag.startswith("--"):
            raise GrainsError(f"given {flag!r}; wanted --SETTING VALUE")
        if not given:
            if not left or left[0].startswith("--"):
                raise GrainsError(f"{flag} has no value; wanted {flag} VALUE")
            value = left.pop(0)
        changes[flag.removeprefix("--")] = read_value(value)
    return changes


def show(record: Mapping[str, Any]) -> None:
    """Print one table a task: what each method does at each level of damage."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for fit in record["fits"]:
        roles = {method["name"]: method["role"] for method in fit["methods"]}
        for task in fit["tasks"]:
            main = task["main"]
            kind = "" if task["effect"] else " (side effect)"
            table = Table(
                title=f"{fit['name']}: {task['label']}{kind}, {main} over {task['items']} "
                f"questions, unsteered {task['unsteered'][main]:.3f}",
                caption="change, with * where its 95 % interval leaves out 0",
                box=None,
                header_style="underline",
                padding=(0, 1, 0, 0),
            )
            table.add_column("method", overflow="fold")
            table.add_column("", no_wrap=True)
            for level in record["levels"]:
                heading = f"{record['measure'].replace('_', ' ')} {level:g}"
                table.add_column(heading, justify="right", no_wrap=True)
            found = {(cell["method"], cell["level"]): cell for cell in task["cells"]}
            for name, role in roles.items():
                cells = [found.get((name, level)) for level in record["levels"]]
                if (own := found.get((name, None))) is not None:
                    table.add_row(name, role, f"{_change(own, main)} at its own damage")
                elif any(cells):
                    table.add_row(name, role, *(_change(cell, main) for cell in cells))
            console.print(table)
        for method in fit["methods"]:
            if method["error"]:
                console.print(f"{method['name']} was not fitted: {method['error']}")


def _change(cell: Mapping[str, Any] | None, metric: str) -> str:
    if cell is None:
        return "-"
    change = cell["change"][metric]
    mark = "*" if change["low"] > 0 or change["high"] < 0 else " "
    return f"{change['mean']:+.3f}{mark}"
