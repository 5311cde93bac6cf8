"""A sweep as a document: what was chosen, what it did on test pairs, and the whole map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from grains.report.blocks import (
    Block,
    Document,
    Entry,
    Look,
    Plots,
    Points,
    Row,
    Section,
    Table,
    Text,
)
from grains.report.looks import ARM, looks_of, method_entry
from grains.report.making import certificate_row, certificates_table, facts_table, making_section
from grains.report.numbers import (
    in_full,
    number_or_dash,
    plain_value,
    shown,
    shown_change,
    shown_p,
    significant,
)
from grains.report.plots import Line, Mark, plot
from grains.report.record import Change, Shift, Sweep, SweepCell, Tested

UNSTEERED, STEERED = "unsteered", "steered"
COLUMNS = 10
"""Of a map: more different coefficients than that are put together, into ranges."""


def sweep_document(record: Sweep) -> Document:
    """Return the document of a sweep."""
    looks = looks_of((cell.arm, ARM, cell.arm) for cell in record.cells)
    return Document(
        title=f"Sweep: {record.model.name}",
        facts=(
            f"{len(record.cells)} cells",
            f"{len(looks)} arms",
            f"seed {number_or_dash(record.seed)}",
            f"grains {record.grains}",
        ),
        levels=(),
        metrics=(),
        blocks=tuple(_blocks(record, looks)),
    )


def _blocks(record: Sweep, looks: Mapping[str, Look]) -> Iterator[Block]:
    chosen = record.cells[record.chosen]
    yield Section(title="Verdict", blocks=(Points(items=tuple(_verdict(record, chosen))),))
    if record.test:
        yield Section(title="Test pairs", blocks=(_test_table(record.test),))
    maps = []
    for arm in looks:
        cells = [cell for cell in record.cells if cell.arm == arm]
        maps.append(Section(title=arm, blocks=(_map(cells, chosen),), depth=3))
    title = "Layers and coefficient"
    yield Section(title=title, blocks=(_READING, Section(title="", blocks=tuple(maps), depth=3)))
    legend = tuple(looks.values())
    curve = Plots(drawings=(_curve(record.cells, looks),), legend=legend)
    yield Section(title="Gain against damage", blocks=(curve,))
    table = _cell_table(record, chosen, looks)
    yield Section(title="All cells", blocks=(table,), folded=len(record.cells) > 40)
    rows = [
        certificate_row(Entry(text=chosen.arm), layer, one)
        for layer, one in record.certificates.items()
    ]
    if rows:
        table = certificates_table(rows, "arm")
        yield Section(title="Certificates of the chosen", blocks=(table,))
    yield Section(title="Data", blocks=(facts_table(record.data),), folded=True)
    yield making_section(record)


def _verdict(record: Sweep, chosen: SweepCell) -> Iterator[tuple[str, str]]:
    pairs = "" if chosen.pairs is None else f", on {chosen.pairs} validation pairs"
    yield (
        "Chosen",
        f"{chosen.arm} at layers {chosen.layers}, coefficient {chosen.coefficient:.4g}: gain "
        f"{shown(chosen.gain, '+.3f')} at KL {shown(chosen.kl, '.3g')}, perplexity ratio "
        f"{shown(chosen.perplexity_ratio)}{pairs}.",
    )
    known = [cell for cell in record.cells if cell.gain is not None]
    if known:
        most = max(known, key=lambda cell: cell.gain or 0.0)
        if most is not chosen:
            yield (
                "Most gain of all",
                f"{most.arm} at layers {most.layers}, coefficient {most.coefficient:.4g}: "
                f"{shown(most.gain, '+.3f')}, at KL {shown(most.kl, '.3g')}, perplexity ratio "
                f"{shown(most.perplexity_ratio)}.",
            )
    for one in record.test:
        change = one.margin.change
        if one.name == UNSTEERED or change is None or change.mean is None:
            continue
        lead = "On test pairs" if one.name == STEERED else "Beside it"
        told = "an effect" if significant(change) else "no effect"
        yield (
            lead,
            f"{one.name} has {told} at p < .05: it changes the margin by {in_full(change)}, at KL "
            f"{shown(one.kl, '.3g')}, perplexity ratio {shown(one.perplexity_ratio)}.",
        )
    if record.vector:
        yield "Vector", f"the choice is in {record.vector}, beside the record."
    for note in record.notes:
        yield "Note", note


def _test_table(test: Sequence[Tested]) -> Table:
    rows = []
    for one in test:
        entries = [Entry(text=one.name)]
        for shift in (one.accuracy_mean, one.accuracy_sum, one.margin):
            entries += _shift(shift)
        entries += [
            Entry(text=shown(one.kl, ".3g"), value=one.kl),
            Entry(text=shown(one.perplexity_ratio), value=one.perplexity_ratio),
            Entry(text=shown(one.coefficient, ".3g"), value=one.coefficient),
        ]
        rows.append(Row(entries=tuple(entries)))
    shifts = ("accuracy", "accuracy, summed", "margin")
    columns = [text for name in shifts for text in (name, "change [95 %]", "p")]
    return Table(
        columns=("", *columns, "KL", "ppl ratio", "coefficient"),
        rows=tuple(rows),
        caption="Means over test pairs, which neither the fit nor the choice saw, and their "
        "change against the unsteered model. Accuracy compares answers by log-probability a "
        "token, summed that of whole answers; margin in nats a token.",
    )


def _shift(shift: Shift) -> Iterator[Entry]:
    change = shift.change or Change()
    weight = "strong" if significant(change) else ""
    yield Entry(text=shown(shift.value), value=shift.value)
    yield Entry(text=shown_change(change), value=change.mean, weight=weight)
    yield Entry(text=shown_p(change.p_value), value=change.p_value, weight=weight)


_READING = Text(
    text="Gain on validation pairs; coefficients across. Orange is a gain, blue a loss, full "
    "colour the arm's largest; framed and bold: chosen.",
    faint=True,
)


def _map(cells: Sequence[SweepCell], chosen: SweepCell) -> Table:
    """Return layers down, coefficients across; where several share a place, the last to be kept."""
    columns = _columns(sorted({cell.coefficient for cell in cells}))
    layers = list(dict.fromkeys(cell.layers for cell in cells))
    scale = max((abs(cell.gain) for cell in cells if cell.gain is not None), default=0.0)
    rows = []
    for one in layers:
        entries = [Entry(text=one)]
        for low, high in columns:
            inside = [
                cell for cell in cells if cell.layers == one and low <= cell.coefficient <= high
            ]
            if not inside:
                entries.append(Entry(text=shown(None)))
                continue
            # The one that took part longest in the halving was scored on the most pairs.
            cell = max(inside, key=lambda c: (c is chosen, c.round or 0, c.gain or 0.0))
            share = cell.gain / scale if scale and cell.gain is not None else None
            entries.append(
                Entry(
                    text=shown(cell.gain, "+.3f"),
                    value=cell.gain,
                    share=share,
                    weight="chosen" if cell is chosen else "",
                    tip=_told(cell) + (", chosen" if cell is chosen else ""),
                )
            )
        rows.append(Row(entries=tuple(entries)))
    headings = (
        f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}" for low, high in columns
    )
    return Table(
        columns=("layers", *headings),
        rows=tuple(rows),
        sortable=False,
    )


def _columns(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return the least and the largest value of each column.

    >>> _columns([0.1, 0.2])
    [(0.1, 0.1), (0.2, 0.2)]
    >>> _columns(range(20))[-1]
    (18, 19)
    """
    if len(values) <= COLUMNS:
        return [(value, value) for value in values]
    size = -(-len(values) // COLUMNS)
    parts = (values[start : start + size] for start in range(0, len(values), size))
    return [(part[0], part[-1]) for part in parts]


def _curve(cells: Sequence[SweepCell], looks: Mapping[str, Look]) -> str:
    lines = []
    for arm, look in looks.items():
        marks = [
            Mark(cell.kl, cell.gain, cell.gain, cell.gain, f"{arm}\n{_told(cell)}", "")
            for cell in cells
            if cell.arm == arm and cell.kl is not None and cell.gain is not None
        ]
        lines.append(Line(look, marks, loose=True))
    across = "KL to unsteered, nats a token (log)"
    return plot("Gain on validation pairs against damage", across, "gain", lines, log_x=True)


def _told(cell: SweepCell) -> str:
    return (
        f"layers {cell.layers}, coefficient {cell.coefficient:.4g}: gain "
        f"{shown(cell.gain, '+.3f')}, KL {shown(cell.kl, '.3g')}, perplexity ratio "
        f"{shown(cell.perplexity_ratio)}, {number_or_dash(cell.pairs)} pairs"
    )


def _cell_table(record: Sweep, chosen: SweepCell, looks: Mapping[str, Look]) -> Table:
    ranked = sorted(
        record.cells, key=lambda cell: -(cell.gain if cell.gain is not None else float("-inf"))
    )
    forms = {
        "coefficient": ".4g",
        "gain": "+.3f",
        "margin": "+.3f",
        "accuracy": ".3f",
        "kl": ".3g",
        "perplexity_ratio": ".3f",
        "pairs": "d",
        "round": "d",
    }
    rows = []
    for cell in ranked:
        settings = ", ".join(f"{key} {plain_value(one)}" for key, one in cell.settings.items())
        values = [(getattr(cell, name), form) for name, form in forms.items()]
        rows.append(
            Row(
                entries=(
                    method_entry(looks[cell.arm], settings),
                    Entry(text=cell.layers, weight="chosen" if cell is chosen else ""),
                    *(Entry(text=shown(value, form), value=value) for value, form in values),
                )
            )
        )
    names = ("coefficient", "gain", "margin", "accuracy", "KL", "ppl ratio", "pairs", "round")
    unsteered = ", ".join(f"{name} {shown(one)}" for name, one in record.unsteered.items())
    return Table(
        columns=("arm", "layers", *names),
        rows=tuple(rows),
        texts=2,
        caption=f"On validation pairs; unsteered: {unsteered or shown(None)}. Framed: chosen.",
    )
