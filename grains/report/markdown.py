"""A document as Markdown: the same content in tables, for a README or a comment."""

from __future__ import annotations

import re
from collections.abc import Iterator

from grains.report.blocks import (
    Answers,
    Block,
    Code,
    Document,
    Entry,
    Picker,
    Plots,
    Points,
    Section,
    Table,
    Text,
    Tokens,
)

_STRONGEST = 8
"""So many tokens of a sequence are listed."""


def markdown(document: Document) -> str:
    """Return the document; plots are left out, since their numbers are in its tables."""
    facts = ", ".join(map(escaped, document.facts))
    parts = [f"# {escaped(document.title)}", facts]
    parts += [part for block in document.blocks for part in _block(block)]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    r"""Return a text that Markdown shows as it is, in one line.

    >>> escaped("a|b <i> *c*")
    'a\\|b &lt;i&gt; \\*c\\*'
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(text.split()))


def fenced(text: str, language: str = "") -> str:
    """Return a text that is kept as it is, behind a fence longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Section():
            yield from _section(block)
        case Table():
            yield _table(block)
            if block.caption:
                yield f"<sub>{escaped(block.caption)}</sub>"
        case Text():
            yield escaped(block.text)
        case Points():
            yield "\n".join(f"- **{escaped(lead)}** {escaped(rest)}" for lead, rest in block.items)
        case Code():
            yield fenced(block.text, block.language)
        case Tokens():
            yield _tokens(block)
        case Answers():
            note = f" ({escaped(block.note)})" if block.note else ""
            rows = [f"| {escaped(who)} | {escaped(text)} |" for who, _, text in block.answers]
            yield f"**{escaped(block.prompt)}**{note}"
            yield "\n".join(["| | answer |", "| --- | --- |", *rows])
        case Plots() | Picker():
            return


def _section(section: Section) -> Iterator[str]:
    inside = [part for block in section.blocks for part in _block(block)]
    if section.folded:
        yield f"<details><summary>{escaped(section.title)}</summary>"
        yield from inside
        yield "</details>"
    else:
        if section.title:
            yield f"{'#' * section.depth} {escaped(section.title)}"
        yield from inside


def _table(table: Table) -> str:
    ends = ["---" if place < table.texts else "---:" for place in range(len(table.columns))]
    rows = [[_entry(entry) for entry in row.entries] for row in (*table.pinned, *table.rows)]
    lines = [[escaped(name) for name in table.columns], ends, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _entry(entry: Entry) -> str:
    text = escaped(entry.text)
    if entry.look is not None and entry.look.role in ("ours", "control"):
        text += f" ({escaped(entry.look.role)})"
    return f"**{text}**" if entry.weight in ("strong", "chosen") and text else text


def _tokens(block: Tokens) -> str:
    credits = block.credits
    rows = zip(credits.tokens, credits.scores, credits.modality, strict=True)
    ranked = sorted(rows, key=lambda row: -abs(row[1]))[:_STRONGEST]
    lines = [f"| {escaped(repr(token))} | {score:+.3f} | {kind} |" for token, score, kind in ranked]
    head = f"**{block.place}. {escaped(credits.name)}** {escaped(credits.explains)}".rstrip()
    return "\n".join([head, "", "| token | credit, nats | |", "| --- | ---: | --- |", *lines])
