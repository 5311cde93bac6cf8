"""What a comparison says in plain words; no claim without its number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from grains.report.numbers import SIGNIFICANT, briefly, listed, shown, shown_p, significant
from grains.report.record import Cell, Change, Fit, Method, Number, Task

PLAIN, REVERSED = "grains", "reversed_ranking"
"""The second masks what the first keeps: a control whose effect is the opposite, not none."""

Said = tuple[str, str]
"""What a sentence is about, and the sentence."""


class Effect(NamedTuple):
    """The change of a task's main metric under a method; `gain` is positive where it is better."""

    method: Method
    task: Task
    change: Change
    gain: float

    def said(self) -> str:
        """Return the task and the change."""
        return f"{self.task.title} {briefly(self.change)}"


def effects(
    fit: Fit, task: Task, level: Number, roles: Sequence[str] = ("ours", "rival")
) -> list[Effect]:
    """Return the known effects on a task at a level of damage, the best first."""
    methods = {method.name: method for method in fit.methods if method.role in roles}
    found = []
    for cell in task.cells:
        change = cell.change.get(task.main)
        if cell.level == level and cell.method in methods and change and change.mean is not None:
            gain = change.mean * task.sign(task.main)
            found.append(Effect(methods[cell.method], task, change, gain))
    return sorted(found, key=lambda effect: -effect.gain)


def missed(fit: Fit, level: Number) -> set[str]:
    """Return the names of the methods that were not brought to a level of damage."""
    return {one.method for one in fit.points if one.level == level and one.reached is False}


def compared(
    fit: Fit, task: Task, level: Number, roles: Sequence[str] = ("ours", "rival")
) -> list[Effect]:
    """Return `effects` at equal damage: those of methods that were brought to the level."""
    short = missed(fit, level)
    return [one for one in effects(fit, task, level, roles) if one.method.name not in short]


def verdict(fit: Fit, level: float) -> list[Said]:
    """Return what is to be said about one level of damage."""
    tasks = [task for task in fit.tasks if task.effect]
    return [
        *_first(fit, tasks, level),
        *_against(fit, tasks, level),
        *_controls(fit, tasks, level),
        *_side_effects(fit, level),
        *_damage(fit, level),
    ]


def aside(fit: Fit) -> list[Said]:
    """Return what is to be said about methods that stand at no level."""
    said = []
    for method in fit.methods:
        if method.error:
            said.append((method.title, f"could not be fitted: {method.error}."))
        for point in fit.points:
            if point.method == method.name and point.level is None:
                found = [effects(fit, task, None, (method.role,)) for task in fit.tasks]
                changes = [one.said() for some in found for one in some if one.method == method]
                listing = ", ".join(changes) or "no change is known"
                damage = _damage_of(point.kl, point.perplexity_ratio)
                text = f"has no strength to set, so it stands at its own damage ({damage}): "
                said.append((method.title, f"{text}{listing}."))
    return said


def _first(fit: Fit, tasks: Sequence[Task], level: float) -> Iterator[Said]:
    ranked = [found for task in tasks if (found := compared(fit, task, level))]
    if not ranked:
        return
    wins: dict[str, list[Effect]] = {}
    for first, *_ in ranked:
        if first.gain > 0:
            wins.setdefault(first.method.title, []).append(first)
    parts = [
        f"{name} on {len(won)} of {len(ranked)} tasks: {_list(won)}"
        for name, won in sorted(wins.items(), key=lambda win: -len(win[1]))
    ]
    lost = [found[0] for found in ranked if found[0].gain <= 0]
    if lost:
        best = ", ".join(f"{one.said()} by {one.method.title}" for one in lost)
        parts.append(f"nothing is better than unsteered on {len(lost)}; the best is {best}")
    yield "Gives most", f"{'; '.join(parts)}."
    near = sum(any(_reaches(one, found[0]) for one in found) for found in ranked)
    if any(method.role == "ours" for method in fit.methods):
        text = f"first, or within the interval of the first, on {near} of {len(ranked)} tasks."
        yield "A method of ours", text


def _reaches(effect: Effect, first: Effect) -> bool:
    """Return whether an effect of ours is the first, or lies within its interval."""
    worse = first.change.low if effect.task.sign(effect.task.main) > 0 else first.change.high
    if effect.method.role != "ours":
        return False
    if effect is first or worse is None:
        return effect is first
    return effect.gain >= worse * effect.task.sign(effect.task.main)


def _against(fit: Fit, tasks: Sequence[Task], level: float) -> Iterator[Said]:
    titles = {method.name: method.title for method in fit.methods}
    short = missed(fit, level)
    for other in references(fit):
        for method in fit.methods:
            if method.role != "ours" or short & {method.name, other}:
                continue
            beside = [
                Effect(method, task, change, change.mean * task.sign(task.main))
                for task in tasks
                for cell in _cells(task, method, level)
                if (change := cell.against.get(other, {}).get(task.main)) is not None
                and change.mean is not None
            ]
            if not beside:
                continue
            told = [one for one in beside if significant(one.change)]
            above, below = _parted(told)
            text = (
                f"{method.title} is above it with p < .05 on {len(above)} of {len(beside)} tasks"
                f"{_behind(above)}; below it on {len(below)}{_behind(below)}."
            )
            yield f"Beside {titles.get(other, other)}", text


def _controls(fit: Fit, tasks: Sequence[Task], level: float) -> Iterator[Said]:
    """Say how controls that should do nothing do, and whether a reversed one does the reverse."""
    found = [one for task in tasks for one in compared(fit, task, level, ("control",))]
    tested = [
        one for one in found if one.change.p_value is not None and one.method.kind != REVERSED
    ]
    if not tested:
        controls = [one for one in fit.methods if one.role == "control" and one.kind != REVERSED]
        yield "Controls", "no change with a p-value is known." if controls else "there are none."
    else:
        moved = [one for one in tested if significant(one.change)]
        by_chance = _at_least(len(moved), len(tested))
        yield (
            "Controls",
            f"p < .05 in {len(moved)} of {len(tested)} changes, "
            f"{'more' if by_chance < SIGNIFICANT else 'no more'} than chance would give: "
            f"{SIGNIFICANT * len(tested):.1f}, and that many or more with probability "
            f"{shown_p(by_chance)}, were the changes independent. Tasks that share questions are "
            "not.",
        )
    for method in fit.methods:
        if method.kind == REVERSED:
            yield from _reversed(fit, method, tasks, level)
        elif own := [one for one in tested if one.method == method]:
            better, worse = _parted([one for one in own if significant(one.change)])
            most = max(own, key=lambda one: abs(one.gain))
            yield (
                method.title,
                f"better than unsteered with p < .05 on {len(better)} of {len(own)} tasks, worse "
                f"on {len(worse)}; the largest change is {most.said()}.",
            )


def _reversed(fit: Fit, method: Method, tasks: Sequence[Task], level: float) -> Iterator[Said]:
    """Say whether what reverses GrAInS does the reverse of it: it is no null control."""
    plain = [one for one in fit.methods if one.kind == PLAIN]
    source = method.settings.get("source")
    plain.sort(key=lambda one: one.settings.get("source") != source)  # the one it was made from
    own, pairs = [], []
    for task in tasks:
        found = {one.method.name: one for one in compared(fit, task, level, ("ours", "control"))}
        if method.name in found:
            own.append(found[method.name])
            pairs += [(own[-1], found[one.name]) for one in plain[:1] if one.name in found]
    if pairs:
        other = [one for one, first in pairs if one.gain * first.gain < 0]
        same = [one for one, first in pairs if one.gain * first.gain > 0]
        yield (
            method.title,
            f"is no null control: it should point the other way than {plain[0].title}, and does on "
            f"{len(other)} of {len(pairs)} tasks{_behind(other)}; the same way on "
            f"{len(same)}{_behind(same)}.",
        )
    elif own:
        text = "is no null control, and what it reverses has no change here to compare it with"
        yield method.title, f"{text}: {_list(own)}."


def _side_effects(fit: Fit, level: float) -> Iterator[Said]:
    for task in (task for task in fit.tasks if not task.effect):
        found = compared(fit, task, level)
        if not found:
            continue
        parts = [one for one in found if one.method.role == "ours"]
        said = [f"{one.method.title} {briefly(one.change)}" for one in parts]
        worst = found[-1]
        if worst not in parts:
            said.append(f"the worst is {worst.method.title}, {briefly(worst.change)}")
        less = ", less is better" if task.sign(task.main) < 0 else ""
        yield f"Cost on {task.title}", f"{task.main}{less}: {', '.join(said)}."


def _damage(fit: Fit, level: float) -> Iterator[Said]:
    titles = {method.name: method.title for method in fit.methods}
    points = [point for point in fit.points if point.level == level]
    ratios = sorted(
        (point.perplexity_ratio, titles[point.method])
        for point in points
        if point.perplexity_ratio is not None
    )
    if ratios:
        (low, least), (high, most) = ratios[0], ratios[-1]
        text = f"perplexity on neutral text is {shown(low)} of the unsteered ({least})"
        yield "Damage", f"{text} to {shown(high)} ({most})."
    short = [point for point in points if point.reached is False]
    if short:
        names = listed(f"{titles[one.method]} (KL {shown(one.kl, '.3g')})" for one in short)
        yield "Not brought to this level", f"{names}."


def _damage_of(kl: Number, ratio: Number) -> str:
    return f"KL {shown(kl, '.3g')}, perplexity ratio {shown(ratio)}"


def _at_least(count: int, tests: int) -> float:
    """Return the probability that chance alone puts so many tests below p = .05.

    >>> round(_at_least(0, 9), 3), round(_at_least(1, 2), 4)
    (1.0, 0.0975)
    """
    p = SIGNIFICANT
    terms = (math.comb(tests, k) * p**k * (1 - p) ** (tests - k) for k in range(count, tests + 1))
    return min(1.0, sum(terms))


def _parted(some: Sequence[Effect]) -> tuple[list[Effect], list[Effect]]:
    """Return the better and the worse ones."""
    return [one for one in some if one.gain > 0], [one for one in some if one.gain < 0]


def _list(some: Sequence[Effect]) -> str:
    return ", ".join(one.said() for one in some)


def _behind(some: Sequence[Effect]) -> str:
    return f": {_list(some)}" if some else ""


def _cells(task: Task, method: Method, level: Number) -> list[Cell]:
    return [cell for cell in task.cells if cell.method == method.name and cell.level == level]


def references(fit: Fit) -> list[str]:
    """Return the names of the methods that others are compared with question by question."""
    return list(dict.fromkeys(one for t in fit.tasks for cell in t.cells for one in cell.against))
