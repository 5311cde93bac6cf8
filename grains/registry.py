"""Names become components: ours by a decorator, other people's through entry points.

A component is a frozen, keyword-only dataclass. Its fields are its whole configuration, so that a
name with settings, a line of YAML and an object all say the same thing.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import entrypoints
from beartype import BeartypeConf
from beartype.door import is_bearable

from grains._version import __version__
from grains.discovery import discover
from grains.errors import GrainsError, did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
C = TypeVar("C", bound=type)
_OURS = f"grains {__version__}"
_NUMBERS = BeartypeConf(is_pep484_tower=True)  # an int is good where a float is wanted


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the table of components: either `summary` or `error`."""

    kind: str
    name: str
    origin: str
    summary: str = ""
    error: str = ""


class Registry(Generic[T]):
    """All components of one kind, by name.

    Args:
        kind: the word that users type, such as `"attributor"`.
        base: the abstract class that every component extends.

    Third parties add components in the entry-point group `grains.<kind>s`; they are imported only
    when named.
    """

    def __init__(self, kind: str, base: type[T]) -> None:
        self.kind = kind
        self.base = base
        self.group = f"grains.{kind}s"
        self._ours: dict[str, type[T]] = {}
        _REGISTRIES[base] = self

    def register(self, name: str) -> Callable[[C], C]:
        """Return a decorator that files a class under `name`."""

        def decorate(cls: C) -> C:
            if name in self._ours:
                taken = self._ours[name].__qualname__
                raise GrainsError(f"{self.kind} {name!r} is taken by {taken}; wanted another name")
            self._ours[name] = self._checked(name, cls)
            return cls

        return decorate

    def names(self) -> list[str]:
        """Return every name that can be built, ours first."""
        return [*self._ours, *(name for name in self._points() if name not in self._ours)]

    def get(self, name: str) -> type[T]:
        """Return the class filed under `name`.

        Raises:
            GrainsError: if there is none, if two claim the name, or if a plug-in does not import.
        """
        points = self._points().get(name, [])
        claims = [_origin(point) for point in points]
        if name in self._ours:
            claims.insert(0, _OURS)
        if len(claims) > 1:
            raise GrainsError(
                f"{self.kind} {name!r} is claimed by {' and '.join(claims)}; uninstall all but one"
            )
        if name in self._ours:
            return self._ours[name]
        if not points:
            raise GrainsError(
                f"no {self.kind} is named {name!r}; {did_you_mean(name, self.names())}"
            )
        return self._load(points[0])

    def build(self, spec: Any, /, **settings: Any) -> T:
        """Make a component from whatever a user may write.

        Args:
            spec: a name; a mapping `{"name": ..., **settings}`; a mapping
                `{"class_path": ..., "init_args": {...}}`; or a component, returned as it is.
            settings: the component's fields.

        Raises:
            GrainsError: for an unknown name, an unknown setting, or a value of the wrong type, be
                it a component's own.
        """
        if isinstance(spec, self.base):
            known = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec) if f.init}
            self._check(type(spec), {**known, **settings})
            return dataclasses.replace(spec, **settings) if settings else spec
        if isinstance(spec, Mapping):
            given = dict(spec)
            if "class_path" in given:
                path, settings = given.pop("class_path"), {**given.pop("init_args", {}), **settings}
                return self._construct(self._by_path(path), settings)
            if "name" not in given:
                example = {"name": self.names()[0], **given}
                raise GrainsError(
                    f"the {self.kind} is given as {given!r}; wanted a mapping with 'name', such "
                    f"as {example!r}"
                )
            name = given.pop("name")
            return self.build(name, **{**given, **settings})
        if not isinstance(spec, str):
            raise GrainsError(
                f"the {self.kind} is given as {spec!r}; wanted a name, a mapping with 'name', "
                f"or a {self.base.__name__}"
            )
        return self._construct(self._by_path(spec) if "." in spec else self.get(spec), settings)

    def name_of(self, component: T | type[T]) -> str:
        """Return the name under which a component's class is filed, or its dotted path."""
        cls = component if isinstance(component, type) else type(component)
        for name, filed in self._ours.items():
            if filed is cls:
                return name
        path = f"{cls.__module__}.{cls.__qualname__}"
        for name, points in self._points().items():
            if any(f"{point.module_name}.{point.object_name}" == path for point in points):
                return name
        return path

    def spec(self, component: T) -> dict[str, Any]:
        """Return the mapping from which `build` makes an equal component, parts included."""
        mapping: dict[str, Any] = {"name": self.name_of(component)}
        for field in dataclasses.fields(component):
            value = getattr(component, field.name)
            registry = _registry_of(type(value))
            mapping[field.name] = registry.spec(value) if registry else copy.deepcopy(value)
        return mapping

    def entries(self) -> Iterator[Entry]:
        """Yield one row a component; a plug-in that fails to import is a row with its error."""
        for name, cls in self._ours.items():
            yield self._entry(name, cls, _OURS)
        for name, points in self._points().items():
            for point in points:
                origin = _origin(point)
                if name in self._ours:
                    error = f"the name is taken by {_OURS}"
                    yield Entry(kind=self.kind, name=name, origin=origin, error=error)
                    continue
                try:
                    yield self._entry(name, self._load(point), origin)
                except GrainsError as error:
                    yield Entry(kind=self.kind, name=name, origin=origin, error=str(error))

    def _points(self) -> dict[str, list[entrypoints.EntryPoint]]:
        points: dict[str, list[entrypoints.EntryPoint]] = {}
        for point in discover(self.group):
            points.setdefault(point.name, []).append(point)
        return points

    def _load(self, point: entrypoints.EntryPoint) -> type[T]:
        try:
            cls = point.load()
        except Exception as error:
            raise GrainsError(
                f"{self.kind} {point.name!r} of {_origin(point)} does not import: "
                f"{type(error).__name__}: {error}"
            ) from error
        return self._checked(point.name, cls)

    def _by_path(self, path: str) -> type[T]:
        module, _, name = path.rpartition(".")
        try:
            cls = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            ours = [f"{cls.__module__}.{cls.__qualname__}" for cls in self._ours.values()]
            raise GrainsError(
                f"{self.kind} {path!r} does not import ({error}); wanted a dotted path of a class, "
                f"or a name: {did_you_mean(path, [*self.names(), *ours])}"
            ) from error
        return self._checked(path, cls)

    def _checked(self, name: str, cls: Any) -> type[T]:
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise GrainsError(
                f"{self.kind} {name!r} is {cls!r}; wanted a subclass of {self.base.__name__}"
            )
        if inspect.isabstract(cls):
            lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
            raise GrainsError(f"{self.kind} {name!r} is abstract; it lacks {lacking}")
        if not dataclasses.is_dataclass(cls):
            raise GrainsError(f"{self.kind} {name!r} is {cls!r}; wanted a frozen dataclass")
        return cls

    def _construct(self, cls: type[T], settings: Mapping[str, Any]) -> T:
        hints = typing.get_type_hints(cls)
        settings = {key: _part(hints.get(key), value) for key, value in settings.items()}
        self._check(cls, settings)
        try:
            return cls(**settings)
        except GrainsError as error:
            where = f"{self.kind} {self.name_of(cls)!r}: "
            raise GrainsError(where + str(error).removeprefix(where)) from error

    def _check(self, cls: type[T], settings: Mapping[str, Any]) -> None:
        hints = typing.get_type_hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        name = self.name_of(cls)
        for key, value in settings.items():
            if key not in fields:
                raise GrainsError(
                    f"{self.kind} {name!r} has no setting {key!r}; {did_you_mean(key, fields)}"
                )
            if not is_bearable(value, hints[key], conf=_NUMBERS):
                raise GrainsError(
                    f"{self.kind} {name!r}: {key} is {value!r}; wanted {_readable(hints[key])}"
                )
        lacking = [
            key
            for key, field in fields.items()
            if key not in settings
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ]
        if lacking:
            raise GrainsError(f"{self.kind} {name!r} lacks {lacking[0]!r}; wanted {lacking[0]}=...")

    def _entry(self, name: str, cls: type[T], origin: str) -> Entry:
        summary = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
        return Entry(kind=self.kind, name=name, origin=origin, summary=summary)


_REGISTRIES: dict[type, Registry[Any]] = {}


def _registry_of(cls: type) -> Registry[Any] | None:
    return next((_REGISTRIES[base] for base in cls.__mro__ if base in _REGISTRIES), None)


def _part(hint: Any, value: Any) -> Any:
    """Return a component's setting; one that is a component itself is built as any other is."""
    kinds = [kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)]
    registry = next((_REGISTRIES[kind] for kind in kinds if kind in _REGISTRIES), None)
    return registry.build(value) if registry and isinstance(value, str | Mapping) else value


def _origin(point: entrypoints.EntryPoint) -> str:
    distro = point.distro
    return f"{distro.name} {distro.version}" if distro else point.module_name


def _readable(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else str(hint)
