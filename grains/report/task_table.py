"""One task under every method, level and metric, with what each costs beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from grains.report.blocks import OWN, Entry, Look, Row, Span, Table
from grains.report.looks import method_entry
from grains.report.numbers import shown, shown_change, shown_p, significant
from grains.report.record import Cell, Change, Fit, Number, Point, Task
from grains.report.verdict import references


def task_table(fit: Fit, task: Task, looks: Mapping[str, Look]) -> Table:
    """Return the table: by metric, the main one first; by level; the best first."""
    others = [name for name in references(fit) if name in looks]
    over = [text for name in others for text in (f"over {looks[name].label} [95 %]", "p ")]
    metrics = sorted(task.unsteered, key=lambda metric: metric != task.main)
    return Table(
        columns=(
            *("method", "metric", "level", "steered", "change [95 %]", "p"),
            *over,
            *("KL", "ppl ratio", "coefficient"),
        ),
        rows=tuple(row for metric in metrics for row in _rows(fit, task, metric, others, looks)),
        pinned=tuple(
            Row(
                entries=(
                    Entry(text="unsteered"),
                    Entry(text=metric),
                    Entry(text=""),
                    Entry(text=shown(task.unsteered[metric])),
                    *(Entry(text="") for _ in range(5 + 2 * len(others))),
                ),
                tags=_metric_tags(task, metric),
            )
            for metric in metrics
        ),
        texts=2,
        caption="Change: steered less unsteered, with its 95 % paired-bootstrap interval. KL in "
        "nats a token on neutral text; ppl ratio: perplexity there over the unsteered.",
    )


def level_tag(level: Number) -> str:
    """Return the tag of a level."""
    return OWN if level is None else f"{level:g}"


def _rows(
    fit: Fit, task: Task, metric: str, others: list[str], looks: Mapping[str, Look]
) -> Iterator[Row]:
    cells = [cell for cell in task.cells if metric in cell.means or metric in cell.change]
    changes = [change for cell in cells if (change := cell.change.get(metric))]
    known = [one for change in changes for one in (change.low, change.mean, change.high)]
    ends = [0.0, *(one for one in known if one is not None)]
    points = {(point.method, point.level): point for point in fit.points}
    sign = task.sign(metric)

    def rank(cell: Cell) -> tuple[float, float]:
        change = cell.change.get(metric, Change()).mean
        level = float("inf") if cell.level is None else cell.level
        return level, float("inf") if change is None else -change * sign

    for cell in sorted(cells, key=rank):
        change = cell.change.get(metric, Change())
        point = points.get((cell.method, cell.level), Point(method=cell.method))
        span = None
        if change.low is not None and change.mean is not None and change.high is not None:
            span = Span(change.low, change.mean, change.high, min(ends), max(ends), sign)
        weight = "strong" if significant(change) else ""
        level = "own" if cell.level is None else f"{cell.level:g}"
        missed = point.reached is False
        yield Row(
            entries=(
                method_entry(looks[cell.method]),
                Entry(text=metric),
                Entry(
                    text=level + (" (not reached)" if missed else ""),
                    value=point.kl if cell.level is None else cell.level,
                    tip="a method without strength, at its own damage" if level == "own" else "",
                ),
                _plain(cell.means.get(metric)),
                Entry(text=shown_change(change), value=change.mean, span=span, weight=weight),
                Entry(text=shown_p(change.p_value), value=change.p_value, weight=weight),
                *(entry for name in others for entry in _over(cell, name, metric)),
                _plain(point.kl, ".3g"),
                _plain(point.perplexity_ratio),
                _plain(point.coefficient, ".3g"),
            ),
            tags={
                "level": level_tag(cell.level),
                "method": str(looks[cell.method].number),
                **_metric_tags(task, metric),
            },
        )


def _over(cell: Cell, other: str, metric: str) -> tuple[Entry, Entry]:
    change = cell.against.get(other, {}).get(metric, Change())
    weight = "strong" if significant(change) else ""
    return (
        Entry(text=shown_change(change), value=change.mean, weight=weight),
        Entry(text=shown_p(change.p_value), value=change.p_value, weight=weight),
    )


def _plain(value: Number, form: str = ".3f") -> Entry:
    return Entry(text=shown(value, form), value=value)


def _metric_tags(task: Task, metric: str) -> dict[str, str]:
    return {"metric": metric, **({"main": "1"} if metric == task.main else {})}
