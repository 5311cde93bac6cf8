"""How a record came about: data, settings, methods, certificates, and the command for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from grains.report.blocks import Block, Code, Entry, Look, Row, Section, Table
from grains.report.looks import method_entry
from grains.report.numbers import MISSING, plain_value, shown
from grains.report.record import Certificate, Comparison, Fit, Head, Method, Number, Sweep


def making_section(record: Comparison | Sweep) -> Section:
    """Return what it takes to make the record again."""
    blocks: list[Block] = []
    if record.command:
        blocks.append(Code(text=record.command, language="sh", copy=True))
    blocks.append(facts_table(_identity(record)))
    if record.settings:
        text = yaml.safe_dump(dict(record.settings), sort_keys=False, allow_unicode=True)
        code = Code(text=text, language="yaml", copy=True)
        blocks.append(Section(title="Settings", blocks=(code,), depth=3, folded=True))
    return Section(title="How to make it again", blocks=tuple(blocks))


def facts_table(facts: Mapping[str, Any]) -> Table:
    """Return names and values, those within others after a dot."""
    rows = (Row(entries=(Entry(text=name), Entry(text=text))) for name, text in _flat(facts))
    return Table(columns=("", ""), rows=tuple(rows), texts=2, sortable=False)


def methods_sections(fit: Fit, looks: Mapping[str, Look]) -> Iterator[Section]:
    """Yield how each method was fitted, and how far its directions are to be trusted."""
    if any(method.candidates for method in fit.methods):
        yield Section(title="Candidates", blocks=(_candidates(fit, looks),))
    ordered = sorted(fit.methods, key=lambda method: looks[method.name].number)
    rows = [row for one in ordered for row in _certified(one, looks[one.name])]
    if rows:
        folded = len(rows) > 12
        table = certificates_table(rows, "method")
        yield Section(title="Certificates", blocks=(table,), folded=folded)
    yield Section(title="Methods", blocks=(_methods(ordered, looks),), folded=True)


def certificates_table(rows: list[Row], heading: str) -> Table:
    """Return the table of certificates."""
    return Table(
        columns=(heading, "layer", "explained", "split-half", "to mean difference", "stable"),
        rows=tuple(rows),
        caption="Explained: share of the differences' energy along the direction. Split-half: "
        "cosine between the directions of two halves of the pairs. Stable: its sign holds in "
        "every split, beyond chance.",
    )


def certificate_row(first: Entry, layer: str, one: Certificate) -> Row:
    """Return the row of a layer's certificate."""
    stable = {True: "yes", False: "no", None: MISSING}[one.stable]
    return Row(
        entries=(
            first,
            Entry(text=layer, value=float(layer) if layer.isdigit() else None),
            *(
                Entry(text=shown(value, form), value=value)
                for value, form in (
                    (one.explained, ".3f"),
                    (one.split_half, "+.3f"),
                    (one.to_mean_difference, "+.3f"),
                )
            ),
            Entry(
                text=stable,
                value=one.stable,
                weight="warn" if one.stable is False else "",
            ),
        )
    )


def share_within(value: Number, values: list[float]) -> Number:
    """Return where a value stands between the least (0) and the largest (1).

    >>> share_within(2, [1, 3]), share_within(1, [1]), share_within(None, [1])
    (0.5, 0.0, None)
    """
    if value is None:
        return None
    low, high = min(values), max(values)
    return (value - low) / (high - low) if high > low else 0.0


def _certified(method: Method, look: Look) -> Iterator[Row]:
    for layer, one in method.certificates.items():
        yield certificate_row(method_entry(look), layer, one)


def _candidates(fit: Fit, looks: Mapping[str, Look]) -> Table:
    """Return the map of layers and methods, with the coefficient that each was brought to."""
    offering = sorted(
        (one for one in fit.methods if one.candidates), key=lambda one: looks[one.name].number
    )
    labels = list(dict.fromkeys(one.label for method in offering for one in method.candidates))
    margins = [
        one.val_margin
        for method in offering
        for one in method.candidates
        if one.val_margin is not None
    ]
    rows = []
    for label in labels:
        entries = [Entry(text=label)]
        for method in offering:
            one = next((one for one in method.candidates if one.label == label), None)
            if one is None:
                entries.append(Entry(text=MISSING))
                continue
            chosen = label == method.chosen
            coefficient = f"c {shown(one.coefficient, '.3g')}"
            entries.append(
                Entry(
                    text=f"{shown(one.val_margin, '+.3f')} at {coefficient}",
                    value=one.val_margin,
                    share=share_within(one.val_margin, margins),
                    weight="chosen" if chosen else "",
                    tip=f"{coefficient}, KL {shown(one.kl, '.3g')}" + ", chosen" * chosen,
                )
            )
        rows.append(Row(entries=tuple(entries)))
    return Table(
        columns=("layers", *(looks[method.name].label for method in offering)),
        rows=tuple(rows),
        sortable=False,
        caption="Margin on validation pairs, nats a token, at the coefficient c that does the "
        "damage of the choice; the fuller the colour, the larger. Framed and bold: chosen.",
    )


def _methods(methods: Sequence[Method], looks: Mapping[str, Look]) -> Table:
    """Return what each method is; what training took has a column where something was trained."""
    budget = ("budget",) if any(method.budget for method in methods) else ()
    columns = ("method", "role", "what it does", "settings", "chosen", *budget, "fit, s")
    return Table(
        columns=columns,
        rows=tuple(_method(one, looks[one.name], bool(budget)) for one in methods),
        texts=len(columns) - 1,
    )


def _method(method: Method, look: Look, with_budget: bool) -> Row:
    budget = ", ".join(f"{name} {text}" for name, text in _flat(method.budget))
    settings = ", ".join(f"{name} {text}" for name, text in _flat(method.settings))
    error = f"not fitted: {method.error}" if method.error else ""
    return Row(
        entries=(
            method_entry(look),
            Entry(text=method.role),
            Entry(text=error or method.summary or MISSING, weight="warn" if error else ""),
            Entry(text=settings or MISSING),
            Entry(text=method.chosen or MISSING),
            *([Entry(text=budget or MISSING)] if with_budget else []),
            Entry(text=shown(method.seconds, ".1f"), value=method.seconds),
        )
    )


def _identity(record: Head) -> dict[str, Any]:
    return {
        "model": record.model.name,
        "fingerprint": record.model.fingerprint,
        "dtype": record.model.dtype,
        "seed": record.seed,
        "neutral text": record.neutral,
        "versions": {"grains": record.grains, **record.versions},
    }


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", plain_value(value if value != {} else [])
