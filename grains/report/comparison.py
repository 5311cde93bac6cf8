"""A comparison as a document: verdict, curves, tables, answers, and how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from grains.report.blocks import (
    Answers,
    Block,
    Code,
    Document,
    Entry,
    Look,
    Picker,
    Plots,
    Points,
    Row,
    Section,
    Table,
    Text,
    Tokens,
)
from grains.report.curves import damage_curve, side_effect_curve
from grains.report.looks import looks_of, method_entry
from grains.report.making import facts_table, making_section, methods_sections
from grains.report.numbers import in_full, number_or_dash, shown, significant
from grains.report.record import Comparison, Fit, Number, Task
from grains.report.task_table import task_table
from grains.report.verdict import aside, effects, missed, verdict

UNSTEERED = "unsteered"


def comparison_document(record: Comparison) -> Document:
    """Return the document of a comparison."""
    methods = [method for fit in record.fits for method in fit.methods]
    looks = looks_of((one.name, one.role, one.title) for one in methods)
    levels = [f"{level:g}" for level in record.levels]
    metrics = [name for fit in record.fits for task in fit.tasks for name in task.unsteered]
    blocks: list[Block] = []
    for fit in record.fits:
        inside: tuple[Block, ...] = tuple(_fit(fit, record, looks))
        if len(record.fits) > 1:
            inside = (Section(title=f"Fitted on {fit.name}", blocks=inside, depth=1),)
        blocks += inside
    return Document(
        title=f"Steering compared: {record.model.name}",
        facts=(
            f"fitted on {', '.join(fit.name for fit in record.fits)}",
            f"{len(looks)} methods",
            f"{len({task.name for fit in record.fits for task in fit.tasks})} tasks",
            f"seed {number_or_dash(record.seed)}",
            f"grains {record.grains}",
        ),
        levels=tuple(levels),
        measure="KL, nats a token" if record.measure == "kl" else record.measure.replace("_", " "),
        metrics=tuple(dict.fromkeys(metrics)),
        blocks=(*blocks, making_section(record)),
    )


def _fit(fit: Fit, record: Comparison, looks: Mapping[str, Look]) -> Iterator[Block]:
    yield _verdict(fit, record, looks)
    fitted = {method.name for method in fit.methods if method.error is None}
    legend = tuple(look for name, look in looks.items() if name in fitted)
    for task in sorted(fit.tasks, key=lambda task: not task.effect):
        yield _task(fit, task, looks, legend)
    if (areas := _areas(fit, looks)) is not None:
        yield areas
    if fit.generations or fit.generated:
        yield _generations(fit, record, looks)
    if fit.credits:
        ranked = sorted(fit.credits, key=lambda one: -sum(map(abs, one.scores)))
        tokens = (Tokens(credits=one, place=place) for place, one in enumerate(ranked, start=1))
        yield Section(title="What the strongest pairs turn on", blocks=(_SIGNS, *tokens))
    yield from methods_sections(fit, looks)
    yield Section(title="Data", blocks=(facts_table(fit.data),), folded=True)


_SIGNS = Text(
    text="Signed credit of each token, in nats: orange speaks for the chosen answer, blue "
    "against; grey text is the template, which is not credited. Full colour is the strongest "
    "word of each sequence.",
    faint=True,
)


_CHANGES = Text(
    text="Changes of each task's main metric against the unsteered model, with the p-value of a "
    "sign-flip test over questions. Their intervals, of a paired bootstrap, are in the tables "
    "below. A method that was not brought to a level is compared with none there.",
    faint=True,
)


def _verdict(fit: Fit, record: Comparison, looks: Mapping[str, Look]) -> Section:
    blocks: list[Block] = [_CHANGES]
    for level in record.levels:
        said = verdict(fit, level)
        inside: list[Block] = [Points(items=tuple(said))] if said else []
        inside.append(_overview(fit, level, looks))
        title = f"At {record.at(level)}"
        tags = {"level": f"{level:g}"}
        blocks.append(Section(title=title, blocks=tuple(inside), depth=3, tags=tags))
    if said := aside(fit):
        blocks.append(Section(title="At no level", blocks=(Points(items=tuple(said)),), depth=3))
    return Section(title="Verdict", blocks=tuple(blocks))


def _overview(fit: Fit, level: float, looks: Mapping[str, Look]) -> Table:
    """Return the change of each task's main metric, a row a method, the best at the top."""
    tasks = sorted(fit.tasks, key=lambda task: not task.effect)
    shares: dict[str, list[float]] = {}
    entries: dict[str, list[Entry]] = {look: [] for look in looks}
    stands: dict[str, Number] = {}
    short = missed(fit, level)
    for task in tasks:
        every = ("ours", "rival", "control")
        here = [*effects(fit, task, level, every), *effects(fit, task, None, every)]
        scale = max((abs(one.gain) for one in here), default=0.0)
        found = {one.method.name: one for one in here}
        for method in fit.methods:
            one = found.get(method.name)
            if one is None:
                entries[method.name].append(Entry(text=shown(None)))
                continue
            share = one.gain / scale if scale else 0.0
            if task.effect:
                shares.setdefault(method.name, []).append(share)
            entries[method.name].append(
                Entry(
                    text=shown(one.change.mean, "+.3f"),
                    value=one.gain,
                    share=share,
                    weight="strong" if significant(one.change) else "faint",
                    tip=f"{task.title}, {task.main}: {in_full(one.change)}",
                )
            )
    for point in fit.points:
        if point.level in (level, None):
            stands[point.method] = point.level
            behind = " (not reached)" if point.method in short else ""
            entries[point.method] += [
                Entry(text=shown(point.kl, ".3g") + behind, value=point.kl),
                Entry(text=shown(point.perplexity_ratio), value=point.perplexity_ratio),
            ]
    rows = [
        Row(
            entries=(method_entry(looks[name]), *entries[name]),
            tags={"method": str(looks[name].number)},
        )
        for name in sorted(
            (name for name in stands if any(one.value is not None for one in entries[name])),
            key=lambda name: (name in short, -sum(shares.get(name, [0.0]))),
        )
    ]
    return Table(
        columns=("method", *(_heading(task) for task in tasks), "KL", "ppl ratio"),
        rows=tuple(rows),
        caption="Change of each task's main metric against the unsteered model; orange is better, "
        "blue is worse, full colour is the task's largest change. Bold: p < .05 (sign-flip "
        "test). KL and perplexity ratio on neutral text; methods that were not brought to the "
        "level come last.",
    )


def _heading(task: Task) -> str:
    kind = "" if task.effect else " (side effect)"
    arrow = " \u2193" if task.sign(task.main) < 0 else ""
    return f"{task.title}{kind}: {task.main}{arrow}"


def _task(fit: Fit, task: Task, looks: Mapping[str, Look], legend: tuple[Look, ...]) -> Section:
    counted = [f"{task.items} questions"] if task.items is not None else []
    if task.left_out:
        counted.append(f"{task.left_out} left out, since the fit or the choice saw them")
    less = ", of which less is better" if task.sign(task.main) < 0 else ""
    counted.append(f"main metric {task.main}{less}")
    blocks: list[Block] = [Text(text=", ".join(counted) + ".", faint=True)]
    drawings = [damage_curve(fit, task, looks)]
    if task.effect:
        others = (other for other in fit.tasks if not other.effect)
        drawings += [side_effect_curve(fit, task, other, looks) for other in others]
    blocks += [Plots(drawings=tuple(drawings), legend=legend), task_table(fit, task, looks)]
    if task.prompt is not None:
        options = "\n".join(f"  {option!r}" for option in task.options)
        asked = task.prompt + (f"\n\noptions:\n{options}" if options else "")
        blocks.append(
            Section(title="One question, in full", blocks=(Code(text=asked),), depth=3, folded=True)
        )
    kind = "" if task.effect else " (side effect)"
    return Section(title=f"{task.title}{kind}", blocks=tuple(blocks))


def _areas(fit: Fit, looks: Mapping[str, Look]) -> Section | None:
    tasks = [task for task in fit.tasks if task.area]
    if not tasks:
        return None
    rows = []
    for name in (method.name for method in fit.methods):
        found = [task.area.get(name, {}).get(task.main) for task in tasks]
        if any(area is not None for area in found):
            entries = (Entry(text=shown(area, "+.4f"), value=area) for area in found)
            rows.append(Row(entries=(method_entry(looks[name]), *entries)))
    table = Table(
        columns=("method", *(_heading(task) for task in tasks)),
        rows=tuple(rows),
        caption="Mean change times nats of KL, from 0 to the highest level, by trapezoids: one "
        "number for the whole curve.",
    )
    return Section(title="Area under effect against damage", blocks=(table,))


def _generations(fit: Fit, record: Comparison, looks: Mapping[str, Look]) -> Section:
    blocks: list[Block] = []
    if fit.generated:
        names = list(dict.fromkeys(name for one in fit.generated.values() for name in one))
        rows = [
            Row(
                entries=(
                    method_entry(looks[who]) if who in looks else Entry(text=who),
                    *(Entry(text=shown(one.get(name)), value=one.get(name)) for name in names),
                )
            )
            for who, one in fit.generated.items()
        ]
        blocks.append(
            Table(
                columns=("answers of", *(name.replace("_", " ") for name in names)),
                rows=tuple(rows),
                caption="Distinct words and pairs of words as a share of all; perplexity of the "
                "answers under the unsteered model.",
            )
        )
    answering = {who for one in fit.generations for who in one.answers} & set(looks)
    ranked = tuple(look for name, look in looks.items() if name in answering)
    if len(ranked) > 1:
        blocks.append(Picker(methods=ranked, first=ranked[0]))
    for one in fit.generations:
        order = sorted(one.answers, key=lambda who: looks[who].number if who in looks else -1)
        answers = ((_title(who, looks), looks.get(who), one.answers[who]) for who in order)
        note = "" if one.level is None else f"at {record.at(one.level)}"
        blocks.append(Answers(prompt=one.prompt, answers=tuple(answers), note=note))
    return Section(title="Answers, before and after", blocks=tuple(blocks))


def _title(who: str, looks: Mapping[str, Look]) -> str:
    return looks[who].label if who in looks else who
