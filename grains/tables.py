"""What a person sees in the terminal at the end of a fit and of a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from grains.choice import Cell
from grains.damage import Budget
from grains.layers import show_layers
from grains.scoring import UNSTEERED, Outcome

# No frame and one blank between columns: all numbers fit into 80 columns, also of a pipe.
_PLAIN: dict[str, Any] = {"box": None, "header_style": "underline", "padding": (0, 1, 0, 0)}


def show_choice(cells: Sequence[Cell], chosen: Cell, unsteered: float, budget: Budget) -> None:
    """Print the grid with its choice."""
    table = Table(
        title="Validation pairs",
        caption=f"margin unsteered {unsteered:+.3f} nats a token; budget: KL {budget.max_kl:g}, "
        f"perplexity ratio {budget.max_perplexity_ratio:g}; c is the coefficient",
        **_PLAIN,
    )
    for heading in ("", "arm", "layers"):
        table.add_column(heading, overflow="fold")
    for heading in ("c", "accuracy", "margin", "KL", "ppl ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in cells:
        over = budget.spent(cell.damage) > 1
        table.add_row(
            "chosen" if cell is chosen else "over budget" if over else "",
            cell.name,
            show_layers(cell.vector.layers),
            f"{cell.vector.coefficient:.4f}",
            f"{cell.accuracy:.3f}",
            f"{cell.margin:+.3f}",
            f"{cell.damage.kl:.4f}",
            f"{cell.damage.perplexity_ratio:.3f}",
            style="bold" if cell is chosen else "dim" if over else None,
        )
    Console().print(table)


def show_outcomes(
    outcomes: Sequence[Outcome], pairs: int, *, disjoint: bool, neutral: str = "text"
) -> None:
    """Print unsteered, steered and controls side by side.

    `disjoint` says that neither the fit nor the choice has seen the pairs; else it is not known.
    `neutral` is what damage was measured on: `text`, or `data` of another kind.
    """
    table = Table(
        title=f"Test: {pairs} pairs "
        + (
            "that neither the fit nor the choice saw"
            if disjoint
            else "(whether the fit or the choice saw them is not known)"
        ),
        caption="change of the margin (nats a token) with its 95 % paired-bootstrap interval; "
        f"KL and ppl (perplexity over the unsteered) on neutral {neutral}; controls are brought to "
        "the KL of the steering",
        **_PLAIN,
    )
    table.add_column("", no_wrap=True)
    for heading in ("accuracy", "margin", "change of margin", "p", "KL", "ppl"):
        table.add_column(heading, justify="right", no_wrap=True)
    for outcome in outcomes:
        change = outcome.margin.change
        unsteered = outcome.name == UNSTEERED
        table.add_row(
            outcome.name,
            f"{outcome.accuracy_mean.value:.3f}",
            f"{outcome.margin.value:+.3f}",
            "" if unsteered else f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]",
            "" if unsteered else "<.001" if change.p_value < 0.001 else f"{change.p_value:.3f}",
            f"{outcome.damage.kl:.2g}",
            f"{outcome.damage.perplexity_ratio:.3f}",
        )
    Console().print(table)
