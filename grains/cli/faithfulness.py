"""`grains faithfulness`: whether a model's score follows what an attributor credits."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grains.cli.arguments import Parser
from grains.errors import GrainsError

if TYPE_CHECKING:
    from grains.faithfulness import Faithfulness
    from grains.metrics import Interval
    from grains.types import ContrastivePair

ATTRIBUTORS = "integrated_gradients,gradient_x_input"
"""Who is tried if nothing is said."""


def run(command: str, argv: Sequence[str]) -> None:
    """Run `grains faithfulness`."""
    args = _parser(command).parse_args(argv)
    for name in ("count", "batch_size"):
        if getattr(args, name) < 1:
            flag = name.replace("_", "-")
            raise GrainsError(f"--{flag} is {getattr(args, name)}; wanted 1 or more")

    from grains.attributors import ATTRIBUTORS as REGISTRY
    from grains.faithfulness import Perturbation, measure, plot
    from grains.models import SteerableModel
    from grains.storage import refuse_existing

    for path in filter(None, (args.json, args.png)):
        refuse_existing(path, overwrite=args.overwrite)
    fields = [field.name for field in dataclasses.fields(Perturbation) if hasattr(args, field.name)]
    settings = Perturbation(**{name: getattr(args, name) for name in fields})
    attributors = [REGISTRY.build(spec) for spec in _specs(args.attributors)]
    pairs = _pairs(args)
    model = SteerableModel.load(args.model, dtype=args.dtype)
    found = measure(model, pairs, attributors, settings, batch_size=args.batch_size)
    _show(found)
    if args.json:
        _write_record(args, shlex.join(["grains", command, *argv]), model, found)
    if args.png:
        _write_picture(args, plot(found))


def _parser(command: str) -> Parser:
    parser = Parser(
        prog=f"grains {command}",
        description="Fill the positions that an attributor credits most, and put them back: does "
        "the credited score follow, more than for random rankings? Areas under the curves of "
        "deletion and insertion, with paired-bootstrap intervals over pairs.",
    )
    add = parser.add_argument
    add("model", help="a catalog name, a hub id, a folder or a GGUF file")
    add(
        "--data",
        metavar="NAME",
        required=True,
        help="a data set: a name, a .jsonl, .csv or .parquet file, or '{name: ..., settings}'",
    )
    add(
        "--attributors",
        metavar="NAMES",
        default=ATTRIBUTORS,
        help="names with commas between them, or a list '[name, {name: ..., settings}]' "
        "[%(default)s]",
    )
    add("--count", metavar="N", type=int, default=20, help="pairs, drawn by the seed [%(default)s]")
    add("--template", help="qa, plain, chat, or a text with {prompt}; the pairs' own if not given")
    add("--scope", default="prompt", help="prompt, under the contrast, or sequence [%(default)s]")
    add("--baseline", default="mean", help="what a filled word becomes: mean, eos, ... [mean]")
    add(
        "--image-baseline",
        metavar="BASELINE",
        default="mean",
        help="what a filled part of a picture becomes: mean, blur, ... [%(default)s]",
    )
    add("--modality", default="both", help="what is filled: both, text or image [%(default)s]")
    add("--reduction", default="mean", help="of the answer's tokens: mean or sum [%(default)s]")
    add("--steps", metavar="N", type=int, default=10, help="steps of the curves [%(default)s]")
    add("--draws", metavar="N", type=int, default=4, help="random rankings a pair [%(default)s]")
    add(
        "--least-change",
        metavar="NATS",
        type=float,
        default=0.1,
        help="pairs whose score changes less from full to blank input are left out [%(default)s]",
    )
    add("--seed", type=int, default=0, help="of pairs, rankings and intervals [0]")
    add("--batch-size", metavar="N", type=int, default=4, help="pairs handled together [4]")
    add("--dtype", help="float32, bfloat16, ...; what suits the device if not given")
    add("--json", metavar="FILE", help="write curves, areas and intervals")
    add("--png", metavar="FILE", help="draw the curves")
    add("--overwrite", action="store_true", help="replace these files")
    return parser


def _specs(text: str) -> list[Any]:
    from grains.cli.settings import read_value

    given = read_value(text) if text.startswith(("[", "{")) else text
    if isinstance(given, str):
        return [name.strip() for name in given.split(",") if name.strip()]
    return given if isinstance(given, list) else [given]


def _pairs(args: argparse.Namespace) -> Sequence[ContrastivePair]:
    from grains.cli.settings import read_value
    from grains.data import SteeringDataModule

    source = read_value(args.data) if args.data.startswith("{") else args.data
    parts = {"fit": 0, "val": 0, "test": args.count}
    return SteeringDataModule(source, **parts, seed=args.seed, template=args.template).split.test


def _show(found: Faithfulness) -> None:
    from rich.console import Console
    from rich.table import Table

    left = f"; {found.left_out} are left out" if found.left_out else ""
    gaps = [gap.median() for gap in found.gaps.values() if not gap.isnan().any()]
    table = Table(
        box=None,
        header_style="underline",
        padding=(0, 1, 0, 0),
        caption=f"areas under the mean curves of {len(found.pairs) - found.left_out} pairs whose "
        f"score changes by {found.settings.least_change:g} nats or more between full input (1) and "
        f"blank (0){left}; ↓ less is better, ↑ more is; advantages over random rankings with their "
        "95 % paired-bootstrap intervals, > 0 is better",
    )
    table.add_column("attributor", overflow="fold")
    for heading in ("delete\n↓", "insert\n↑", "advantage of\ndeletion", "advantage of\ninsertion"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, curves in found.curves.items():
        areas = [f"{float(area):.3f}" for area in found.mean(curves).areas]
        won = found.advantages(name)
        table.add_row(name, *areas, *(_said(won[kind]) for kind in ("deletion", "insertion")))
    areas = [f"{float(area):.3f}" for area in found.mean(found.random).areas]
    table.add_row("random rankings", *areas, "", "", style="dim")
    Console(highlight=False).print(table)
    if gaps:
        print(f"completeness gap of the attribution, median: {float(max(gaps)):.1%}")


def _said(interval: Interval) -> str:
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _write_record(args: argparse.Namespace, command: str, model: Any, found: Faithfulness) -> None:
    import json
    import platform
    from importlib.metadata import version

    from grains._version import __version__
    from grains.card import plain
    from grains.storage import write_atomically

    packages = {name: version(name) for name in ("torch", "transformers")}
    record = {
        "grains": __version__,
        "kind": "faithfulness",
        "command": command,
        "model": {"name": model.name, "fingerprint": model.fingerprint, "dtype": args.dtype},
        "data": args.data,
        "versions": {"python": platform.python_version(), **packages},
        **found.record(),
    }
    text = json.dumps(plain(record, "record"), ensure_ascii=False, indent=1)
    write_atomically(args.json, f"{text}\n".encode(), overwrite=args.overwrite)
    print(f"wrote {args.json}")


def _write_picture(args: argparse.Namespace, picture: Any) -> None:
    import io

    from grains.storage import write_atomically

    file = io.BytesIO()
    picture.save(file, "PNG")
    write_atomically(Path(args.png), file.getvalue(), overwrite=args.overwrite)
    print(f"wrote {args.png}")
