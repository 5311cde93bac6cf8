"""Plain text on which nothing should change: the ground on which damage is measured."""

from __future__ import annotations

from pathlib import Path

from grains.data.rows import read_rows

_FILE = Path(__file__).parent / "packaged" / "neutral.jsonl"


def neutral_texts() -> list[str]:
    """Return short passages of many kinds, about 3000 tokens in all, written for this project.

    Encyclopaedic, instructions, dialogue, code and arithmetic; none touches what the starter pairs
    steer. KL and perplexity on them say what a direction costs.
    """
    return [row.text("text") for row in read_rows(_FILE)]
