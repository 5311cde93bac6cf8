"""What can be named: a table of all components, or one with its settings."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grains.cli.arguments import Parser
from grains.errors import GrainsError, did_you_mean

if TYPE_CHECKING:
    from grains.registry import Entry, Registry

KINDS = {
    "attributor": ("grains.attributors", "ATTRIBUTORS"),
    "masker": ("grains.maskers", "MASKERS"),
    "source": ("grains.sources", "SOURCES"),
    "direction_finder": ("grains.directions", "DIRECTION_FINDERS"),
    "injector": ("grains.injectors", "INJECTORS"),
    "dataset": ("grains.data", "DATASETS"),
    "task": ("grains.evaluation", "TASKS"),
    "judge": ("grains.evaluation", "JUDGES"),
    "method": ("grains.methods", "METHODS"),
}
"""Kind to the module and name of its registry."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of a component, in words; `default` is None in text where a value is required."""

    name: str
    type: str
    default: str | None
    doc: str

    def __str__(self) -> str:
        return self.name if self.default is None else f"{self.name}={self.default}"


def run(command: str, argv: Sequence[str]) -> None:
    """Run `grains components`."""
    parser = Parser(
        prog=f"grains {command}",
        description="List the components that can be named, ours and those of installed plug-ins, "
        "with their settings and defaults. Naming one shows what it does and what each setting is.",
    )
    parser.add_argument(
        "what",
        nargs="?",
        help=f"a kind ({', '.join(KINDS)}) or a component's name; all if not given",
    )
    parser.add_argument("--json", action="store_true", help="write JSON, one object a component")
    args = parser.parse_args(argv)
    if args.what is None or args.what in KINDS:
        kinds, name = ([args.what] if args.what else list(KINDS)), None
    else:
        name = args.what
        kinds = [kind for kind in KINDS if name in registry_of(kind).names()]
        if not kinds:
            named = {name for kind in KINDS for name in registry_of(kind).names()}
            near = did_you_mean(name, {*KINDS, *named})
            raise GrainsError(f"no kind and no component is named {name!r}; {near}")
    if args.json:
        rows = [row for kind in kinds for row in rows_of(kind) if name in (None, row[0].name)]
        print(json.dumps([_plain(*row) for row in rows], indent=2))
        return
    if name is None:
        show_table(row for kind in kinds for row in rows_of(kind))
        return
    for kind in kinds:
        show_components(kind, name)


def registry_of(kind: str) -> Registry[Any]:
    """Return the registry of a kind, importing no other one."""
    module, name = KINDS[kind]
    return getattr(importlib.import_module(module), name)


def rows_of(kind: str) -> Iterable[tuple[Entry, list[Setting]]]:
    """Yield each component of a kind with its settings; a broken plug-in has none."""
    registry = registry_of(kind)
    for entry in registry.entries():
        yield entry, [] if entry.error else settings_of(registry.get(entry.name))


def settings_of(component: type) -> list[Setting]:
    """Return the settings of a component's class, explained by its docstring or its bases'."""
    import docstring_parser

    docs: dict[str, str] = {}
    for cls in reversed(component.__mro__):
        for param in docstring_parser.parse(cls.__doc__ or "").params:
            docs[param.arg_name] = " ".join((param.description or "").split())
    hints = typing.get_type_hints(component)
    return [
        Setting(
            name=field.name,
            type=_readable(hints[field.name]),
            default=_default(field),
            doc=docs.get(field.name, ""),
        )
        for field in dataclasses.fields(component)
        if field.init
    ]


def show_table(rows: Iterable[tuple[Entry, list[Setting]]]) -> None:
    """Print one row a component, in a section for each kind."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, caption="`grains components NAME` explains the settings of one")
    for heading in ("kind", "name, origin", "what it does, settings"):
        table.add_column(heading, overflow="fold")
    kind = ""
    for entry, settings in rows:
        if kind not in ("", entry.kind):
            table.add_section()
        name = Text.assemble((entry.name, "bold"), "\n", (entry.origin, "dim"))
        what = Text(entry.error, style="red") if entry.error else Text(entry.summary)
        if settings:
            what.append("\n" + ", ".join(map(str, settings)), style="dim")
        table.add_row("" if entry.kind == kind else entry.kind, name, what)
        kind = entry.kind
    Console(highlight=False).print(table)


def show_components(kind: str, name: str | None) -> None:
    """Print all components of a kind, or one in full: its docstring, and a row a setting.

    Raises:
        GrainsError: if there is none of that name, or it does not import.
    """
    import docstring_parser
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if name is None:
        show_table(rows_of(kind))
        return
    component = registry_of(kind).get(name)
    doc = docstring_parser.parse(inspect.getdoc(component) or "")
    console = Console(highlight=False, markup=False)
    console.print(Text(f"{kind} {name}", style="bold"))
    for paragraph in f"{doc.short_description}\n\n{doc.long_description or ''}".split("\n\n"):
        console.print(" ".join(paragraph.split()))
    table = Table(box=box.SIMPLE)
    for heading in ("setting", "type", "default", "what it is"):
        table.add_column(heading, overflow="fold")
    for setting in settings_of(component):
        default = "required" if setting.default is None else setting.default
        table.add_row(*map(Text, (setting.name, setting.type, default, setting.doc)))
    console.print(table if table.rows else "It has no settings.")


def _plain(entry: Entry, settings: list[Setting]) -> dict[str, Any]:
    return {**dataclasses.asdict(entry), "fields": [dataclasses.asdict(one) for one in settings]}


def _default(field: dataclasses.Field[Any]) -> str | None:
    if field.default_factory is not dataclasses.MISSING:
        return f"{getattr(field.default_factory, '__name__', '...')}()"
    return None if field.default is dataclasses.MISSING else repr(field.default)


def _readable(hint: Any) -> str:
    if isinstance(hint, type) and not typing.get_args(hint):
        return "None" if hint is type(None) else hint.__name__
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, type(int | str)):
        return " | ".join(map(_readable, typing.get_args(hint)))
    return str(hint).replace("typing.", "")
