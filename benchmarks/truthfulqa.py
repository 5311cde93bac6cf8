"""Effect at equal damage on TruthfulQA binary: GrAInS, its rivals and its controls.

    python -m benchmarks.truthfulqa

Fits every method on the same pairs, brings each to the same perplexity ratios on neutral text, and
scores other pairs. Layers are chosen on a third set of pairs. Each scored cell is stored under
`out/truthfulqa` as it ends, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from benchmarks import publish as publishing
from grains.arms import Arm
from grains.artifact import SteeringVector
from grains.attributors import ATTRIBUTORS, IntegratedGradients, RandomAttributor
from grains.choice import curve_of
from grains.damage import Damage, DamageCurve, NeutralText
from grains.data import PairBatch, SteeringDataModule
from grains.data.neutral import neutral_texts
from grains.directions import DIRECTION_FINDERS
from grains.fitting import Fit
from grains.injectors import INJECTORS
from grains.layers import parse_layers, show_layers
from grains.maskers import RandomMasker, TopK
from grains.metrics import Interval
from grains.models import SteerableModel
from grains.scoring import Outcome, PairScores, margin, score_pairs
from grains.sources import Answers, Gradient, Masked
from grains.storage import load_record, save_record

RATIOS = (1.05, 1.10, 1.25, 1.50)
SHOWN = 1.10  # in the README
LAYERS = ("8-19", "12-14")
CACHE = Path("out/truthfulqa")

Row = tuple[str, Outcome]
"""Layers, and what a method did with them."""
Steering = tuple[SteeringVector, Damage]


def methods(steps: int) -> Iterator[Arm]:
    """Yield every method: rivals and controls first, then each attributor x direction finder."""
    finders = {name: DIRECTION_FINDERS.build(name) for name in DIRECTION_FINDERS.names()}
    mean = finders["mean_difference"]
    yield Arm(name="CAA", source=Answers(), finder=mean)
    yield Arm(name="objective gradient", source=Gradient(), finder=mean)
    masks = Masked(attributor=RandomAttributor(), masker=RandomMasker(k=4))
    yield Arm(name="random-k masks", source=masks, finder=mean)
    # Fixed steps, since the adaptive default takes several times as many; `benchmarks.completeness`
    # shows what gaps that leaves.
    fixed = {"integrated_gradients": IntegratedGradients(steps=steps, tolerance=None)}
    for attributor in ATTRIBUTORS.names():
        built = fixed.get(attributor) or ATTRIBUTORS.build(attributor)
        source = Masked(attributor=built, masker=TopK(k=4))
        for finder, found_by in finders.items():
            yield Arm(name=f"GrAInS {attributor} / {finder}", source=source, finder=found_by)


def by_length(batches: Iterable[PairBatch], size: int) -> list[PairBatch]:
    """Return the same pairs in batches of like length, so that little is padded."""
    pairs = [(i, p) for batch in batches for i, p in zip(batch.index, batch.pairs, strict=True)]
    pairs.sort(key=lambda item: len(item[1].prompt) + len(item[1].chosen))
    parts = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    return [
        PairBatch(index=torch.stack([i for i, _ in part]), pairs=tuple(p for _, p in part))
        for part in parts
    ]


class Cells:
    """Scores pairs under a vector, and remembers what it has scored."""

    def __init__(self, model: SteerableModel) -> None:
        self.model = model

    def scores(self, vector: SteeringVector | None, part: Sequence[PairBatch]) -> Tensor:
        """Return `[pairs, 4]` as `score_pairs` gives them, in data order."""
        path = CACHE / f"{self._key(vector, part)}.safetensors"
        if path.exists():
            return load_record(path)[1]["scores"]
        collected = PairScores()
        for batch in tqdm(part, leave=False):
            if vector is None:
                found = score_pairs(self.model, batch.pairs)
            else:
                with vector.applied_to(self.model):
                    found = score_pairs(self.model, batch.pairs)
            collected.update(batch.index, found.float())
        scores = collected.compute()
        save_record(path, {"scores": scores}, {})
        return scores

    def _key(self, vector: SteeringVector | None, part: Sequence[PairBatch]) -> str:
        digest = hashlib.sha256(json.dumps(self.model.fingerprint).encode())
        digest.update(str(self.model.dtype).encode())
        digest.update(json.dumps([pair.id for batch in part for pair in batch.pairs]).encode())
        if vector is not None:
            tensors, record = vector.to_record()
            digest.update(json.dumps({**record, "card": {}}).encode())
            digest.update(b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors)))
        return digest.hexdigest()[:24]


def at_ratio(vector: SteeringVector, curve: DamageCurve, ratio: float) -> Steering:
    """Return the vector with the coefficient at which perplexity rises by the ratio."""

    def spent(damage: Damage) -> float:
        if not math.isfinite(damage.perplexity_ratio):
            return math.inf
        return math.log(damage.perplexity_ratio) / math.log(ratio)

    coefficient = curve.solve(spent)
    return dataclasses.replace(vector, coefficient=coefficient), curve.at(coefficient)


def compare(args: argparse.Namespace) -> dict[float, list[Row]]:
    """Fit every method, and score each at each perplexity ratio."""
    model = SteerableModel.load("smollm2-135m-instruct", dtype=args.dtype)
    fit_pairs, val_pairs, test_pairs = args.pairs
    data = SteeringDataModule("truthfulqa", fit=fit_pairs, val=val_pairs, test=test_pairs)
    val_part = by_length(data.val_dataloader(), 32)
    test_part = by_length(data.test_dataloader(), 32)
    arms = [
        arm
        for arm in methods(args.steps)
        if not args.only or any(text in arm.name for text in args.only)
    ]
    layer_sets = [parse_layers(layers, len(model.blocks)) for layers in LAYERS]
    injector = INJECTORS.build("normalized")
    fit = Fit(model, arms, ["random_direction"], layer_sets, injector, "all", seed=0)
    for batch in tqdm(by_length(data.train_dataloader(), 4), desc=f"Rows of {len(arms)} methods"):
        fit.add(batch)
    fit.find()

    text, cells = NeutralText(model, neutral_texts()), Cells(model)
    unsteered = cells.scores(None, test_part)
    rows: dict[float, list[Row]] = {ratio: [] for ratio in args.ratios}
    for name in tqdm(["random_direction", *(arm.name for arm in arms)], desc="Methods"):
        vectors = {layers: fit.vector(name, layers) for layers in layer_sets}
        curves = {layers: curve_of(vector, text) for layers, vector in vectors.items()}
        on_val = {
            layers: margin(
                cells.scores(at_ratio(vectors[layers], curves[layers], 1.10)[0], val_part), "mean"
            )
            for layers in layer_sets
        }
        chosen = max(on_val, key=lambda layers: on_val[layers])
        for ratio in args.ratios:
            vector, damage = at_ratio(vectors[chosen], curves[chosen], ratio)
            scores = cells.scores(vector, test_part)
            outcome = Outcome.compare(
                name, unsteered, scores, coefficient=vector.coefficient, damage=damage
            )
            rows[ratio].append((show_layers(chosen), outcome))
            tqdm.write(f"ratio {ratio}, {name}: margin {outcome.margin.change}")
    return rows


def section(rows: dict[float, list[Row]], args: argparse.Namespace) -> tuple[str, str]:
    """Write all tables, and the one for the README; say which direction gives most for least."""
    fit, val, test = args.pairs
    parts = [
        f"SmolLM2-135M-Instruct in {args.dtype}, `Q: ...\\nA:` prompts, {fit} pairs to fit, {val} "
        f"to choose the layers ({' or '.join(LAYERS)}), {test} others to test; normalized "
        "injection at all positions; the coefficient is solved for so that perplexity on neutral "
        "text rises by the given ratio. Change against unsteered with its 95 % paired-bootstrap "
        "interval; p of a sign-flip test of the margin. Margin in nats a token."
    ]
    short = list(parts)
    for ratio, found in rows.items():
        found = sorted(found, key=lambda row: -row[1].margin.change.mean)
        lines = [
            [
                outcome.name,
                layers,
                f"{outcome.coefficient:.4f}",
                f"{outcome.damage.perplexity_ratio:.3f}",
                f"{outcome.damage.kl:.3f}",
                f"{outcome.accuracy_mean.value:.3f} ({_interval(outcome.accuracy_mean.change)})",
                f"{_interval(outcome.margin.change)}",
                f"{outcome.margin.change.p_value:.1g}",
            ]
            for layers, outcome in found
        ]
        headings = ["method", "layers", "c", "ratio", "KL", "accuracy", "margin shift", "p"]
        best = found[0][1]
        table = [
            f"**Perplexity ratio {ratio:.2f}.** Most for this damage: {best.name}.",
            publishing.table(headings, lines),
        ]
        parts += table
        if ratio == SHOWN or len(rows) == 1:
            short += table
    return "\n\n".join(parts), "\n\n".join(short)


def _interval(change: Interval) -> str:
    return f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"


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
    rows = compare(args)
    title = "TruthfulQA binary at equal damage"
    publishing.publish("truthfulqa", title, *section(rows, args))


if __name__ == "__main__":
    main()
