"""`grains explain`: which words and which parts of a picture speak for an answer."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grains.cli.arguments import Parser
from grains.errors import GrainsError

if TYPE_CHECKING:
    from grains.artifact import SteeringVector
    from grains.credits import Credits
    from grains.types import ContrastivePair

PAGE = "credits.html"
"""Where the page goes if nothing is said."""

SETTINGS = {
    "attributor": "integrated_gradients",
    "scope": "prompt",
    "baseline": "mean",
    "image_baseline": "mean",
    "reduction": "mean",
}
"""How tokens are credited if neither an option nor a vector says so."""

_COUNT = 8  # pairs of a data set; of a vector's fit, all
_PAIR = ("prompt", "chosen", "rejected")


def run(command: str, argv: Sequence[str]) -> None:
    """Run `grains explain`."""
    args = _parser(command).parse_args(argv)
    _check(args)

    import torch
    from tqdm.auto import tqdm

    from grains.attributors import ATTRIBUTORS
    from grains.blanks import ImageFill
    from grains.credits import explain
    from grains.fitting import Gap
    from grains.models import Fill, SteerableModel
    from grains.pictures import page
    from grains.storage import refuse_existing, write_atomically
    from grains.types import Reduction, Scope, checked_choice

    refuse_existing(args.out, overwrite=args.overwrite)
    _refuse_filled(args.png, args.overwrite)
    vector = _vector(args.vector) if args.vector else None
    settings = _settings(args, vector)
    for name, choices in (
        ("scope", Scope),
        ("baseline", Fill),
        ("image_baseline", ImageFill),
        ("reduction", Reduction),
    ):
        checked_choice(settings[name], choices, f"--{name.replace('_', '-')}")
    attributor = settings["attributor"] = ATTRIBUTORS.build(settings["attributor"])
    pairs = _fitted(args, vector) if vector else _pairs(args)
    model = SteerableModel.load(args.model, dtype=args.dtype)
    if vector:
        vector.applied_to(model)  # refuses a model that it was not fitted on
    if model.image_token_id is not None and not any(pair.image for pair in pairs):
        said = "no picture is given; credits are of the words alone"
        print(f"grains: warning: {said}", file=sys.stderr)
    template = args.template
    if template is None and args.prompt is not None:
        template = model.encoder.default_template()  # as `grains generate` puts a prompt
    if template is not None:
        pairs = [dataclasses.replace(pair, template=template) for pair in pairs]
    found: list[Credits] = []
    for start in tqdm(range(0, len(pairs), args.batch_size), desc="Explaining", delay=2):
        found += explain(model, pairs[start : start + args.batch_size], **settings)
    title = f"{model.name}: credits by {ATTRIBUTORS.name_of(attributor)}"
    if vector:
        title += f", of the fit of {Path(args.vector).name}"
    write_atomically(args.out, page(found, title).encode(), overwrite=args.overwrite)
    print(f"wrote {args.out}")
    if args.png:
        print(f"wrote {_write_pictures(args.png, found, args.overwrite)} pictures to {args.png}")
    if gap := Gap.of([one.name for one in found], torch.tensor([one.gap for one in found])):
        print(f"completeness gap of the attribution: {gap}")


def _parser(command: str) -> Parser:
    parser = Parser(
        prog=f"grains {command}",
        description="Credit every word, and every part of a picture, with its share in preferring "
        "the chosen answer; write a page of it. Give --data, --pairs, --vector, or one pair.",
    )
    add = parser.add_argument
    add("model", help="a catalog name, a hub id, a folder or a GGUF file")
    add("--data", metavar="NAME", help="a data set: a name, or '{name: ..., settings}'")
    add("--pairs", metavar="FILE", help="a .jsonl, .csv or .parquet file of pairs")
    add(
        "--vector",
        metavar="FILE",
        help="a file that `grains fit` wrote: the pairs that it was fitted on, credited as there",
    )
    add("--count", metavar="N", type=int, help=f"pairs, the first ones [{_COUNT}, or all of a fit]")
    add("--prompt", metavar="TEXT", help="the prompt of a single pair")
    add("--chosen", metavar="TEXT", help="the answer that is wanted")
    add("--rejected", metavar="TEXT", help="the answer that is not")
    add(
        "--image",
        metavar="FILE",
        action="append",
        help="the pair's picture; given several times, its pictures in order",
    )
    add(
        "--template",
        help="qa, plain, chat, or a text with {prompt}; else the pairs' own, or the model's",
    )
    add(
        "--attributor",
        metavar="NAME",
        help=f"a name, or '{{name: ..., settings}}' [{SETTINGS['attributor']}]",
    )
    add("--scope", help=f"prompt, under the contrast, or sequence [{SETTINGS['scope']}]")
    add("--baseline", help=f"where words start from: mean, eos, ... [{SETTINGS['baseline']}]")
    add(
        "--image-baseline",
        metavar="BASELINE",
        help=f"where pictures start from: mean, blur, ... [{SETTINGS['image_baseline']}]",
    )
    add("--reduction", help=f"of the answer's tokens: mean or sum [{SETTINGS['reduction']}]")
    add("--batch-size", metavar="N", type=int, default=4, help="pairs handled together [4]")
    add("--dtype", help="float32, bfloat16, ...; what suits the device if not given")
    add("--out", metavar="FILE", default=PAGE, help="the page [%(default)s]")
    add("--png", metavar="FOLDER", help="write words and pictures as PNG files as well")
    add("--overwrite", action="store_true", help="replace what is there")
    return parser


def _check(args: argparse.Namespace) -> None:
    given = [name for name in _PAIR if getattr(args, name) is not None]
    kinds = ("data", "pairs", "vector")
    sources = [f"--{name}" for name in kinds if getattr(args, name) is not None]
    if given or args.image:
        if lacking := [f"--{name}" for name in _PAIR if name not in given]:
            raise GrainsError(f"{', '.join(lacking)} is lacking; wanted all of a single pair")
        sources.append("a single pair")
    if len(sources) != 1:
        said = " and ".join(sources) or "no pairs"
        raise GrainsError(
            f"given {said}; wanted one of --data, --pairs, --vector, or --prompt, --chosen and "
            "--rejected"
        )
    for name in ("count", "batch_size"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            flag = name.replace("_", "-")
            raise GrainsError(f"--{flag} is {getattr(args, name)}; wanted 1 or more")


def _pairs(args: argparse.Namespace) -> Sequence[ContrastivePair]:
    from grains.data import PairFile, SteeringDataModule, open_image
    from grains.types import ContrastivePair

    count = args.count or _COUNT
    if args.prompt is not None:
        parts = {name: getattr(args, name) for name in _PAIR}
        images = tuple(open_image(file, "--image") for file in args.image or ())
        return [ContrastivePair(**parts, image=images or None)]
    if args.pairs:  # the name of a file, whatever it looks like
        return PairFile(path=args.pairs, count=count).pairs()
    return SteeringDataModule(_spec(args.data)).pairs[:count]


def _vector(path: str) -> SteeringVector:
    from grains.artifact import SteeringVector

    return SteeringVector.load(path)


def _settings(args: argparse.Namespace, vector: SteeringVector | None) -> dict[str, Any]:
    """Return how tokens are credited: as an option says, else the vector's card, else as usual."""
    from grains.credits import fit_settings

    known = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    if "attributor" in known:
        known["attributor"] = _spec(known["attributor"])
    return {**SETTINGS, **(fit_settings(vector) if vector else {}), **known}


def _fitted(args: argparse.Namespace, vector: SteeringVector) -> Sequence[ContrastivePair]:
    """Return the pairs that a vector was fitted on."""
    from grains.data import SteeringDataModule

    try:
        return SteeringDataModule.again(vector.card["data"]).split.fit[: args.count]
    except GrainsError as error:
        raise GrainsError(f"the pairs of {args.vector} are not found again: {error}") from error
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise GrainsError(
            f"on which pairs {args.vector} was fitted its card does not say; wanted a vector that "
            "`grains fit` wrote, or --data or --pairs"
        ) from error


def _spec(text: str) -> Any:
    from grains.cli.settings import read_value

    return read_value(text) if text.startswith("{") else text


def _refuse_filled(folder: str | None, overwrite: bool) -> None:
    if folder is None:
        return
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise GrainsError(f"{folder} is a file; wanted a folder for the pictures")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise GrainsError(f"{folder} holds files already; wanted an empty folder, or --overwrite")


def _write_pictures(folder: str, found: Sequence[Credits], overwrite: bool) -> int:
    import io

    from grains.storage import write_atomically

    count = 0
    for name, picture in _pictures(found):
        file = io.BytesIO()
        picture.save(file, "PNG")
        write_atomically(Path(folder) / f"{name}.png", file.getvalue(), overwrite=overwrite)
        count += 1
    return count


def _pictures(found: Sequence[Credits]) -> Iterator[tuple[str, Any]]:
    from grains.pictures import heat_map, overlay

    for number, credits in enumerate(found, start=1):
        name = re.sub(r"[^\w.-]+", "-", credits.name).strip("-.")[:60]
        yield f"{number:03d}-{name}-words", heat_map(credits)
        if credits.pictures:
            yield f"{number:03d}-{name}-picture", overlay(credits)
