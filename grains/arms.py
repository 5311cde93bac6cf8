"""What is fitted side by side from the same pairs: the steering asked for, and its controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grains.attributors import ATTRIBUTORS
from grains.directions import DIRECTION_FINDERS, DirectionFinder, MeanDifference
from grains.errors import GrainsError, did_you_mean
from grains.maskers import MASKERS
from grains.sources import SOURCES, Answers, DirectionSource, Masked

FITTED_CONTROLS = ("random_masks", "caa")
CONTROLS = ("random_direction", *FITTED_CONTROLS)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A source of rows with the finder that reads them."""

    name: str
    source: DirectionSource
    finder: DirectionFinder


def main_arms(
    source: Any, attributor: Any, masker: Any, direction_finder: Any, reduction: str
) -> list[Arm]:
    """Return what was asked for: one arm, or one a masker where several are given.

    Raises:
        GrainsError: for an unknown component, and for an attributor or masker that the source does
            not use.
    """
    built, finder = SOURCES.build(source), DIRECTION_FINDERS.build(direction_finder)
    fields = {field.name for field in dataclasses.fields(built)}
    for kind, given in (("attributor", attributor), ("masker", masker)):
        if given is not None and kind not in fields:
            raise GrainsError(
                f"the {kind} is {given!r}, but source {SOURCES.name_of(built)!r} uses none; "
                f"wanted no {kind}, or source 'masked'"
            )
    changes: dict[str, Any] = {}
    if "reduction" in fields and not _says(source, "reduction"):
        changes["reduction"] = reduction
    if attributor is not None:
        changes["attributor"] = ATTRIBUTORS.build(attributor)
    maskers = masker if isinstance(masker, list) else [masker]
    if not maskers:
        raise GrainsError("the list of maskers is empty; wanted one or more")
    sources = [
        dataclasses.replace(
            built, **changes, **({} if one is None else {"masker": MASKERS.build(one)})
        )
        for one in maskers
    ]
    names = ["steered"] if len(sources) == 1 else [_masker_name(s) for s in sources]
    if len(set(names)) < len(names):
        raise GrainsError(f"the list of maskers repeats one: {', '.join(names)}")
    return [Arm(name=name, source=s, finder=finder) for name, s in zip(names, sources, strict=True)]


def control_arms(controls: Sequence[str], arms: Sequence[Arm], seed: int) -> list[Arm]:
    """Return the controls that are fitted; the random direction needs no pairs.

    Every arm has random masks of its own: as many positions as its masker picks, but others.
    """
    found = []
    if "random_masks" in controls:
        for arm in arms:
            assert isinstance(arm.source, Masked)
            name = control_of("random_masks", arm.name)
            found.append(Arm(name=name, source=arm.source.shuffled(seed), finder=arm.finder))
    if "caa" in controls:
        found.append(Arm(name="caa", source=Answers(), finder=MeanDifference()))
    return found


def control_of(control: str, arm: str) -> str:
    """Return under what name an arm's control is fitted."""
    return f"{control} of {arm}" if control == "random_masks" else control


def controls_of(controls: Sequence[str] | None, main: Arm) -> list[str]:
    """Return the controls' names: those asked for, or all that make sense for the main arm."""
    masks = isinstance(main.source, Masked)
    elsewhere = main.source.site != Answers.site
    if controls is None:
        senseless = {"random_masks"} if not masks else set()
        if elsewhere or isinstance(main.source, Answers):
            senseless.add("caa")
        return [name for name in CONTROLS if name not in senseless]
    if isinstance(controls, str):
        raise GrainsError(f"controls is {controls!r}; wanted a list, such as [{controls!r}]")
    for name in controls:
        if name not in CONTROLS:
            raise GrainsError(f"no control is named {name!r}; {did_you_mean(name, CONTROLS)}")
        if name == "random_masks" and not masks:
            raise GrainsError(
                "control 'random_masks' needs source 'masked'; wanted another control"
            )
        if name == "caa" and elsewhere:
            raise GrainsError(
                "control 'caa' is of the decoder, where answers differ; wanted another control for "
                f"a source of the site {main.source.site!r}"
            )
    return list(controls)


def _says(source: Any, setting: str) -> bool:
    """Whether a user has said something of a setting: an object says something of all."""
    if isinstance(source, Mapping):
        return setting in {**source, **source.get("init_args", {})}
    return isinstance(source, DirectionSource)


def _masker_name(source: Any) -> str:
    settings = ",".join(f"{k}={v}" for k, v in dataclasses.asdict(source.masker).items())
    return f"{MASKERS.name_of(source.masker)}({settings})"
