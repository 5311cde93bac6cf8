"""`grains report`: a page of what a comparison or a sweep found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grains.cli.arguments import Parser
from grains.errors import GrainsError, did_you_mean

FORMS = {".html": "html", ".md": "markdown", ".json": "json"}
"""Suffix to the method of `Report` that makes such a file."""


def run(command: str, argv: Sequence[str]) -> None:
    """Run `grains report`."""
    args = _parser(command).parse_args(argv)
    out = Path(args.out) if args.out else Path(args.record).with_suffix(".html")
    if out.suffix.lower() not in FORMS:
        near = did_you_mean(out.suffix, FORMS)
        raise GrainsError(f"--out {out} has the suffix {out.suffix!r}; {near}")

    from grains.report import Report
    from grains.storage import refuse_existing, write_atomically

    refuse_existing(out, overwrite=args.overwrite)
    report = Report.load(args.record)
    text = getattr(report, FORMS[out.suffix.lower()])()
    write_atomically(out, text.encode(), overwrite=args.overwrite)
    print(f"wrote {out}")


def _parser(command: str) -> Parser:
    parser = Parser(
        prog=f"grains {command}",
        description="Make one self-contained HTML page of a record that `grains compare` or "
        "`grains sweep` wrote: a verdict in plain words, tables with intervals, effect against "
        "damage and side effects, answers, credits, certificates, and the command that makes it "
        "again. Or the same as Markdown, or the record as JSON.",
    )
    add = parser.add_argument
    add("record", metavar="RECORD.json", help="what they wrote: comparison.json or sweep.json")
    add(
        "--out",
        metavar="FILE",
        help="where to write, as .html, .md or .json; the record's name with .html if not given",
    )
    add("--overwrite", action="store_true", help="replace what is there")
    return parser
