"""Answers side by side: columns in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text


def show_answers(prompt: str, answers: Mapping[str, str]) -> None:
    """Print what a prompt was answered.

    Args:
        prompt: the prompt.
        answers: how the model was run, such as `unsteered`, to what it said then.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.print(prompt)
        for heading, answer in answers.items():
            console.print(f"  {heading}: {' '.join(answer.split())}")
        return
    table = Table(title=Text(prompt), title_justify="left", expand=True)
    for heading in answers:
        table.add_column(heading, ratio=1)
    table.add_row(*map(Text, answers.values()))
    console.print(table, soft_wrap=False)
