"""One behaviour: methods fitted on its pairs, brought to equal damage, scored on its tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grains._version import __version__
from grains.cells import CellStore, Tensors, digest_of
from grains.comparison.fits import fitted
from grains.comparison.plan import Behaviour, Named, Plan
from grains.damage import Damage, DamageCurve, NeutralText
from grains.data.base import by_length, pair_sha256
from grains.errors import GrainsError
from grains.evaluation import Asked as Questions
from grains.evaluation import Scores
from grains.methods import Candidate, Material, Steering
from grains.models import SteerableModel
from grains.scoring import margin, score_part
from grains.steered import blind_to
from grains.storage import Unwritable

LARGEST = 100.0
"""Where a search for equal damage gives up: units differ, and standard deviations are small."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A candidate at the level of damage at which candidates are chosen."""

    candidate: Candidate
    coefficient: float
    damage: Damage
    margin: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """A method's chosen candidate at one level of damage; no level, where it has no strength."""

    steering: Steering
    level: float | None
    coefficient: float
    damage: Damage
    reached: bool


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What became of a method: what it offered, what was chosen, where that stands.

    Args:
        seconds: how long the fit took.
        offers: every candidate at the level at which they are compared.
        chosen: the candidate with the largest margin there, on validation pairs.
        points: where it is brought to.
        error: why there are none.
    """

    seconds: float | None
    offers: tuple[Offer, ...]
    chosen: Candidate | None
    points: tuple[Point, ...]
    error: str | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked(Questions):
    """A task with the questions that no fit and no choice has seen."""

    side_effect: bool = False


class Bench:
    """Everything about one behaviour that is computed once and kept.

    Args:
        plan: the comparison.
        behaviour: what is steered.
        text: neutral text.
        folder: where fits and cells are kept; None to keep nothing.
        quiet: without progress bars.
    """

    def __init__(
        self,
        plan: Plan,
        behaviour: Behaviour,
        text: NeutralText,
        folder: Path | None,
        *,
        quiet: bool = False,
    ) -> None:
        self.plan, self.behaviour, self.text, self.folder = plan, behaviour, text, folder
        self.model: SteerableModel = text.model
        self.quiet = quiet
        self.data = behaviour.module()
        self.store = CellStore(folder)
        self._who = {
            "grains": __version__,
            "model": self.model.fingerprint,
            "dtype": str(self.model.dtype),
            "device": self.model.device.type,
        }
        self._curves: dict[str, DamageCurve] = {}
        self._solved: dict[tuple[str, float], float] = {}
        self._standings: dict[str, Standing] = {}

    @cached_property
    def asked(self) -> list[Asked]:
        """The tasks with their questions, side effects last."""
        seen = self.data.split.record()["seen"]
        found = []
        for task, side_effect in self.plan.tasks(self.behaviour):
            asked = Asked.of(task, seen, limit=self.plan.limit, seed=self.plan.seed)
            asked.check()  # before hours of work
            found.append(replace(asked, side_effect=side_effect))
        return found

    @cached_property
    def material(self) -> Material:
        """What every method is fitted on."""
        return Material(
            model=self.model,
            batches=by_length(self.data.split.fit, self.data.batch_size),
            layer_sets=self.plan.layer_sets(len(self.model.blocks)),
            seed=self.plan.seed,
            quiet=self.quiet,
        )

    def standing(self, named: Named) -> Standing:
        """Fit a method, choose among what it offers, and bring it to every level of damage."""
        if named.name not in self._standings:
            self._standings[named.name] = self._stand(named)
        return self._standings[named.name]

    def _stand(self, named: Named) -> Standing:
        refusals, offers, points = [], [], []
        seconds, best = None, None
        try:
            found = fitted(named.method, self.material, self.folder)
            seconds = found.seconds
            for candidate in found.candidates:
                try:
                    offers.append(self._offer(candidate))
                except Unwritable:
                    raise
                except GrainsError as refusal:  # another candidate may do
                    refusals.append(str(refusal))
            best = max(offers, key=lambda offer: offer.margin, default=None)
            if best is not None:
                points = self._points(best.candidate)
        except Unwritable:
            raise
        except GrainsError as refusal:  # the other methods do not depend on it
            refusals.append(str(refusal))
        return Standing(
            seconds=seconds,
            offers=tuple(offers),
            chosen=best.candidate if best else None,
            points=tuple(points),
            error=None if points else refusals[0],
        )

    def _offer(self, candidate: Candidate) -> Offer:
        self._refuse_unseen(candidate.steering)
        coefficient = self._coefficient(candidate.steering, self.plan.choose_at)
        return Offer(
            candidate=candidate,
            coefficient=coefficient,
            damage=self._curve(candidate.steering).at(coefficient),
            margin=margin(self._pair_scores(candidate.steering, coefficient), "mean"),
        )

    def _points(self, chosen: Candidate) -> list[Point]:
        curve = self._curve(chosen.steering)
        graded = getattr(chosen.steering, "graded", True)
        points = []
        for level in self.plan.levels if graded else (None,):
            coefficient = 1.0 if level is None else self._coefficient(chosen.steering, level)
            damage = curve.at(coefficient)
            points.append(
                Point(
                    steering=chosen.steering,
                    level=level,
                    coefficient=coefficient,
                    damage=damage,
                    reached=level is None or self.plan.spent(damage, level) >= 0.9,
                )
            )
        return points

    def scores(self, asked: Asked, point: Point | None) -> Scores:
        """Return what the model does on a task's questions, unsteered or at a point."""
        key = {
            "what": "task",
            **self._who,
            "task": asked.task.describe(self.model, asked.items),
            "steering": None if point is None else digest_of(point.steering),
            "coefficient": 0.0 if point is None else point.coefficient,
        }

        def scored() -> Tensors:
            if point is None:
                found = asked.task.score(self.model, asked.items, quiet=self.quiet)
            else:
                with point.steering.applied_to(self.model, point.coefficient):
                    found = asked.task.score(self.model, asked.items, quiet=self.quiet)
            return {**found.values, **found.shares}

        known = sorted(self.store.get(key, scored).items())
        return Scores(
            ids=tuple(item.id for item in asked.items),
            values={name: column for name, column in known if column.ndim == 1},
            shares={name: column for name, column in known if column.ndim == 2},
            groups=tuple(item.group() for item in asked.items),
        )

    def _refuse_unseen(self, steering: Steering) -> None:
        """Refuse what steers pictures alone, where damage is measured without any."""
        site, positions = getattr(steering, "site", None), getattr(steering, "positions", None)
        if site and positions and blind_to(site, positions, self.text.pairs):
            raise GrainsError(
                "it steers pictures alone, and neutral text holds none, so that its damage is not "
                "seen; wanted neutral: DATASET with pictures"
            )

    def _coefficient(self, steering: Steering, level: float) -> float:
        if not getattr(steering, "graded", True):
            return 1.0
        # A search starts from what is known of a curve: made once, so that nothing hangs on order.
        key = (digest_of(steering), level)
        if key not in self._solved:
            self._solved[key] = self._curve(steering).solve(
                lambda damage: self.plan.spent(damage, level),
                largest=LARGEST,
                tolerance=self.plan.tolerance,
            )
        return self._solved[key]

    def _curve(self, steering: Steering) -> DamageCurve:
        digest = digest_of(steering)
        if digest not in self._curves:
            self._curves[digest] = _KeptCurve(self.text, steering, self.store, self._who)
        return self._curves[digest]

    def _pair_scores(self, steering: Steering, coefficient: float) -> Tensor:
        part = by_length(self.data.split.val, 32)
        key = {
            "what": "pairs",
            **self._who,
            "steering": digest_of(steering),
            "coefficient": coefficient,
            "pairs": [pair_sha256(pair) for batch in part for pair in batch.pairs],
        }

        def scored() -> Tensors:
            with steering.applied_to(self.model, coefficient):
                return {"scores": score_part(self.model, part, quiet=self.quiet)}

        return self.store.get(key, scored)["scores"]


class _KeptCurve(DamageCurve):
    """A damage curve whose values are kept from run to run."""

    def __init__(
        self, text: NeutralText, steering: Steering, store: CellStore, who: dict[str, Any]
    ) -> None:
        super().__init__(text, lambda size: steering.applied_to(text.model, size))
        self._store = store
        self._key = {
            "what": "damage",
            **who,
            "steering": digest_of(steering),
            "text": text.identity,
        }

    def at(self, coefficient: float) -> Damage:
        """Return the damage at a coefficient."""

        def measured() -> Tensors:
            return {"damage": torch.tensor(super(_KeptCurve, self).at(coefficient))}

        if coefficient != 0:
            key = {**self._key, "coefficient": coefficient}
            self.known[coefficient] = Damage(*self._store.get(key, measured)["damage"].tolist())
        return self.known[coefficient]
