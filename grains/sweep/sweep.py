"""Which components, layers and strength: many are tried on validation pairs, one is tested."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

from grains.arms import CONTROLS, controls_of
from grains.attributors import ATTRIBUTORS
from grains.card import plain
from grains.cells import CellStore
from grains.choice import choose, parse_coefficients
from grains.damage import Budget
from grains.data import DATASETS, PairDataset, SteeringDataModule, neutral_texts
from grains.data.base import by_length
from grains.directions import DIRECTION_FINDERS
from grains.errors import GrainsError, did_you_mean
from grains.injectors import INJECTORS
from grains.maskers import MASKERS
from grains.models import SteerableModel
from grains.sources import SOURCES
from grains.steered import BLIND, blind_to
from grains.sweep.grid import Way, layer_sets_of, listed, ways_of
from grains.sweep.halving import Halving
from grains.sweep.progress import Progress
from grains.sweep.result import SweepResult, result_of
from grains.sweep.search import Search
from grains.sweep.work import Work
from grains.types import Reduction, checked_choice

_LISTS: dict[str, Any] = {
    "sources": SOURCES,
    "attributors": ATTRIBUTORS,
    "maskers": MASKERS,
    "direction_finders": DIRECTION_FINDERS,
    "injectors": INJECTORS,
}


@final
@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What to try. Every list is a dimension of the grid; what is no list is tried alone.

    Args:
        model: the model, or what `SteerableModel.load` takes.
        data: arguments of `SteeringDataModule`, or one.
        sources: where the finder's rows come from.
        attributors: for sources that mask: who is to be credited. None: the source's own.
        maskers: for sources that mask: which positions count as credited, and so k. None: the
            source's own.
        direction_finders: how one direction is found from the rows.
        injectors: how hidden states are moved.
        positions: where they are moved.
        layers: sets of layers, such as `8-19`, `middle` or `[3, 5]`.
        coefficients: strengths in units of the layer's mean residual norm, or `auto`: shares of the
            largest one within the damage budget.
        halving: `{rounds, keep}`, see `Halving`. None scores every cell on all validation pairs.
        controls: what is tested beside the choice, at equal damage, as far as it makes sense for
            the chosen source: `random_direction`, `random_masks`, `caa`. None: all that do.
        neutral: a data set on whose chosen answers damage is measured; packaged text if not given.
        reduction: whether answers are compared by log-probability a token (`mean`) or in all.
        max_kl: damage budget, KL to the unsteered model on neutral text, in nats a token.
        max_perplexity_ratio: damage budget, perplexity on neutral text over the unsteered one.
        dtype: of the model, if it is loaded here.
        seed: of random controls and of bootstrap intervals.

    Raises:
        GrainsError: for a setting that is unknown, empty, repeated or senseless, as far as that can
            be told without the model and the pairs.
    """

    model: str | SteerableModel = "smollm2-135m-instruct"
    data: Mapping[str, Any] | SteeringDataModule = field(default_factory=dict)
    sources: Any = "masked"
    attributors: Any = None
    maskers: Any = None
    direction_finders: Any = "pca"
    injectors: Any = "normalized"
    positions: Any = "all"
    layers: Any = "middle"
    coefficients: Any = "auto"
    halving: Mapping[str, Any] | Halving | None = None
    controls: list[str] | None = None
    neutral: str | Mapping[str, Any] | PairDataset | None = None
    reduction: Reduction = "mean"
    max_kl: float = 0.1
    max_perplexity_ratio: float = 1.1
    dtype: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what would only be noticed after hours."""
        checked_choice(self.reduction, Reduction, "reduction")
        if type(self.seed) is not int:
            raise GrainsError(f"seed is {self.seed!r}; wanted an integer")
        if isinstance(self.model, SteerableModel) and self.dtype is not None:
            raise GrainsError(
                f"dtype is {self.dtype!r}, but the model is loaded; wanted one of the two"
            )
        listed(self.layers, "layers")
        parse_coefficients(self.coefficients, blind=False)
        _ = self.ways, self.budget, self.rounds, self.neutral_data
        self._refuse_senseless_controls()
        if self.datamodule.counts["fit"] == 0:
            raise GrainsError("fit is 0; wanted 1 pair or more, to find directions from")
        if self.datamodule.counts["val"] == 0:
            raise GrainsError("val is 0; wanted 1 validation pair or more, to choose on")

    @cached_property
    def ways(self) -> list[Way]:
        """Every combination of components that makes sense."""
        lists = {name: getattr(self, name) for name in (*_LISTS, "positions", "reduction")}
        return ways_of(**lists)

    @cached_property
    def budget(self) -> Budget:
        """The most damage that a choice may do."""
        return Budget(max_kl=self.max_kl, max_perplexity_ratio=self.max_perplexity_ratio)

    @cached_property
    def rounds(self) -> Halving:
        """How cells are halved: in one round, if they are not."""
        if self.halving is None:
            return Halving(rounds=1)
        return self.halving if isinstance(self.halving, Halving) else _made(Halving, self.halving)

    @cached_property
    def neutral_data(self) -> PairDataset | None:
        """The data set that damage is measured on, if one is given."""
        return None if self.neutral is None else DATASETS.build(self.neutral)

    @cached_property
    def datamodule(self) -> SteeringDataModule:
        """The pairs, and how they are split."""
        given = self.data
        return given if isinstance(given, SteeringDataModule) else _made(SteeringDataModule, given)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that make this sweep again, as JSON; a list of pairs stays out."""
        data, lists = self.datamodule, {}
        for name, registry in _LISTS.items():
            if (given := getattr(self, name)) is not None:
                lists[name] = [registry.spec(registry.build(one)) for one in listed(given, name)]
        given = data.dataset
        own = {
            "model": self.model.name if isinstance(self.model, SteerableModel) else self.model,
            "data": {
                "dataset": DATASETS.spec(given) if isinstance(given, PairDataset) else None,
                **data.counts,
                "seed": data.seed,
                "batch_size": data.batch_size,
                "template": data.template,
            },
            "halving": self.halving and self.rounds,
            "neutral": self.neutral_data and DATASETS.spec(self.neutral_data),
        }
        fields = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return plain({**fields, **lists, **own}, "settings")

    def run(
        self,
        out: str | Path | None = None,
        *,
        fresh: bool = False,
        command: str | None = None,
        quiet: bool = False,
    ) -> SweepResult:
        """Fit, choose and test.

        Args:
            out: the folder for `sweep.json`, `vector.safetensors` and `cells`, each of which is
                written as it ends; a run that finds some there computes the others. None: nothing
                is written.
            fresh: drop the cells of earlier runs.
            command: what made the sweep, for the record.
            quiet: without a bar.

        Raises:
            GrainsError: if the folder cannot be written, there are too few pairs, a layer is not
                there, or all cells are over the budget.
        """
        folder = None if out is None else Path(out).expanduser()
        store = CellStore(folder and folder / "cells")
        if fresh:
            store.forget()
        data, split = self.datamodule, self.datamodule.split
        if not split.val:
            raise GrainsError("the val part is empty; wanted 1 pair or more, to choose on")
        if len(split.test) == 1:
            raise GrainsError("test is 1 pair; wanted 2 or more, for an interval, or 0 for no test")
        fit = list(data.train_dataloader())
        starts = [0, *self.rounds.counts(len(split.val))]
        parts = [
            by_length(split.val, data.batch_size, *ends) for ends in itertools.pairwise(starts)
        ]
        test = by_length(split.test, data.batch_size, 0, len(split.test))
        search = self._search(store, quiet=quiet)
        with search.work.progress:
            controls = len(CONTROLS if self.controls is None else self.controls)
            search.expect(len(split.fit), len(split.val), len(split.test), controls)
            search.fit(fit)
            cells = search.lay_out()
            left, unsteered = search.score(cells, parts)
            chosen = cells.index(choose([cells[i] for i in left], self.budget))
            outcomes = search.test(cells[chosen], self.controls, fit, test) if test else []
            result = result_of(
                search,
                cells,
                left,
                chosen,
                unsteered,
                outcomes,
                data=data,
                settings=self.settings(),
                command=command,
                saved=folder is not None,
            )
        if folder is not None:
            result.save(folder)
        return result

    def _search(self, store: CellStore, *, quiet: bool) -> Search:
        model = self.model
        if not isinstance(model, SteerableModel):
            model = SteerableModel.load(model, dtype=self.dtype)
        pairs = self.neutral_data.pairs() if self.neutral_data else []
        source = self.ways[0].arm.source
        blind = any(blind_to(source.site, way.positions, pairs) for way in self.ways)
        layer_sets = layer_sets_of(self.layers, len(source.blocks(model)), self.ways)
        coefficients = parse_coefficients(self.coefficients, blind=blind)
        progress = Progress(quiet=quiet)
        return Search(
            work=Work(model, store, progress, pairs or neutral_texts()),
            ways=self.ways,
            layer_sets=layer_sets,
            coefficients=coefficients,
            budget=self.budget,
            halving=self.rounds,
            reduction=self.reduction,
            blind=blind,
            seed=self.seed,
            notes=[BLIND] if blind else [],
        )

    def _refuse_senseless_controls(self) -> None:
        if isinstance(self.controls, str):
            controls_of(self.controls, self.ways[0].arm)  # refuses what is no list
        for name in self.controls or []:
            refusals = []
            for way in self.ways:
                try:
                    controls_of([name], way.arm)
                    break
                except GrainsError as error:
                    refusals.append(error)
            else:
                raise refusals[0]


def _made(cls: Any, given: Any) -> Any:
    """Return the object of a setting that is a mapping of its arguments."""
    what = "halving" if cls is Halving else "data"
    if not isinstance(given, Mapping):
        raise GrainsError(f"{what} is {given!r}; wanted a mapping of settings")
    names = list(inspect.signature(cls).parameters)
    for key in given:
        if key not in names:
            raise GrainsError(f"{what} has no setting {key!r}; {did_you_mean(str(key), names)}")
    return cls(**given)
