"""The curves of a comparison: effect against damage, and against side effects."""

from __future__ import annotations

from collections.abc import Mapping

from grains.report.blocks import Look
from grains.report.numbers import in_full, shown
from grains.report.plots import Line, Mark, plot
from grains.report.record import Cell, Change, Fit, Number, Task
from grains.report.task_table import level_tag


def damage_curve(fit: Fit, task: Task, looks: Mapping[str, Look]) -> str:
    """Draw the change of a task's main metric against the KL that it costs."""
    points = {(point.method, point.level): point.kl for point in fit.points}
    lines = []
    for name, look in _of(fit, looks).items():
        marks = [
            _mark(look, cell, task, kl, f"KL {kl:.3g} nats")
            for cell in _by_level(task, name)
            if (kl := points.get((name, cell.level))) is not None and _known(cell, task)
        ]
        lines.append(Line(look, marks))
    title = f"{task.title}: effect against damage"
    label = _axis(task)
    return plot(title, "KL to unsteered, nats a token (log)", label, lines, log_x=True)


def side_effect_curve(fit: Fit, task: Task, other: Task, looks: Mapping[str, Look]) -> str:
    """Draw the change of a task's main metric against that of a task that should not change."""
    lines = []
    for name, look in _of(fit, looks).items():
        costs = {
            cell.level: cell.change.get(other.main, Change())
            for cell in other.cells
            if cell.method == name
        }
        marks = []
        for cell in _by_level(task, name):
            cost = costs.get(cell.level)
            if cost is not None and cost.mean is not None and _known(cell, task):
                told = f"{other.title} {other.main} {in_full(cost)}"
                marks.append(_mark(look, cell, task, cost.mean, told))
        lines.append(Line(look, marks))
    title = f"{task.title} against {other.title}"
    return plot(title, _axis(other, other.title), _axis(task), lines)


def _axis(task: Task, title: str = "") -> str:
    less = " (less is better)" if task.sign(task.main) < 0 else ""
    return f"change of {title} {task.main}{less}".replace("  ", " ")


def _of(fit: Fit, looks: Mapping[str, Look]) -> dict[str, Look]:
    names = {method.name for method in fit.methods}
    return {name: look for name, look in looks.items() if name in names}


def _by_level(task: Task, name: str) -> list[Cell]:
    cells = [cell for cell in task.cells if cell.method == name]
    return sorted(cells, key=lambda cell: cell.level or 0.0)


def _known(cell: Cell, task: Task) -> bool:
    return cell.change.get(task.main, Change()).mean is not None


def _mark(look: Look, cell: Cell, task: Task, x: float, told: str) -> Mark:
    change = cell.change[task.main]
    mean = change.mean or 0.0  # known, see above
    level = "at its own damage" if cell.level is None else f"level {shown(cell.level, 'g')}"
    tip = f"{look.label}, {level}\n{task.main} {in_full(change)}\n{told}"
    return Mark(x, mean, _or(change.low, mean), _or(change.high, mean), tip, level_tag(cell.level))


def _or(value: Number, default: float) -> float:
    return default if value is None else value
