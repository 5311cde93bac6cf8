"""`grains evaluate`: a model on benchmarks, unsteered beside steered."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grains.cli.arguments import Parser
from grains.errors import GrainsError

if TYPE_CHECKING:
    from grains.artifact import SteeringVector
    from grains.damage import Damage
    from grains.evaluation import Result
    from grains.metrics import Interval


def run(command: str, argv: Sequence[str]) -> None:
    """Run `grains evaluate`."""
    args = _parser(command).parse_args(argv)
    if args.vector is None and args.coefficient is not None:
        raise GrainsError("--coefficient is given without a vector; wanted the file of one")
    if args.limit is not None and args.limit < 1:
        raise GrainsError(f"--limit is {args.limit}; wanted 1 or more")

    from grains.artifact import SteeringVector
    from grains.cli.settings import read_value
    from grains.damage import NeutralText
    from grains.data import DATASETS, neutral_texts
    from grains.evaluation import Asked, evaluate
    from grains.models import SteerableModel
    from grains.steered import BLIND
    from grains.storage import refuse_existing, write_atomically

    if args.json:
        refuse_existing(args.json, overwrite=args.overwrite)
    vector = SteeringVector.load(args.vector) if args.vector else None
    # What the fit has measured damage on is what it is to be measured on again.
    neutral = read_value(args.neutral) if args.neutral else _neutral_of_fit(vector)
    pairs = DATASETS.build(neutral).pairs() if neutral else []
    asked = [
        Asked.of(task, vector, limit=args.limit, seed=args.seed) for task in _tasks(args.tasks)
    ]
    model = SteerableModel.load(args.model, dtype=args.dtype)
    strict, damage = not args.no_strict, None
    results = evaluate(model, asked, vector, args.coefficient, strict=strict, seed=args.seed)
    if vector is not None:
        text = NeutralText(model, pairs or neutral_texts())
        with vector.applied_to(model, args.coefficient, strict=strict):
            damage = text.damage()
    _show(results, vector, damage, "data" if pairs else "text")
    pictures = any(pair.image is not None for pair in pairs)
    if vector and not pictures and (vector.site == "vision" or vector.positions == "image"):
        print(BLIND)
    if args.json:
        record = _record(args, model.name, vector, damage)
        record["tasks"] = [result.record(model) for result in results]
        text = json.dumps(record, ensure_ascii=False, indent=1)
        write_atomically(args.json, f"{text}\n".encode(), overwrite=args.overwrite)
        print(f"wrote {args.json}")


def _neutral_of_fit(vector: SteeringVector | None) -> Any:
    from grains.card import neutral_of
    from grains.data import DATASETS

    known = neutral_of(vector.card) if vector else None
    if known is not None and known.get("name") not in DATASETS.names():  # a card imports nothing
        raise GrainsError(
            f"the vector's damage was measured on {known.get('name')!r}, no data set that has a "
            "name here; wanted --neutral NAME"
        )
    return known


def _parser(command: str) -> Parser:
    parser = Parser(
        prog=f"grains {command}",
        description="Score a model on benchmarks, unsteered beside steered, with paired-bootstrap "
        "intervals and the damage on neutral text. Questions that the vector's fit or choice has "
        "seen are left out. `grains components task` lists the tasks.",
    )
    add = parser.add_argument
    add("model", help="a catalog name, a hub id, a folder or a GGUF file")
    add("vector", nargs="?", help="a file that `grains fit` wrote; unsteered alone if not given")
    add(
        "--tasks",
        metavar="NAMES",
        required=True,
        help="names with commas between them, or a list '[name, {name: ..., settings}]'",
    )
    add("--limit", metavar="N", type=int, help="questions a task, drawn by the seed [all]")
    add("--coefficient", metavar="C", type=float, help="strength instead of the vector's own")
    add("--seed", type=int, default=0, help="of the draw and of the intervals [0]")
    add("--dtype", help="float32, bfloat16, ...; what suits the device if not given")
    add("--no-strict", action="store_true", help="allow a vector made for another model")
    add(
        "--neutral",
        metavar="NAME",
        help="a data set on whose chosen answers damage is measured; without it, the one that the "
        "fit measured it on, or packaged text",
    )
    add("--json", metavar="FILE", help="write everything, each question's values included")
    add("--overwrite", action="store_true", help="replace that file")
    return parser


def _tasks(text: str) -> list[Any]:
    from grains.cli.settings import read_value

    given = read_value(text) if text.startswith(("[", "{")) else text
    if isinstance(given, str):
        given = [name.strip() for name in given.split(",") if name.strip()]
    tasks = given if isinstance(given, list) else [given]
    if not tasks:
        raise GrainsError("--tasks names no task; wanted one or more, such as truthfulqa_mc1")
    return tasks


def _record(
    args: argparse.Namespace, model: str, vector: SteeringVector | None, damage: Damage | None
) -> dict[str, Any]:
    from grains._version import __version__
    from grains.card import plain

    record: dict[str, Any] = {
        "grains": __version__,
        "model": model,
        "dtype": args.dtype,
        "limit": args.limit,
        "seed": args.seed,
        "vector": args.vector,
    }
    if vector is not None and damage is not None:
        used = vector.coefficient if args.coefficient is None else args.coefficient
        record |= {"coefficient": used, "damage": damage._asdict(), "card": vector.card}
    return plain(record)


def _show(
    results: Sequence[Result], vector: SteeringVector | None, damage: Damage | None, neutral: str
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None,
        header_style="underline",
        padding=(0, 1, 0, 0),
        caption=_caption(results, vector, damage, neutral),
    )
    table.add_column("task, metric", overflow="fold")
    steered = ("steered", "change [95 %]", "p") if vector is not None else ()
    for heading in ("n", "unsteered", *steered):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        table.add_row(Text(result.asked.task.label()), style="bold")
        for row in _rows(result):
            table.add_row(*row)
    Console(highlight=False).print(table)


def _rows(result: Result) -> list[list[str]]:
    rows = []
    after = result.steered.figures() if result.steered is not None else {}
    for metric, before in result.unsteered.figures().items():
        better = result.asked.task.higher_is_better.get(metric)
        arrow = {True: " ↑", False: " ↓", None: ""}[better]
        row = [f"  {metric}{arrow}", str(len(result.asked.items)), _figure(before)]
        if metric in after:
            change = result.changes.get(metric)
            row += [_figure(after[metric]), *(_change(change) if change else ("", ""))]
        rows.append(row)
    return rows


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _change(change: Interval) -> tuple[str, str]:
    p_value = "<.001" if change.p_value < 0.001 else f"{change.p_value:.3f}"
    return f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]", p_value


def _caption(
    results: Sequence[Result], vector: SteeringVector | None, damage: Damage | None, neutral: str
) -> str:
    from grains.evaluation import tells_what_it_saw

    said = ["figures of n questions; ↑ more is better, ↓ less is"]
    if vector is not None and damage is not None:
        said.append(
            f"damage on neutral {neutral}: KL {damage.kl:.4f} nats a token, perplexity ratio "
            f"{damage.perplexity_ratio:.3f}"
        )
        left_out = sum(result.asked.left_out for result in results)
        said.append(
            f"{left_out} questions that the fit or the choice saw are left out"
            if tells_what_it_saw(vector)
            else "whether the fit or the choice saw the questions is not known"
        )
    return "; ".join(said)
