"""Effect at equal damage on TruthfulQA binary: GrAInS, its rivals and its controls.

    python -m benchmarks.truthfulqa

Fits every method on the same pairs, brings each to the same perplexity ratios on neutral text, and
scores other pairs. Layers are chosen on a third set of pairs. What is computed is kept under
`out/truthfulqa`: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import publish as publishing
from grains.attributors import ATTRIBUTORS
from grains.comparison import Behaviour, Plan, compare

RATIOS = (1.05, 1.10, 1.25, 1.50)
SHOWN = 1.10  # in the README
LAYERS = ("8-19", "12-14")
FINDERS = ("pca", "mean_difference", "logistic", "lda")
K = 4

Record = Mapping[str, Any]


def methods(steps: int) -> Iterator[dict[str, Any]]:
    """Yield rivals and controls first, then each attributor x direction finder."""
    mean = {"direction_finder": "mean_difference"}
    yield {"name": "caa", "label": "CAA"}
    yield {"name": "objective_gradient", "label": "objective gradient"}
    yield {"name": "random_direction", "label": "random direction"}
    masked = {"name": "masked", "attributor": "random", "masker": {"name": "top_k", "k": K}}
    yield {"name": "random_masks", "label": "random-k masks", "source": masked, **mean}
    # Fixed steps, since the adaptive default takes more; `benchmarks.completeness` shows what gaps
    # that leaves.
    fixed = {"name": "integrated_gradients", "steps": steps, "tolerance": None}
    for name in ATTRIBUTORS.names():
        if name == "random":  # that is the control above
            continue
        attributor = fixed if name == "integrated_gradients" else name
        for finder in FINDERS:
            yield {
                "name": "grains",
                "label": f"GrAInS {name} / {finder}",
                "source": {**masked, "attributor": attributor},
                "direction_finder": finder,
            }


def section(record: Record, ratios: list[float]) -> tuple[str, str]:
    """Write all tables, and the one for the README; say which direction gives most for least."""
    (fit,) = record["fits"]
    (task,) = fit["tasks"]
    sizes, plan = fit["data"]["split"]["sizes"], record["settings"]
    parts = [
        f"SmolLM2-135M-Instruct in {plan['dtype']}, `Q: ...\\nA:` prompts, {sizes['fit']} pairs to "
        f"fit, {sizes['val']} to choose the layers ({' or '.join(plan['layers'])}), "
        f"{task['items']} others to test; normalized injection at all positions; the coefficient "
        "is solved for so that perplexity on neutral text rises by the given ratio. Change against "
        "unsteered with its 95 % paired-bootstrap interval; p of a sign-flip test of the margin. "
        f"Margin in nats a token. Unsteered: accuracy {task['unsteered']['accuracy']:.3f}, margin "
        f"{task['unsteered']['margin']:+.3f}."
    ]
    short = list(parts)
    for ratio in ratios:
        found = _table(fit, task, ratio)
        parts.append(found)
        if ratio == SHOWN or len(ratios) == 1:
            short.append(found)
    return "\n\n".join(parts), "\n\n".join(short)


def _table(fit: Record, task: Record, ratio: float) -> str:
    layers = {method["name"]: method["chosen"] for method in fit["methods"]}
    points = {one["method"]: one for one in fit["points"] if one["level"] == ratio}
    cells = [cell for cell in task["cells"] if cell["level"] == ratio]
    cells.sort(key=lambda cell: -cell["change"]["margin"]["mean"])
    lines = [
        [
            cell["method"],
            layers[cell["method"]],
            f"{points[cell['method']]['coefficient']:.4f}",
            f"{points[cell['method']]['perplexity_ratio']:.3f}",
            f"{points[cell['method']]['kl']:.3f}",
            f"{cell['means']['accuracy']:.3f} ({_interval(cell['change']['accuracy'])})",
            _interval(cell["change"]["margin"]),
            f"{cell['change']['margin']['p_value']:.1g}",
        ]
        for cell in cells
    ]
    headings = ["method", "layers", "c", "ratio", "KL", "accuracy", "margin shift", "p"]
    return (
        f"**Perplexity ratio {ratio:.2f}.** Most for this damage: {cells[0]['method']}.\n\n"
        + publishing.table(headings, lines)
    )


def _interval(change: Record) -> str:
    return f"{change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--steps", type=int, default=16, help="of integrated gradients")
    parser.add_argument("--only", nargs="+", help="methods with one of these texts in their name")
    parser.add_argument("--pairs", type=int, nargs=3, default=[100, 100, 400])
    parser.add_argument("--ratios", type=float, nargs="+", default=list(RATIOS))
    args = parser.parse_args()
    os.environ.setdefault("GRAINS_DATA", "../shared/data")
    fit, val, test = args.pairs
    data = {"dataset": "truthfulqa", "fit": fit, "val": val, "batch_size": 4}
    plan = Plan(
        behaviours=[Behaviour(name="truthfulness", data=data, tasks=["truthfulqa_binary"])],
        methods=[
            method
            for method in methods(args.steps)
            if not args.only or any(text in method["label"] for text in args.only)
        ],
        levels=args.ratios,
        measure="perplexity_ratio",
        choose_at=SHOWN,
        layers=LAYERS,
        limit=test,
        against=["CAA", "random-k masks"],
        dtype=args.dtype,
    )
    if record := compare(plan, "out/truthfulqa", command="python -m benchmarks.truthfulqa"):
        title = "TruthfulQA binary at equal damage"
        publishing.publish("truthfulqa", title, *section(record, args.ratios))


if __name__ == "__main__":
    main()
