"""Where tables go: a file each in `benchmarks/results`, and what matters most into the README."""

from __future__ import annotations

import platform
import shlex
import sys
from pathlib import Path

import torch
import transformers

from grains._version import __version__
from grains.storage import write_atomically

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
END = "<!-- results:end -->"


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def publish(name: str, title: str, body: str, short: str | None = None) -> None:
    """Print a section, write it to its file, and put all sections into the README.

    Args:
        name: of the benchmark's module.
        title: of the section.
        body: Markdown.
        short: what the README shows of it, with a link to the rest; all of it if not given.
    """
    made = (
        f"grains {__version__}, torch {torch.__version__.partition('+')[0]}, transformers "
        f"{transformers.__version__}, Python {platform.python_version()}; "
        f"made by `{shlex.join(['python', '-m', f'benchmarks.{name}', *sys.argv[1:]])}`"
    )
    page = f"### {title}\n\n{body}\n\n<sub>{made}</sub>\n"
    print(page)
    beside = page.replace("(benchmarks/results/", "(")  # pictures lie in the same folder
    write_atomically(RESULTS / f"{name}.md", beside.encode(), overwrite=True)
    if short is not None:
        link = f"[All figures](benchmarks/results/{name}.md)"
        page = f"### {title}\n\n{short}\n\n{link}. <sub>{made}</sub>\n"
    readme = ROOT / "README.md"
    write_atomically(readme, _with_section(readme.read_text(), name, page).encode(), overwrite=True)


def _with_section(text: str, name: str, section: str) -> str:
    """Return the README with a benchmark's section in place of its former one, or behind all."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    whole = f"{start}\n{section}\n{end}"
    if start in text:
        before, _, rest = text.partition(start)
        return before + whole + rest.partition(end)[2]
    before, marker, after = text.partition(END)
    return f"{before}{whole}\n{marker}{after}"
