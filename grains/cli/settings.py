"""Components' settings as options: `--model.attributor NAME --model.attributor.steps 20`.

jsonargparse hands over what stands in one place, a name or a mapping. Settings that stand by
themselves are taken out before it reads the command line, and put into the mapping afterwards,
wherever the name came from: the command line, a YAML file, or the default.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import yaml

from grains.cli.components import show_components
from grains.errors import GrainsError

COMPONENTS: dict[str, str | None] = {
    "model.source": "masked",
    "model.attributor": "integrated_gradients",
    "model.masker": "top_k",
    "model.direction_finder": "pca",
    "model.injector": "normalized",
    "model.neutral": None,
    "data.dataset": "starter",
}
"""Where a component stands, and which one is meant when only its settings are given, if any is."""

_KINDS = {place.rpartition(".")[2]: name for place, name in COMPONENTS.items() if name}
_CALLED = {"neutral": "dataset"}  # places that are not called after the kind that they hold

Settings = dict[str, dict[str, Any]]
"""Where a component stands to its settings."""


def take_settings(argv: Sequence[str]) -> tuple[list[str], Settings]:
    """Return the arguments without components' settings, and the settings by themselves.

    `--model.attributor.help [NAME]` shows the component, or all of its kind, and exits.

    Raises:
        GrainsError: if a setting has no value.
    """
    rest, taken, left = [], {}, list(argv)
    while left:
        flag, given, value = left.pop(0).partition("=")
        place, _, setting = flag.removeprefix("--").partition(".")
        key, _, setting = setting.partition(".")
        place = f"{place}.{key}"
        if not flag.startswith("--") or place not in COMPONENTS or not setting:
            rest.append(flag + given + value)
            continue
        if not given:
            value = left.pop(0) if left and not left[0].startswith("--") else None
        if setting == "help":
            show_components(_CALLED.get(key, key), value)
            raise SystemExit(0)
        if value is None:
            raise GrainsError(f"{flag} has no value; wanted {flag} VALUE")
        taken.setdefault(place, {})[setting] = read_value(value)
    return rest, taken


def read_value(text: str) -> Any:
    """Return a number, a truth value, null, what stands in brackets or quotes as YAML, or the text.

    >>> [read_value(text) for text in ("20", "1e-3", "true", "null", "mean", "[1]", "Q: {prompt}")]
    [20, 0.001, True, None, 'mean', [1], 'Q: {prompt}']
    """
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(text)
    if text.startswith(("{", "[", '"', "'")):
        with contextlib.suppress(yaml.YAMLError):
            return yaml.safe_load(text)
    return {"true": True, "false": False, "null": None}.get(text.lower(), text)


def with_settings(spec: Any, settings: dict[str, Any], default: str | None) -> Any:
    """Return a component's mapping with more settings in it.

    Args:
        spec: as users write it: a name, `{name, settings}`, `{class_path, init_args}`, None, or a
            list of these, each of which then gets the settings.
        settings: what to add; one that is there already is replaced. `image_masker.k` is the
            setting `k` of a component that is itself the setting `image_masker`.
        default: the component's name if `spec` is None; None if it has to be given.

    Raises:
        GrainsError: if there are settings and no name.

    >>> with_settings("top_k", {"k": 5}, "top_k")
    {'name': 'top_k', 'k': 5}
    >>> with_settings("masked", {"image_masker.k": 5}, "masked")
    {'name': 'masked', 'image_masker': {'name': 'top_k', 'k': 5}}
    """
    if isinstance(spec, list):
        return [with_settings(one, settings, default) for one in spec]
    known: dict[str, Any] = dict(spec) if isinstance(spec, dict) else {"name": spec or default}
    if "class_path" in known:  # a dotted path is as good as a name
        known = {"name": known["class_path"], **known.get("init_args", {})}
    more = {setting.removeprefix("init_args."): value for setting, value in settings.items()}
    if "class_path" in more:
        known = {"name": more.pop("class_path")}
    if known.get("name", "") is None:
        raise GrainsError(
            f"{', '.join(more)} is given, but not of which component; wanted its name too, as in "
            "--model.neutral scene_questions --model.neutral.scenes 20"
        )
    for setting in sorted(more, key=lambda setting: setting.count(".")):  # a part before its own
        part, _, inner = setting.partition(".")
        # A component's part is called after the kind that it is of: `masker`, `image_masker`.
        kind = next((kind for kind in _KINDS if part.endswith(kind)), None)
        if inner and kind:
            known[part] = with_settings(known.get(part), {inner: more[setting]}, _KINDS[kind])
        else:
            known[setting] = more[setting]
    return known
