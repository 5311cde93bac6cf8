"""How numbers are written; one that is not known is a dash, never a zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from grains.report.record import Change, Number

MISSING = "\u2013"

SIGNIFICANT = 0.05


def shown(value: Number, form: str = ".3f") -> str:
    r"""Return a number as text.

    >>> shown(0.25), shown(-1, "+.1f"), shown(None) == "\u2013", shown(1234.5), shown(-1e-9)
    ('0.250', '-1.0', True, '1234', '0.000')
    """
    if value is None:
        return MISSING
    if form.endswith("f") and abs(value) >= 1000:
        form = form.replace(form.lstrip("+"), ".4g")
    text = format(value, form)
    return text if float(text) else text.replace("-", "+" if form.startswith("+") else "")


def significant(change: Change | None) -> bool:
    """Return whether a change is told from none at p < .05; one without a p-value is not."""
    return change is not None and change.p_value is not None and change.p_value < SIGNIFICANT


def number_or_dash(value: int | None) -> str:
    """Return a whole number as text."""
    return MISSING if value is None else str(value)


def shown_p(value: Number) -> str:
    """Return a p-value as text.

    >>> shown_p(0.0004), shown_p(0.04)
    ('<.001', '.040')
    """
    if value is None:
        return MISSING
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def shown_change(change: Change | None) -> str:
    """Return a change with its interval.

    >>> shown_change(Change(mean=0.5, low=0.25, high=0.75))
    '+0.500 [+0.250, +0.750]'
    """
    if change is None or change.mean is None:
        return MISSING
    low, high = shown(change.low, "+.3f"), shown(change.high, "+.3f")
    return f"{shown(change.mean, '+.3f')} [{low}, {high}]"


def briefly(change: Change) -> str:
    """Return a change with its p-value, for a sentence.

    >>> briefly(Change(mean=0.5, low=0.25, high=0.75, p_value=0.0001))
    '+0.500 (p<.001)'
    """
    p = shown_p(change.p_value)
    p = p if p.startswith("<") else f"={p}"
    return f"{shown(change.mean, '+.3f')} (p{p})"


def in_full(change: Change) -> str:
    """Return a change with its interval and p-value, for a sentence.

    >>> in_full(Change(mean=0.5, low=0.25, high=0.75, p_value=0.01))
    '+0.500 [+0.250, +0.750] (p=.010)'
    """
    interval = shown_change(change).removeprefix(shown(change.mean, "+.3f"))
    return briefly(change).replace(" (", f"{interval} (", 1)


def listed(parts: Iterable[str]) -> str:
    """Return parts as a sentence lists them.

    >>> listed("a"), listed("ab"), listed("abc")
    ('a', 'a and b', 'a, b and c')
    """
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def plain_value(value: Any) -> str:
    """Return a setting as text; a long list as how long it is."""
    if value is None:
        return MISSING
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)} of them"
    if isinstance(value, list):
        return ", ".join(map(plain_value, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain_value(one)}" for name, one in value.items())
    if isinstance(value, float):
        return format(value, "g")
    return str(value)
