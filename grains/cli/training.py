"""`grains fit`, `validate`, `test` and `predict`: a LightningCLI with our defaults and manners."""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import logging
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from jsonargparse import DefaultHelpFormatter, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from grains.cli import COMMANDS
from grains.cli.answers import show_answers
from grains.cli.recipes import with_recipes
from grains.cli.settings import COMPONENTS, take_settings, with_settings
from grains.data.datamodule import SteeringDataModule
from grains.errors import GrainsError, did_you_mean
from grains.module import SteeringModule
from grains.storage import refuse_existing, write_atomically

VECTOR = "steering.safetensors"
"""Where fit writes if nothing is said."""

TRAINER = {
    "max_epochs": 1,
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    # The trainer's bar is written to stdout, where a pipe wants results alone.
    "enable_progress_bar": sys.stdout.isatty(),
    "log_every_n_steps": 1,
}

_SPLIT = ("fit", "val", "test", "seed")

_ABOUT = """
A component (source, attributor, masker, direction finder, injector, data set) is given by its name,
its settings follow: --model.attributor smoothgrad --model.attributor.samples 8. A YAML file says
the same under model: and data:, as a name or as a mapping with name and settings.
--model.attributor.help smoothgrad shows the settings; `grains components` lists what there is.
"""


def run(command: str, argv: Sequence[str]) -> None:
    """Run one of the trainer's commands.

    Raises:
        GrainsError: for everything that the command line got wrong.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    rest, settings = take_settings(with_recipes(argv))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")  # Lightning's own matter
        try:
            SteeringCLI(command, rest, settings).execute()
        except MisconfigurationException as error:
            raise GrainsError(str(error)) from error


class SteeringCLI(LightningCLI):
    """Reads the command line, builds data, model and trainer; `execute` then runs the command."""

    def __init__(
        self, command: str, argv: Sequence[str], settings: dict[str, dict[str, Any]]
    ) -> None:
        self.command = command
        self.settings = settings
        super().__init__(
            SteeringModule,
            SteeringDataModule,
            save_config_callback=None,  # the vector's card holds every setting
            trainer_defaults=TRAINER,
            parser_kwargs={
                "prog": f"grains {command}",
                "description": f"{COMMANDS[command][1].capitalize()}.{_ABOUT}",
                "usage": "%(prog)s [--config FILE] [--model.SETTING ...] [--data.SETTING ...] "
                "[--trainer.SETTING ...]",
                "formatter_class": _HelpFormatter,
                "exit_on_error": False,
                "allow_abbrev": False,
            },
            args=list(argv),
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is ours: where the steering comes from, and where results go."""
        if self.command in ("fit", "predict"):
            what, default = {
                "fit": ("the vector", VECTOR),
                "predict": ("the answers, as JSON lines", "not written"),
            }[self.command]
            parser.add_argument("--out", type=str | None, help=f"file for {what} [{default}]")
            parser.add_argument("--overwrite", action="store_true", help="replace that file")
        if self.command == "fit":
            parser.add_argument(
                "--save_ckpt",
                type=str | None,
                help="write a Lightning checkpoint as well, which holds the fitted controls too",
            )
        else:
            parser.add_argument("--vector", type=str | None, help="file that `grains fit` wrote")
            parser.add_argument("--ckpt_path", type=str | None, help="or what --save_ckpt wrote")

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add model and data before the trainer, for the sake of `--help`."""
        parser.add_lightning_class_args(SteeringModule, "model")
        parser.add_lightning_class_args(SteeringDataModule, "data")
        parser.add_lightning_class_args(L.Trainer, "trainer")
        parser.set_defaults(
            {f"trainer.{key}": value for key, value in self.trainer_defaults.items()}
        )
        actions: list[Any] = parser._actions
        for action in actions:
            # The name of a file of pairs is a name: jsonargparse would read the file in its place.
            if action.dest.startswith(("model.", "data.")) and hasattr(action, "_enable_path"):
                action._enable_path = False

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, put components' settings in their place, and check what costs nothing to check."""
        show = "--print_config" in args
        try:
            args = [arg for arg in args if arg != "--print_config"]
            config = parser.parse_args(args)
            given = parser.parse_args(args, defaults=False).get("data") or {}
        except argparse.ArgumentError as error:
            raise GrainsError(_in_short(error, parser)) from error
        self.split_given = any(name in given for name in _SPLIT)
        for place, settings in self.settings.items():
            config[place] = with_settings(config[place], settings, COMPONENTS[place])
        if show:
            print(parser.dump(config, skip_none=False), end="")
            raise SystemExit(0)
        if self.command == "fit":
            config.model.save_to = config.out or config.model.save_to or VECTOR
            config.model.overwrite |= config.overwrite
            for path in filter(None, (config.model.save_to, config.save_ckpt)):
                refuse_existing(path, overwrite=config.model.overwrite)
        else:
            # One YAML file serves them all: what fit saves is what the others read.
            saved = None if config.ckpt_path else config.model.save_to
            config.model.vector = config.vector or config.model.vector or saved
            config.model.save_to = None
            if not (config.model.vector or config.ckpt_path):
                raise GrainsError(f"there is nothing to {self.command}; wanted --vector FILE")
        if self.command == "predict" and config.out:
            refuse_existing(config.out, overwrite=config.overwrite)
        # Every part that draws has a seed of its own: no option, but Lightning asks for this one.
        self.config = Namespace(**vars(config), seed_everything=False)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Make the trainer.

        Raises:
            GrainsError: if Lightning refuses a setting.
        """
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, ModuleNotFoundError) as error:
            raise GrainsError(f"the trainer refuses its settings: {error}") from error

    def execute(self) -> None:
        """Run the command."""
        if self.command == "fit":
            self.trainer.fit(self.model, self.datamodule)
            if self.config.save_ckpt:
                self.trainer.save_checkpoint(self.config.save_ckpt)
                self.model.print(f"wrote {self.config.save_ckpt}")
            return
        if self.config.ckpt_path:
            self.model.on_load_checkpoint(_checkpoint(self.config.ckpt_path))
        if not self.split_given:
            self._split_as_fitted()
        if self.command == "predict":
            self.predict()
        else:
            evaluate = getattr(self.trainer, self.command)
            evaluate(self.model, datamodule=self.datamodule, verbose=False)

    def _split_as_fitted(self) -> None:
        """Split the data as the vector's card says, if it is the data that it was fitted on."""
        record = self.model.vector.card.get("data") if self.model.vector else None
        try:
            known = bool(record) and self.datamodule.split_as(record)
        except (KeyError, TypeError):  # fitted on data of another kind, or by hand
            return
        if known:
            counts = {"seed": self.datamodule.seed, **self.datamodule.split.record()["sizes"]}
            said = ", ".join(f"{name}={count}" for name, count in counts.items())
            self.trainer.print(f"split as for the fit of the vector: {said}")

    def predict(self) -> None:
        """Show the answers, and write them if asked."""
        if self.trainer.world_size > 1:  # the others' answers would be lost
            raise GrainsError("predict runs in one process; wanted --trainer.devices 1")
        batches = self.trainer.predict(self.model, datamodule=self.datamodule)
        rows: list[Any] = [row for batch in batches or [] for row in batch]
        for row in rows:
            show_answers(row["prompt"], {name: row[name] for name in ("unsteered", "steered")})
        if self.config.out:
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_atomically(self.config.out, lines.encode(), overwrite=self.config.overwrite)
            print(f"wrote {self.config.out}")


def _checkpoint(path: str) -> dict[str, Any]:
    """Read what `--save_ckpt` wrote, running nothing that a file may hold."""
    wanted = "wanted what `grains fit --save_ckpt` wrote"
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has many ways to say that this is no checkpoint
        reason = str(error).splitlines()[0]
        raise GrainsError(f"the checkpoint {path} cannot be read ({reason}); {wanted}") from error
    if not isinstance(checkpoint, dict) or "steering" not in checkpoint:
        raise GrainsError(f"the checkpoint {path} holds no steering; {wanted}")
    return checkpoint


class _HelpFormatter(DefaultHelpFormatter):
    """Help without Python's types: what an option is, and its default."""

    def add_argument(self, action: argparse.Action) -> None:
        if not action.dest.endswith(".help"):  # ours shows components by name
            super().add_argument(action)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = " ".join((action.help or "").split())
        if action.dest.startswith("trainer."):
            text = re.split(r"(?<!e\.g)\. ", text)[0].removesuffix(".")
        if "." not in action.dest or action.default in (None, argparse.SUPPRESS):
            return text
        return f"{text} [%(default)s]"

    def _format_action_invocation(self, action: argparse.Action) -> str:
        # Lists can be appended to with `--name+`: true of every list, said of none.
        return re.sub(r", --[\w.]+\+.*", "", super()._format_action_invocation(action))


def _in_short(error: Exception, parser: LightningArgumentParser) -> str:
    """Put what jsonargparse says over many lines into one, with the nearest right option."""
    text = " ".join(str(error).split()).replace('in "<unicode string>", ', "in the file, ")
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text).replace("NoneType", "null")
    text = re.sub(r'^Parser key "([\w.]+)": ', r"--\1: ", text)
    text = re.sub(
        r"Expected an? (?:typing\.)?(.*?)\. Got value: (.*)", r"given \2; wanted \1", text
    )
    if choice := re.fullmatch(r"(.*given (.*)); wanted Literal(\[.*\])", text):
        return f"{choice[1]}; {did_you_mean(choice[2], map(str, ast.literal_eval(choice[3])))}"
    text = re.sub(r"; wanted float$", "; wanted a number", text)
    if union := re.match(r"(.*?)Does not validate .* Subtypes: \[(.*?)\] Err.*value: (.*)", text):
        return f"{union[1]}given {union[3]}; wanted one of {union[2]}"
    for pattern, option in (
        (r"unrecognized arguments: (--[^\s=]+)", r"\1"),
        (r"Group '(.*)' does not accept option '(.*)'", r"--\1.\2"),
        (r"Option '(.*)' is not accepted", r"--\1"),
    ):
        if unknown := re.match(pattern, text, re.IGNORECASE):
            given = unknown.expand(option)
            near = difflib.get_close_matches(given, parser._option_string_actions, n=1)
            meant = f"did you mean {near[0]}?" if near else f"see `{parser.prog} --help`"
            return f"there is no option {given}; {meant}"
    return text
