"""How likely a model finds the answers of pairs: the numbers behind accuracy and margin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from tqdm.auto import tqdm

from grains.artifact import SteeringVector
from grains.damage import Damage
from grains.data import PairBatch
from grains.metrics import Interval, Margin, PreferenceAccuracy, paired_bootstrap
from grains.models import SteerableModel, log_probs_of
from grains.types import ContrastivePair, Reduction

UNSTEERED = "unsteered"


def score_pairs(
    model: SteerableModel, pairs: Sequence[ContrastivePair]
) -> Float[Tensor, "batch 4"]:
    """Return log p of each answer: chosen and rejected summed, chosen and rejected a token."""
    both = log_probs_of(model, [(pair, pair.swapped()) for pair in pairs])
    return torch.stack([torch.cat([one.total, one.reduced("mean")]) for one in both])


class PairScores(Metric):
    """Collects the scores of pairs over batches and processes, each pair once, in data order.

    Lightning's samplers repeat pairs to even out processes; the index that each pair carries tells.
    """

    full_state_update = False
    index: list[Tensor]
    scores: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("index", default=[], dist_reduce_fx="cat")
        self.add_state("scores", default=[], dist_reduce_fx="cat")

    def update(self, index: Int[Tensor, " batch"], scores: Float[Tensor, "batch 4"]) -> None:
        """Add a batch."""
        self.index.append(index.to(self.device))
        self.scores.append(scores.to(self.device))

    def compute(self) -> Float[Tensor, "pairs 4"]:
        """Return the scores of all pairs."""
        index, scores = dim_zero_cat(self.index), dim_zero_cat(self.scores)
        ordered, where = index.sort(stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        return scores[where[first]].cpu()


def score_part(
    model: SteerableModel, part: Sequence[PairBatch], *, quiet: bool = True
) -> Float[Tensor, "pairs 4"]:
    """Return `score_pairs` of all batches in data order, under whatever steering is applied now."""
    collected = PairScores()
    for batch in tqdm(part, desc="Pairs", delay=2, leave=False, disable=quiet):
        collected.update(batch.index, score_pairs(model, batch.pairs))
    return collected.compute()


class Panel:
    """The same pairs scored under several kinds of steering, the unsteered model always first.

    Args:
        model: the frozen model.
        vectors: name to the steering.
    """

    def __init__(self, model: SteerableModel, vectors: Mapping[str, SteeringVector]) -> None:
        self._model = model
        self._vectors: dict[str, SteeringVector | None] = {UNSTEERED: None, **vectors}
        # On the model's device, where the processes of a trainer can exchange them.
        self._collected = {name: PairScores().to(model.device) for name in self._vectors}

    def score(self, batch: PairBatch) -> None:
        """Score a batch under every steering."""
        for name, vector in self._vectors.items():
            with vector.applied_to(self._model) if vector else nullcontext():
                scores = score_pairs(self._model, batch.pairs)
            self._collected[name].update(batch.index, scores)

    def scores(self) -> dict[str, Float[Tensor, "pairs 4"]]:
        """Return the scores of all pairs and processes."""
        return {name: collected.compute() for name, collected in self._collected.items()}


def accuracy(scores: Float[Tensor, "pairs 4"], reduction: Reduction) -> float:
    """Return the share of pairs whose chosen answer is the likelier one."""
    metric = PreferenceAccuracy()
    metric.update(*_sides(scores, reduction))
    return float(metric.compute())


def margin(scores: Float[Tensor, "pairs 4"], reduction: Reduction) -> float:
    """Return the mean of log p(chosen) - log p(rejected), in nats."""
    metric = Margin()
    metric.update(*_sides(scores, reduction))
    return float(metric.compute())


def _sides(scores: Tensor, reduction: Reduction) -> tuple[Tensor, Tensor]:
    first = 0 if reduction == "sum" else 2
    return scores[:, first], scores[:, first + 1]


class Shift(NamedTuple):
    """A number, unsteered and steered, and the paired-bootstrap interval of the change."""

    value: float
    change: Interval


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one kind of steering did to the test pairs, and what it cost.

    `accuracy_mean` and `margin` compare the answers by log-probability a token, `accuracy_sum` by
    that of the whole answer.
    """

    name: str
    coefficient: float
    damage: Damage
    accuracy_mean: Shift
    accuracy_sum: Shift
    margin: Shift

    @classmethod
    def compare(
        cls,
        name: str,
        before: Float[Tensor, "pairs 4"],
        after: Float[Tensor, "pairs 4"],
        *,
        coefficient: float,
        damage: Damage,
        seed: int = 0,
    ) -> Outcome:
        """Compare steered with unsteered scores of the same pairs."""

        def shift(of: str, reduction: Reduction) -> Shift:
            sides = [_sides(scores, reduction) for scores in (before, after)]
            metric = PreferenceAccuracy() if of == "accuracy" else Margin()
            values = [metric.of_pairs(chosen, rejected) for chosen, rejected in sides]
            return Shift(float(values[1].mean()), paired_bootstrap(*values, seed=seed))

        return cls(
            name=name,
            coefficient=coefficient,
            damage=damage,
            accuracy_mean=shift("accuracy", "mean"),
            accuracy_sum=shift("accuracy", "sum"),
            margin=shift("margin", "mean"),
        )

    def numbers(self) -> dict[str, float]:
        """Return everything as plain numbers, for a logger."""
        flat = {"coefficient": self.coefficient, **self.damage._asdict()}
        for key in ("accuracy_mean", "accuracy_sum", "margin"):
            shift: Shift = getattr(self, key)
            flat[key] = shift.value
            if self.name == UNSTEERED:
                continue  # the change against itself says nothing
            flat |= {f"{key}_change_{part}": x for part, x in shift.change._asdict().items()}
        return flat
