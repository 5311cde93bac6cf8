"""Where tables go: a file each in `benchmarks/results`, and all of them into the README."""

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
START, END = "<!-- results:start -->", "<!-- results:end -->"


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def publish(name: str, title: str, body: str) -> None:
    """Print a section, write it to its file, and put all sections into the README."""
    made = (
        f"grains {__version__}, torch {torch.__version__.partition('+')[0]}, transformers "
        f"{transformers.__version__}, Python {platform.python_version()}; "
        f"made by `{shlex.join(['python', '-m', f'benchmarks.{name}', *sys.argv[1:]])}`"
    )
    section = f"### {title}\n\n{body}\n\n<sub>{made}</sub>\n"
    print(section)
    write_atomically(RESULTS / f"{name}.md", section.encode(), overwrite=True)
    sections = "\n".join(path.read_text() for path in sorted(RESULTS.glob("*.md")))
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(START)
    _, _, after = rest.partition(END)
    text = f"{before}{START}\n\n{sections}\n{END}{after}"
    write_atomically(readme, text.encode(), overwrite=True)
