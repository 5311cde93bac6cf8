"""Does the integral converge? Completeness gaps and agreement of n with 2n steps.

    python -m benchmarks.completeness

Integrated gradients of log p(answer | prompt) over prompt and answer, in float32, on TruthfulQA
pairs: the default baseline, beside the zero baseline and beside nothing held.
"""

from __future__ import annotations

import argparse
import os
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from benchmarks import publish as publishing
from grains.attributors import IntegratedGradients
from grains.data import SteeringDataModule
from grains.maskers import TopK
from grains.models import SteerableModel
from grains.objectives import Objective, likelihood
from grains.types import ContrastivePair, Side


class Sequence(NamedTuple):
    """What one sequence's attribution came to."""

    name: str
    gap: float
    steps: int
    overlap: float | None


def overlap(first: Tensor, second: Tensor, k: int) -> float:
    """Return the share of the k largest scores of one that are among the k largest of the other."""
    everywhere = torch.ones_like(first, dtype=torch.bool)
    a, b = (TopK(k=k).select(scores, everywhere).positive for scores in (first, second))
    return float((a & b).sum() / a.sum().clamp(min=1))


def baseline(model: SteerableModel, objective: Objective, kind: str) -> Tensor:
    """Return where attribution starts: as by default, from zeros, or with nothing held."""
    if kind == "zeros":
        return objective.baseline(model.filler("zeros"))
    if kind == "nothing held":
        return model.filler("mean").expand_as(objective.inputs)
    return objective.baseline(model.filler("mean"))


def measure(
    model: SteerableModel,
    pairs: list[ContrastivePair],
    kind: str,
    ig: IntegratedGradients,
    k: int,
    twice: int,
) -> list[Sequence]:
    """Attribute both sides of each pair; the first pairs again with twice the nodes that it took.

    The second run begins with other nodes, twice as many, and goes on refining until all are spent.
    """
    found = []
    sides: tuple[Side, Side] = ("chosen", "rejected")
    for number, pair in enumerate(tqdm(pairs, desc=kind, leave=False)):
        for side in sides:
            objective, _ = likelihood(model, [pair], side)
            start = baseline(model, objective, kind)
            once = ig.attribute(objective.score, objective.inputs, start)
            steps = int(once.steps[0])
            shared = None
            if number < twice:
                finer = IntegratedGradients(
                    steps=2 * ig.steps, tolerance=1e-12, max_steps=2 * steps
                )
                again = finer.attribute(objective.score, objective.inputs, start)
                shared = overlap(once.scores, again.scores, k)
            found.append(Sequence(f"{pair.id} {side}", float(once.gap[0]), steps, shared))
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--beside", type=int, default=10, help="pairs of the other two rows")
    parser.add_argument("--twice", type=int, default=25, help="pairs run with twice the nodes too")
    parser.add_argument("--k", type=int, default=4)
    args = parser.parse_args()
    os.environ.setdefault("GRAINS_DATA", "../shared/data")
    model = SteerableModel.load("smollm2-135m-instruct", dtype="float32")
    data = SteeringDataModule("truthfulqa", fit=args.pairs, val=0, test=None)
    pairs = list(data.split.fit)
    some = pairs[: args.beside]
    # The other two do not converge: refining them to the default's end would only cost time.
    cut = IntegratedGradients(max_steps=48)
    rows = []
    for kind, those, ig in (
        ("default", pairs, IntegratedGradients()),
        ("zeros", some, cut),
        ("nothing held", some, cut),
    ):
        found = measure(model, those, kind, ig, args.k, args.twice)
        gaps = torch.tensor([sequence.gap for sequence in found])
        shared = [sequence.overlap for sequence in found if sequence.overlap is not None]
        worst = max(found, key=lambda sequence: sequence.gap)
        rows.append(
            [
                kind,
                f"{len(those)}",
                f"{ig.max_steps}",
                f"{float(gaps.median()):.2%}",
                f"{float((gaps <= 0.05).float().mean()):.1%}",
                f"{worst.gap:.1%} ({worst.name}, {worst.steps} steps)",
                f"{sum(s.steps for s in found) / len(found):.0f}",
                f"{sum(shared) / len(shared):.3f} ({len(shared)} sequences)",
            ]
        )
    headings = [
        "baseline", "pairs", "at most", "median gap", "gap <= 5 %", "worst", "mean nodes",
        f"top-{args.k}, n and 2n",
    ]  # fmt: skip
    body = (
        "Both answers of each pair, prompt and answer credited, float32, midpoint rule refined "
        "from 16 nodes to a gap of 1 %, or until as many nodes are spent as the third column says. "
        "Default: mean embedding, position 0 and template held. Last column: share of the "
        f"{args.k} most positive tokens that twice the nodes, other ones, pick as well.\n\n"
        + publishing.table(headings, rows)
    )
    publishing.publish("completeness", "Completeness of integrated gradients", body)


if __name__ == "__main__":
    main()
