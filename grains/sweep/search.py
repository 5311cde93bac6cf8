"""The way of a sweep: directions, cells with their damage, rounds of halving, one look at test."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from grains.arms import Arm, control_arms, control_of, controls_of
from grains.artifact import SteeringVector
from grains.choice import at_equal_damage
from grains.damage import NO_DAMAGE, Budget
from grains.data import PairBatch
from grains.directions import Certificate
from grains.errors import GrainsError
from grains.fitting import Found, Gap, RowStore, as_vector, find_directions, random_directions
from grains.layers import show_layers
from grains.scoring import UNSTEERED, Outcome, accuracy, margin
from grains.sources import DirectionSource
from grains.sweep.grid import SweepCell, Way, cells_of
from grains.sweep.halving import Halving
from grains.sweep.work import PASSES, SIDES, BatchMemo, Work
from grains.types import Reduction

STEPS = 8
"""How many points of a damage curve are taken to be measured where the strength is solved for."""


@dataclass(kw_only=True, eq=False)
class Search:
    """One sweep on one model.

    Args:
        work: what is asked of the model.
        ways: every combination of components.
        layer_sets: the sets of layers to try with each.
        coefficients: those to try with each, or None for shares of the largest within the budget.
        budget: the most damage that a cell may do.
        halving: the rounds.
        reduction: how answers are compared.
        blind: whether damage stays unseen.
        seed: of controls and intervals.
    """

    work: Work
    ways: Sequence[Way]
    layer_sets: Sequence[tuple[int, ...]]
    coefficients: Sequence[float] | None
    budget: Budget
    halving: Halving
    reduction: Reduction
    blind: bool
    seed: int
    notes: list[str] = field(default_factory=list)
    found: dict[str, Found] = field(default_factory=dict)
    gaps: dict[str, Gap | None] = field(default_factory=dict)

    def expect(self, fit: int, val: int, test: int, controls: int) -> None:
        """Tell the bar, roughly, what all of it will take, given the sizes of the three parts."""
        sources, texts = len(_sources([way.arm for way in self.ways])), len(self.work.neutral)
        candidates = len(self.ways) * len(self.layer_sets)
        points = len(self.coefficients) if self.coefficients else STEPS
        cells = candidates * len(self.coefficients or range(4))
        asked = controls * (PASSES * fit + STEPS * texts) + SIDES * test * (controls + 2)
        rounds = self._per_round(val, cells)
        for kind, amount in (
            ("rows", PASSES * fit * sources),
            ("damage", points * texts * candidates),
            ("scores", sum(cells * SIDES * pairs for cells, pairs in rounds)),
            ("test", asked if test else 0),
        ):
            self.work.progress.expect(kind, amount)

    def fit(self, batches: Sequence[PairBatch]) -> None:
        """Find the directions of every arm in one pass over the pairs."""
        self._find(list({way.arm.name: way.arm for way in self.ways}.values()), batches)

    def lay_out(self) -> list[SweepCell]:
        """Return the grid's cells with their damage, not yet scored."""
        candidates = [(way, layers) for way in self.ways for layers in self.layer_sets]
        points = len(self.coefficients) if self.coefficients else STEPS
        amount = points * len(self.work.neutral)
        cells = []
        for way, layers in self.work.progress.over("damage", candidates, amount):
            found = self.found[way.arm.name]
            cells += cells_of(
                self.work.model,
                way,
                found,
                layers,
                self.work.curve,
                self.coefficients,
                self.budget,
            )
        return cells

    def score(
        self, cells: list[SweepCell], parts: Sequence[Sequence[PairBatch]]
    ) -> tuple[list[int], Float[Tensor, "pairs 4"]]:
        """Score the cells in place, round by round.

        Args:
            cells: with their damage.
            parts: for each round the pairs that it adds.

        Returns:
            Which cells are left, all scored on all pairs, and the unsteered scores of these.

        Raises:
            GrainsError: if all cells are over the budget.
        """
        left = [i for i, cell in enumerate(cells) if self.budget.spent(cell.damage) <= 1]
        if not left:
            self._refuse(cells)
        known: dict[int, list[Tensor]] = {i: [] for i in left}
        before: list[Tensor] = []
        sizes = [sum(map(len, part)) for part in parts]
        for done, part in enumerate(parts):
            rounds = self._per_round(sum(sizes), len(left), done)
            later = sum(count * SIDES * pairs for count, pairs in rounds[1:])
            before.append(self.work.scores(None, part, "scores"))
            unsteered = torch.cat(before)
            for i in self.work.progress.over("scores", left, SIDES * sizes[done], later):
                known[i].append(self.work.scores(cells[i].vector, part, "scores"))
                mine = torch.cat(known[i])
                scored = cells[i].scored(
                    accuracy=accuracy(mine, self.reduction),
                    margin=margin(mine, self.reduction),
                    unsteered=margin(unsteered, self.reduction),
                )
                cells[i] = dataclasses.replace(scored, pairs=len(mine), round=done + 1)
            if part is not parts[-1]:
                best = self.halving.survivors([cells[i].gain for i in left])
                left = [left[place] for place in best]
        return left, torch.cat(before)

    def test(
        self,
        chosen: SweepCell,
        controls: Sequence[str] | None,
        fit: Sequence[PairBatch],
        part: Sequence[PairBatch],
    ) -> list[Outcome]:
        """Look once at the test pairs: unsteered, steered, and controls of equal damage.

        Args:
            chosen: the choice.
            controls: their names; those that make no sense for the choice are left out.
            fit: the pairs that controls are fitted on.
            part: the test pairs.
        """
        vector, damage = chosen.vector, chosen.damage
        tested = {"steered": (vector, damage)}
        rivals = self._rivals(chosen, self._sensible(chosen.way.arm, controls), fit)
        sign = math.copysign(1.0, vector.coefficient)
        size = SIDES * sum(map(len, part))
        amount, later = STEPS * len(self.work.neutral), size * (len(rivals) + 2)
        for name in self.work.progress.over("damage", list(rivals), amount, later):
            curve = self.work.curve(rivals[name], sign=sign)
            tested[name] = at_equal_damage(rivals[name], vector, damage, curve, blind=self.blind)
            if (reached := tested[name][1]).kl < 0.9 * damage.kl:
                self.notes.append(
                    f"control {name!r} does less damage: KL {reached.kl:.4f}, not equal"
                )
        arms = {UNSTEERED: (None, NO_DAMAGE), **tested}
        scores = {
            name: self.work.scores(arms[name][0], part, "test")
            for name in self.work.progress.over("test", list(arms), size)
        }
        return [
            Outcome.compare(
                name,
                scores[UNSTEERED],
                scores[name],
                coefficient=steering.coefficient if steering else 0.0,
                damage=reached,
                seed=self.seed,
            )
            for name, (steering, reached) in arms.items()
        ]

    def certificates(self, cell: SweepCell) -> dict[int, Certificate]:
        """Return what speaks for each direction of a cell."""
        marks = self.found[cell.way.arm.name].certificates
        return {layer: marks[layer] for layer in cell.vector.layers}

    def remarks(self, cell: SweepCell) -> list[str]:
        """Return what the reader of a choice should know of its directions and its gain."""
        gap, marks = self.gaps[cell.way.arm.name], self.certificates(cell)
        said = [f"completeness gap of the attribution: {gap}"] if gap else []
        if unstable := [layer for layer, mark in marks.items() if not mark.stable]:
            said.append(
                f"the direction's sign is unstable in layers {show_layers(unstable)}; more pairs, "
                "or other layers, would be surer"
            )
        if cell.gain <= 0:
            said.append(f"no cell raises the margin; the best changes it by {cell.gain:+.3f}")
        return said

    def _find(self, arms: Sequence[Arm], batches: Sequence[PairBatch]) -> None:
        sources = _sources(arms)
        stores = [RowStore() for _ in sources]
        size = PASSES * len(sources) * max(map(len, batches))
        for batch in self.work.progress.over("rows", batches, size):
            memo = BatchMemo(self.work, batch, self._layers)
            for source, store in zip(sources, stores, strict=True):
                store.add(batch, self.work.rows(source, batch, memo))
        rows = [store.gathered() for store in stores]
        for arm in arms:
            names, of_source = rows[sources.index(arm.source)]
            self.found[arm.name] = find_directions(of_source, arm.finder)
            self.gaps[arm.name] = Gap.of(names, of_source.gap)

    def _rivals(
        self, chosen: SweepCell, controls: Sequence[str], fit: Sequence[PairBatch]
    ) -> dict[str, SteeringVector]:
        way, vector = chosen.way, chosen.vector
        if arms := control_arms(controls, [way.arm], self.seed):
            self._find(arms, fit)
        self.found["random_direction"] = random_directions(vector.norms, vector.width, self.seed)
        found = {name: self.found[control_of(name, way.arm.name)] for name in controls}
        site = way.arm.source.site
        return {
            name: as_vector(self.work.model, of, vector.layers, way.injector, way.positions, site)
            for name, of in found.items()
        }

    def _sensible(self, arm: Arm, controls: Sequence[str] | None) -> list[str]:
        if controls is None:
            return controls_of(None, arm)
        sensible = []
        for name in controls:
            try:
                sensible += controls_of([name], arm)
            except GrainsError:
                self.notes.append(f"control {name!r} makes no sense for the choice: left out")
        return sensible

    def _refuse(self, cells: Sequence[SweepCell]) -> None:
        least = min(cells, key=lambda cell: self.budget.spent(cell.damage))
        raise GrainsError(
            f"all {len(cells)} cells do damage over the budget; the least, coefficient "
            f"{least.vector.coefficient:g} of {least.name}, has KL {least.damage.kl:.2g} of "
            f"{self.budget.max_kl:g} nats and perplexity ratio {least.damage.perplexity_ratio:.3f} "
            f"of {self.budget.max_perplexity_ratio:g}; wanted smaller coefficients, 'auto', or a "
            "larger budget"
        )

    def _per_round(self, pairs: int, cells: int, done: int = 0) -> list[tuple[int, int]]:
        """Return, for each round that is left, how many cells see how many new pairs."""
        counts = [0, *self.halving.counts(pairs)]
        rounds = []
        for before, now in itertools.pairwise(counts[done:]):
            rounds.append((cells, now - before))
            cells = self.halving.kept(cells)
        return rounds

    @property
    def _layers(self) -> list[int]:
        return sorted({layer for layers in self.layer_sets for layer in layers})


def _sources(arms: Sequence[Arm]) -> list[DirectionSource]:
    sources: list[DirectionSource] = []
    for arm in arms:  # arms that differ in their finder alone read the same rows
        if arm.source not in sources:
            sources.append(arm.source)
    return sources
