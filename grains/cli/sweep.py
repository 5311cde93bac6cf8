"""`grains sweep`: many settings tried on validation pairs, one chosen and tested."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grains.cli.arguments import Parser
from grains.cli.recipes import with_recipes
from grains.errors import GrainsError, did_you_mean

SETTINGS = {
    "model": "a catalog name, a hub id, a folder or a GGUF file [smollm2-135m-instruct]",
    "data": "dataset, fit, val, test, seed, batch_size, template, data_dir",
    "sources": "masked, gradient, answers, ... [masked]",
    "attributors": "for sources that mask: who is to be credited [the source's own]",
    "maskers": "for sources that mask, such as [{name: top_k, k: 4}] [the source's own]",
    "direction_finders": "mean_difference, pca, ... [pca]",
    "injectors": "normalized, additive, ... [normalized]",
    "positions": "where hidden states are moved: all, prompt, last, ... [all]",
    "layers": "sets such as [8-19, 12-14] [middle]",
    "coefficients": "numbers, or auto: shares of the largest within the budget [auto]",
    "halving": "rounds and keep: all cells on few pairs, the best of them on more [off]",
    "controls": "random_direction, random_masks, caa [those that make sense]",
    "neutral": "a data set that damage is measured on [packaged text]",
    "reduction": "of the answer's tokens: mean or sum [mean]",
    "max_kl": "damage budget, nats a token [0.1]",
    "max_perplexity_ratio": "damage budget [1.1]",
    "dtype": "float32, bfloat16, ... [what suits the device]",
    "seed": "of controls and intervals [0]",
}
"""Setting to what it is."""


def run(command: str, argv: Sequence[str]) -> None:
    """Run `grains sweep`."""
    args, rest = _parser(command).parse_known_args(with_recipes(argv))
    changes = _changes(rest)
    settings = _read(args.config) if args.config else {}
    for path, value in changes:
        _put(settings, path, value)
    for key in settings:
        if key not in SETTINGS:
            raise GrainsError(f"a sweep has no setting {key!r}; {did_you_mean(str(key), SETTINGS)}")

    from grains.sweep import Sweep

    out = Path(args.out or Path("out", Path(args.config).stem if args.config else "sweep"))
    made_by = shlex.join(["grains", command, *argv])
    result = Sweep(**settings).run(out, fresh=args.overwrite, command=made_by)
    result.show()
    print(f"wrote {out / 'vector.safetensors'} and {out / 'sweep.json'}")


def _parser(command: str) -> Parser:
    listed = "\n".join(f"  {name:<22}{does}" for name, does in SETTINGS.items())
    parser = Parser(
        prog=f"grains {command}",
        usage=f"grains {command} [--config FILE] [--SETTING VALUE ...] [--out FOLDER]",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Fit every combination of components in one pass over the pairs, score layers\n"
        "and strengths on validation pairs, choose within the damage budget, and look\n"
        "once at the test pairs. A sweep that was stopped goes on where it was; so does\n"
        "one with other settings in the same folder, as far as they agree.",
        epilog="settings, each in the file or as --SETTING VALUE; where several are named, a list\n"
        f"is a dimension of the grid:\n\n{listed}\n\n"
        "--data.fit 50 sets a part of a setting. `grains components` lists components.",
    )
    add = parser.add_argument
    add(
        "--config",
        metavar="FILE",
        help="a YAML file, or a recipe's name, such as smollm2-sweep; options go over it",
    )
    add("--out", metavar="FOLDER", help="for record, vector and cells [out/NAME-OF-THE-FILE]")
    add("--overwrite", action="store_true", help="drop what earlier runs left there")
    return parser


def _read(path: str) -> dict[str, Any]:
    import yaml

    try:
        given = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GrainsError(f"{path} cannot be read ({error}); wanted a YAML file") from error
    if not isinstance(given, Mapping):
        raise GrainsError(f"{path} holds {type(given).__name__}; wanted a mapping of settings")
    return dict(given)


def _changes(rest: Sequence[str]) -> list[tuple[list[str], Any]]:
    """Return the settings on the command line, each as the path to its place and its value."""
    changes, left = [], list(rest)
    while left:
        flag = left.pop(0)
        name, given, value = flag.removeprefix("--").partition("=")
        path = name.replace("-", "_").split(".")
        if not flag.startswith("--"):
            raise GrainsError(f"there is no argument {flag!r}; wanted --SETTING VALUE")
        if path[0] not in SETTINGS:
            near = did_you_mean(path[0], [*SETTINGS, "config", "out", "overwrite"])
            raise GrainsError(f"there is no option --{name}; {near}")
        if not given:
            if not left or left[0].startswith("--"):
                raise GrainsError(f"--{name} has no value; wanted --{name} VALUE")
            value = left.pop(0)
        changes.append((path, _value(value)))
    return changes


def _value(text: str) -> Any:
    from grains.cli.settings import read_value

    return read_value(text)


def _put(settings: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a part of a setting; a component that is a name becomes a mapping with it."""
    for done, part in enumerate(path[:-1], start=1):
        inner = settings.get(part)
        if isinstance(inner, list):
            where = ".".join(path[:done])
            raise GrainsError(f"--{'.'.join(path)}: {where} is a list; wanted --{where} '[...]'")
        settings[part] = {"name": inner} if isinstance(inner, str) else dict(inner or {})
        settings = settings[part]
    settings[path[-1]] = value
