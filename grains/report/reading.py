"""From JSON to a record, or one line that says what is wrong with the file."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from grains.errors import GrainsError, did_you_mean
from grains.report.looks import ROLES
from grains.report.record import Comparison, Fit, Sweep

KINDS: dict[str, type[Comparison] | type[Sweep]] = {"comparison": Comparison, "sweep": Sweep}

WANTED = "wanted a record that `grains compare` or `grains sweep` wrote"

_Record = TypeVar("_Record")


def read_json(path: str | Path) -> dict[str, Any]:
    """Return the object in a file, with None for numbers that are none (NaN, infinity).

    Raises:
        GrainsError: if there is no file, or no JSON object in it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        problem = "is not a file" if path.exists() else "does not exist"
        raise GrainsError(f"{path} {problem}; {WANTED}")
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise GrainsError(f"{path} is cut short, or not JSON ({error}); {WANTED}") from error
    if not isinstance(found, dict):
        raise GrainsError(f"{path} holds {_kind_of(found)}; {WANTED}")
    return _finite(found)


def read_record(content: Mapping[str, Any]) -> Comparison | Sweep:
    """Return the record that a JSON object holds.

    Raises:
        GrainsError: if it is of another kind, or lacks something, or has something else in its
            place.
    """
    kind = content.get("kind")
    if kind is None:
        raise GrainsError(f"the record has no 'kind'; {WANTED}")
    if not isinstance(kind, str):
        raise _misplaced(kind, _NAMES[str], "kind")
    if kind not in KINDS:
        raise GrainsError(f"no report is made of the kind {kind!r}; {did_you_mean(kind, KINDS)}")
    record = _instance(KINDS[kind], content, "")
    if isinstance(record, Comparison):
        for number, fit in enumerate(record.fits):
            _check_names(fit, f"fits[{number}]")
    elif not 0 <= record.chosen < len(record.cells):
        raise GrainsError(
            f"'chosen' is {record.chosen}, with {len(record.cells)} cells; wanted one of them"
        )
    return record


def _check_names(fit: Fit, where: str) -> None:
    for method in fit.methods:
        if method.role not in ROLES:
            raise GrainsError(
                f"{where}: method {method.name!r} has the role {method.role!r}; "
                f"{did_you_mean(method.role, ROLES)}"
            )
    known = {method.name for method in fit.methods}
    asked = [point.method for point in fit.points]
    for task in fit.tasks:
        asked += [cell.method for cell in task.cells]
        if task.main not in task.unsteered:
            raise GrainsError(
                f"{where}: task {task.name!r} has the main metric {task.main!r}; "
                f"{did_you_mean(task.main, task.unsteered)}"
            )
    for name in asked:
        if name not in known:
            raise GrainsError(
                f"{where} has a result of {name!r}, which is no method of it; "
                f"{did_you_mean(name, known)}"
            )
    for credits in fit.credits:
        if not len(credits.tokens) == len(credits.scores) == len(credits.modality):
            raise GrainsError(
                f"{where}: the credits {credits.name!r} have {len(credits.tokens)} tokens, "
                f"{len(credits.scores)} scores and {len(credits.modality)} modalities; wanted as "
                "many of each"
            )


def _instance(kind: type[_Record], value: Any, where: str) -> _Record:
    if not isinstance(value, Mapping):
        raise _misplaced(value, "an object", where)
    hints, given = _hints(kind), {}
    for field in dataclasses.fields(typing.cast(Any, kind)):
        optional = (
            field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING
        )
        found = value.get(field.name)
        if found is None and optional:
            continue
        if field.name not in value:
            place = f"{where} has" if where else "the record has"
            raise GrainsError(f"{place} no {field.name!r}; {WANTED}, whole")
        inside = f"{where}.{field.name}" if where else field.name
        given[field.name] = _value(hints[field.name], found, inside)
    return kind(**given)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(hint: Any, value: Any, where: str) -> Any:
    """Return what JSON holds as what the annotation says, or refuse it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        if value is None:
            return None
        return _value(next(one for one in arguments if one is not types.NoneType), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _misplaced(value, "a list", where)
        rows = enumerate(value)
        return tuple(_value(arguments[0], one, f"{where}[{place}]") for place, one in rows)
    if dataclasses.is_dataclass(hint):
        return _instance(typing.cast(type, hint), value, where)
    if origin is not None:  # a mapping, whose keys are always texts in JSON
        if not isinstance(value, Mapping):
            raise _misplaced(value, "an object", where)
        return {key: _value(arguments[1], one, f"{where}.{key}") for key, one in value.items()}
    if hint is Any:
        return value
    fits = isinstance(value, (int, float) if hint is float else hint)
    if not fits or (isinstance(value, bool) and hint is not bool):
        raise _misplaced(value, _NAMES[hint], where)
    return value


_NAMES: dict[Any, str] = {
    str: "a text",
    float: "a number",
    int: "a whole number",
    bool: "true or false",
}


def _misplaced(value: Any, wanted: str, where: str) -> GrainsError:
    return GrainsError(f"{where} is {_kind_of(value)}; wanted {wanted}")


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", **_NAMES}
    return names[type(value)]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
