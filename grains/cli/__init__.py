"""The command line: names and settings -> SteeringModule -> Trainer.

Only the standard library is imported here, so that `grains --help` is quick; each command brings
what it needs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from grains._version import __version__
from grains.cli.arguments import Parser
from grains.errors import GrainsError, did_you_mean

COMMANDS = {
    "fit": ("training", "find a steering vector, choose its layers and strength, write it"),
    "validate": ("training", "score a steering vector and its damage on the validation pairs"),
    "test": ("training", "compare it with unsteered and with controls of equal damage"),
    "predict": ("training", "answer the prompts of the test pairs, unsteered and steered"),
    "evaluate": ("evaluate", "score a model on benchmarks, unsteered beside steered"),
    "generate": ("generate", "answer prompts of your own, unsteered and steered"),
    "sweep": ("sweep", "try layers, strengths, maskers, attributors and finders, and choose"),
    "compare": ("compare", "steering beside its rivals and controls, at equal damage"),
    "faithfulness": ("faithfulness", "whether credited tokens matter: deletion and insertion"),
    "report": ("report", "one HTML page, Markdown or JSON of a comparison or a sweep"),
    "explain": ("explain", "credit each word and part of a picture, as a page and as PNG"),
    "components": ("components", "list attributors, maskers, data sets, ..., or explain one"),
}
"""Command to the module that runs it, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    A mistake that its reader can mend is one line on stderr and exit code 2; an interruption is
    130. With the environment variable GRAINS_DEBUG the traceback is shown as well.

    Args:
        argv: what follows `grains` on the command line; the process's own arguments if None.
    """
    try:
        _run(list(sys.argv[1:] if argv is None else argv))
    except GrainsError as error:
        _show_traceback()
        print("grains: error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning's way to pass it on
            return _interrupted()
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _run(argv: list[str]) -> None:
    listed = "\n".join(f"  {name:<14}{does}" for name, (_, does) in COMMANDS.items())
    parser = Parser(
        prog="grains",
        usage="grains [-h] [--version] COMMAND ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Find what makes a language model answer one way, and steer it there.\n\n"
        f"commands:\n{listed}\n\n`grains COMMAND --help` tells more.",
        epilog="With GRAINS_DEBUG=1 in the environment, errors come with their traceback.",
    )
    parser.add_argument("--version", action="version", version=f"grains {__version__}")
    command = argv[0] if argv else "--help"
    if command.startswith("-"):
        parser.parse_args([command])
    elif command not in COMMANDS:
        raise GrainsError(f"no command is named {command!r}; {did_you_mean(command, COMMANDS)}")
    else:
        module, _ = COMMANDS[command]
        importlib.import_module(f"grains.cli.{module}").run(command, argv[1:])


def _interrupted() -> int:
    _show_traceback()
    print("grains: interrupted", file=sys.stderr)
    return 130


def _show_traceback() -> None:
    if os.environ.get("GRAINS_DEBUG"):
        traceback.print_exc()
