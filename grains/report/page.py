"""A document as one HTML page that holds everything it shows and loads nothing.

Its content policy forbids loading, and any script but its own. Without scripts all of it is there:
every level, metric and answer, one below the other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from grains.pictures.colours import AGAINST, FOR
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
    Span,
    Table,
    Tags,
    Text,
    Tokens,
)
from grains.report.looks import ROLES
from grains.report.plots import swatch
from grains.report.script import SCRIPT
from grains.report.style import STYLE
from grains.report.tokens import token_map

_OPAQUE = 0.7  # at the most, so that the text is read on it
_CI_WIDTH, _CI_HEIGHT = 96, 14


def html_page(document: Document) -> str:
    """Return the page."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in document.facts)
    parts = enumerate(document.blocks)
    body = "\n".join(f'<div id="part-{place}">{_block(block)}</div>' for place, block in parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        f'<header>\n<h1>{escape(document.title)}</h1>\n<ul class="facts">{facts}</ul>\n'
        f"{_contents(document.blocks)}</header>\n{_toolbar(document)}<main>\n{body}\n</main>\n"
        f'<div id="tip" role="status" hidden></div>\n<script>{SCRIPT}</script>\n</body>\n</html>\n'
    )


def _contents(blocks: Sequence[Block]) -> str:
    links = "".join(
        f'<li><a href="#part-{place}">{escape(block.title)}</a></li>'
        for place, block in enumerate(blocks)
        if isinstance(block, Section)
    )
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n'


def _measure(measure: str) -> str:
    """Return what levels are of; its unit is left out where there is little room."""
    what, comma, unit = measure.partition(",")
    return f"{escape(what)}<i>{escape(comma + unit)}</i>"


def _toolbar(document: Document) -> str:
    if not document.levels:
        return ""
    first = document.levels[len(document.levels) // 2]
    buttons = "".join(
        f'<button type="button" data-pick="{escape(level)}" data-first="{int(level == first)}" '
        f'aria-pressed="false">{escape(level)}</button>'
        for level in document.levels
    )
    metrics = "".join(
        f'<option value="={escape(x)}">{escape(x)}</option>' for x in document.metrics
    )
    return (
        '<div class="toolbar scripted" hidden>\n<div role="group" aria-label="Level of damage">'
        f'<span>{_measure(document.measure)}</span> {buttons}<button type="button" data-pick="" '
        'aria-pressed="true">all</button></div>\n<label>metric <select id="metric">'
        f'<option value="main">main of each task</option><option value="">all</option>{metrics}'
        "</select></label>\n</div>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Section():
            return _section(block)
        case Table():
            return _table(block)
        case Text():
            kind = ' class="faint"' if block.faint else ""
            return f"<p{kind}>{escape(block.text)}</p>"
        case Points():
            items = (f"<li><b>{escape(a)}</b> {escape(b)}</li>" for a, b in block.items)
            return f'<ul class="points">{"".join(items)}</ul>'
        case Code():
            button = '<button type="button" class="copy scripted" hidden>Copy</button>'
            return (
                f'<div class="code">{button if block.copy else ""}'
                f"<pre><code>{escape(block.text)}</code></pre></div>"
            )
        case Plots():
            return f'{_legend(block.legend)}<div class="plots">{"".join(block.drawings)}</div>'
        case Tokens():
            return f'<div class="credits">{token_map(block.credits, block.place)}</div>'
        case Answers():
            return _answers(block)
        case Picker():
            options = "".join(
                f'<option value="{look.number}"{" selected" if look == block.first else ""}>'
                f"{escape(look.label)}</option>"
                for look in block.methods
            )
            return (
                '<p class="scripted" hidden><label>beside the unsteered: <select class="picker">'
                f'<option value="">all</option>{options}</select></label></p>'
            )


def _section(section: Section) -> str:
    tag, inside = f"h{section.depth}", "\n".join(map(_block, section.blocks))
    if not section.title:
        return f'<div class="beside">{inside}</div>'
    title = escape(section.title)
    if section.folded:
        head = f"<summary><{tag}>{title}</{tag}></summary>"
        return f"<details{_data(section.tags)}>{head}\n{inside}</details>"
    return f"<section{_data(section.tags)}><{tag}>{title}</{tag}>\n{inside}</section>"


def _data(tags: Tags) -> str:
    return "".join(f' data-{name}="{escape(value)}"' for name, value in tags.items())


def _table(table: Table) -> str:
    heads = []
    for place, name in enumerate(table.columns):
        kind = "" if place < table.texts else ' class="number"'
        shown = escape(name)
        if table.sortable:
            shown = f'<button type="button">{shown}</button>'
        heads.append(f'<th scope="col"{kind}>{shown}</th>')
    pinned = "".join(_row(row, table) for row in table.pinned)
    pinned = f'<tbody class="pinned">{pinned}</tbody>' if pinned else ""
    head = f"<thead><tr>{''.join(heads)}</tr></thead>" if any(table.columns) else ""
    kind = "sortable" if table.sortable else "fixed"
    rows = "\n".join(_row(row, table) for row in table.rows)
    note = f'<p class="note">{escape(table.caption)}</p>' if table.caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table class="{kind}">'
        f"{head}{pinned}<tbody>{rows}</tbody></table></div>{note}"
    )


def _row(row: Row, table: Table) -> str:
    cells = "".join(_entry(one, place, table) for place, one in enumerate(row.entries))
    return f"<tr{_data(row.tags)}>{cells}</tr>"


def _entry(entry: Entry, place: int, table: Table) -> str:
    kinds = [entry.weight] if entry.weight else []
    if place >= table.texts:
        kinds.append("number")
    if entry.span is not None:
        kinds.append("spanned")
    given = f' class="{" ".join(kinds)}"' if kinds else ""
    if entry.value is not None:
        given += f' data-value="{float(entry.value)!r}"'
    if entry.share is not None:
        given += f' style="background:{_colour(entry.share)}"'
    if entry.tip:
        given += f' title="{escape(entry.tip)}"'
    text = escape(entry.text)
    if entry.look is not None:
        text = f"{_named(entry.look)}"
    if entry.span is not None:
        text = f"{_drawn(entry.span)}<span>{text}</span>"
    tag, scope = ("th", ' scope="row"') if place == 0 else ("td", "")
    return f"<{tag}{scope}{given}>{text}</{tag}>"


def _named(look: Look) -> str:
    role = f' <span class="role {look.role}">{look.role}</span>' if look.role in ROLES else ""
    return f'<span class="method">{swatch(look)}{escape(look.label)}{role}</span>'


def _drawn(span: Span) -> str:
    """Return an interval as a whisker on the scale of its column, with a line at 0."""
    width = (span.end - span.start) or 1.0

    def at(value: float) -> float:
        return round(4 + (value - span.start) / width * (_CI_WIDTH - 8), 1)

    least, most = sorted((span.sign * span.low, span.sign * span.high))
    side = "better" if least > 0 else "worse" if most < 0 else "none"
    middle = _CI_HEIGHT / 2
    return (
        f'<svg class="ci {side}" viewBox="0 0 {_CI_WIDTH} {_CI_HEIGHT}" aria-hidden="true">'
        f'<path class="zero" d="M{at(0)} 0V{_CI_HEIGHT}"/>'
        f'<path d="M{at(span.low)} {middle}H{at(span.high)}"/>'
        f'<circle cx="{at(span.mean)}" cy="{middle}" r="3"/></svg>'
    )


def _colour(share: float) -> str:
    red, green, blue = FOR if share > 0 else AGAINST
    return f"rgba({red},{green},{blue},{_OPAQUE * min(1.0, abs(share)):.3f})"


def _legend(looks: Sequence[Look]) -> str:
    buttons = "".join(
        f'<button type="button" data-toggle="{look.number}" aria-pressed="true">'
        f"{swatch(look)}{escape(look.label)}</button>"
        for look in looks
    )
    return f'<div class="legend" role="group" aria-label="Methods">{buttons}</div>' if looks else ""


def _answers(block: Answers) -> str:
    parts = "".join(
        f'<div class="answer" data-who="{"" if look is None else look.number}"><h4>'
        f"{escape(who) if look is None else _named(look)}</h4><p>{escape(text)}</p></div>"
        for who, look, text in block.answers
    )
    note = f' <span class="faint">{escape(block.note)}</span>' if block.note else ""
    return (
        f'<div class="asked"><p class="prompt">{escape(block.prompt)}{note}</p>'
        f'<div class="answers">{parts}</div></div>'
    )
