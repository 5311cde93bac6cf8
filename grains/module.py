"""Fit, choose, test and use steering under a Lightning trainer: the nine steps in reading order."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from grains import card as cards
from grains.arms import control_of, controls_of, main_arms
from grains.artifact import SteeringVector
from grains.attributors import Attributor
from grains.choice import (
    Cell,
    choose,
    lay_out,
    parse_coefficients,
    parse_layer_sets,
)
from grains.damage import Budget
from grains.data import DATASETS, PairBatch, PairDataset, SteeringDataModule
from grains.directions import DIRECTION_FINDERS, DirectionFinder
from grains.errors import GrainsError
from grains.fitting import Fit
from grains.injectors import INJECTORS, Injector
from grains.layers import show_layers
from grains.maskers import Masker
from grains.models import SteerableModel
from grains.scoring import UNSTEERED, Panel, accuracy, margin
from grains.sources import SOURCES, DirectionSource, Masked
from grains.steered import BLIND, SteeredModule
from grains.storage import refuse_existing
from grains.tables import show_choice
from grains.types import Positions, Reduction, checked_choice
from grains.vector_parts import checked_positions


class SteeringModule(SteeredModule):
    """Fits, chooses and evaluates the steering of one frozen model.

    `fit` turns each pair into one row a layer (the source of rows decides how), finds a direction a
    layer, and scores the grid of layers, coefficients and maskers on the validation pairs; the
    choice is the largest gain in margin within the damage budget. `test` puts unsteered, steered
    and controls of equal damage side by side. `predict` answers prompts unsteered and steered.

    Args:
        lm: the model, or what `SteerableModel.load` takes.
        source: where the finder's rows come from: `masked` (GrAInS), `answers` (CAA), `gradient`,
            or `perturbed_images` (VTI), which steers the vision tower: `layers` are then its own.
        attributor: for `masked`, who is to be credited: `integrated_gradients` if not given.
        masker: for `masked`, which positions count as credited (`top_k` if not given); a list is a
            dimension of the grid.
        direction_finder: how one direction is found from the rows.
        injector: how hidden states are moved.
        layers: such as `8-19`, `middle` or `all`; a list of such is a dimension of the grid.
        coefficient: strength in units of the layer's mean residual norm; a list is a dimension of
            the grid; `auto` tries shares of the largest one within the damage budget.
        positions: where hidden states are moved.
        controls: what is tested beside the steering, at equal damage: `random_direction`,
            `random_masks`, `caa`. None: all that make sense for the source.
        neutral: a data set on whose chosen answers damage is measured; packaged text if not given.
        reduction: whether answers are compared by log-probability a token (`mean`) or in all.
        max_kl: damage budget, KL to the unsteered model on neutral text, in nats a token.
        max_perplexity_ratio: damage budget, perplexity on neutral text over the unsteered one.
        force: allow a coefficient over the budget.
        vector: a steering vector, or its file, to validate, test or predict with, instead of
            fitting one. The attribute of this name is what was given, or fitted and chosen.
        save_to: where fit writes the steering vector.
        overwrite: allow `save_to` to exist.
        dtype: of the model, if it is loaded here.
        max_new_tokens: the longest answer of predict.
        seed: of random controls and of bootstrap intervals.

    Attributes:
        model: the frozen model.
        rivals: control to its vector, for the chosen layers.
        cells: the grid, scored, after a fit.
        outcomes: what each arm did and cost, after a test.
    """

    def __init__(
        self,
        lm: str | SteerableModel = "smollm2-135m-instruct",
        source: str | dict[str, Any] | DirectionSource = "masked",
        attributor: str | dict[str, Any] | Attributor | None = None,
        masker: str | dict[str, Any] | Masker | list[str | dict[str, Any] | Masker] | None = None,
        direction_finder: str | dict[str, Any] | DirectionFinder = "pca",
        injector: str | dict[str, Any] | Injector = "normalized",
        layers: str | int | list[str] | list[int] = "middle",
        coefficient: float | str | list[float] = "auto",
        positions: Positions = "all",
        controls: list[str] | None = None,
        neutral: str | dict[str, Any] | PairDataset | None = None,
        reduction: Reduction = "mean",
        max_kl: float = 0.1,
        max_perplexity_ratio: float = 1.1,
        force: bool = False,
        vector: str | Path | SteeringVector | None = None,
        save_to: str | Path | None = None,
        overwrite: bool = False,
        dtype: str | None = None,
        max_new_tokens: int = 64,
        seed: int = 0,
    ) -> None:
        checked_choice(reduction, Reduction, "reduction")
        main = main_arms(source, attributor, masker, direction_finder, reduction)
        checked_positions(positions, site := main[0].source.site)
        # Small files first: a mistake in one should not cost the loading of a model.
        given = SteeringVector.load(vector) if isinstance(vector, (str, Path)) else vector
        if isinstance(lm, SteerableModel) and dtype is not None:
            raise GrainsError(f"dtype is {dtype!r}, but the model is loaded; wanted one of the two")
        model = lm if isinstance(lm, SteerableModel) else SteerableModel.load(lm, dtype=dtype)
        data = DATASETS.build(neutral) if neutral is not None else None
        super().__init__(model, given, controls_of(controls, main[0]), max_new_tokens, seed, data)
        self.automatic_optimization = False  # nothing is trained
        sees = model.image_token_id is not None
        self.positions: Positions = checked_positions(positions, site, pictures=sees)
        self.arms, self.injector = main, INJECTORS.build(injector)
        self.budget = Budget(max_kl=max_kl, max_perplexity_ratio=max_perplexity_ratio)
        self.layer_sets = parse_layer_sets(layers, len(main[0].source.blocks(model)), positions)
        self.coefficients = parse_coefficients(coefficient, blind=self.blind(site, positions))
        self.reduction: Reduction = reduction
        self.force, self.overwrite = force, overwrite
        self.save_to = refuse_existing(save_to, overwrite=overwrite) if save_to else None
        self.cells: list[Cell] = []
        self._fit: Fit
        self.save_hyperparameters(self.settings())

    def settings(self) -> dict[str, Any]:
        """Return the arguments that make this module again, but for the model, as JSON."""
        sources = [SOURCES.spec(arm.source) for arm in self.arms]
        parts: dict[str, Any] = {}
        if isinstance(self.arms[0].source, Masked):
            parts["masker"] = [source.pop("masker") for source in sources]
            parts["attributor"] = sources[0].pop("attributor")
        return cards.plain(
            {
                "source": sources[0],
                **parts,
                "direction_finder": DIRECTION_FINDERS.spec(self.arms[0].finder),
                "injector": INJECTORS.spec(self.injector),
                "layers": [show_layers(layers) for layers in self.layer_sets],
                "coefficient": self.coefficients or "auto",
                "positions": self.positions,
                "controls": self.controls,
                "neutral": self.neutral_data and DATASETS.spec(self.neutral_data),
                "reduction": self.reduction,
                "max_kl": self.budget.max_kl,
                "max_perplexity_ratio": self.budget.max_perplexity_ratio,
                "force": self.force,
                "max_new_tokens": self.max_new_tokens,
                "seed": self.seed,
            },
            "settings",
        )

    # --- fit: pairs -> attribute -> mask -> deltas -> direction ---------------------------------

    def configure_optimizers(self) -> None:
        """Nothing is trained."""

    def on_fit_start(self) -> None:
        """Forget an earlier fit, and see that one pass over all pairs is what will be made."""
        if self.trainer.val_check_interval not in (1, 1.0):
            raise GrainsError(
                f"val_check_interval is {self.trainer.val_check_interval}; wanted 1.0, since the "
                "choice comes after all pairs"
            )
        self.vector, self.rivals, self.cells = None, {}, []
        self._fit = Fit(
            self.model,
            self.arms,
            self.controls,
            self.layer_sets,
            self.injector,
            self.positions,
            self.seed,
        )

    def training_step(self, batch: PairBatch, batch_index: int) -> None:
        """Attribute, mask, and keep one row a pair and layer, for every masker and control."""
        self._fit.add(batch)

    def on_train_epoch_end(self) -> None:
        """End the fit; without validation pairs there is nothing to choose by: one cell must do."""
        self.trainer.should_stop = True  # a second pass would bring the same rows
        if self.vector is not None:
            return
        self._lay_out()
        if len(self.cells) > 1:
            raise GrainsError(
                f"there are {len(self.cells)} cells to choose from and no validation pairs; wanted "
                "val of 1 or more, or one coefficient and one set of layers"
            )
        self._choose()

    # --- validate: the grid, and the choice from it ---------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Find the directions, if this ends a fit, and lay out the grid with its damage."""
        if self.trainer.sanity_checking:
            return
        if self.fitting:
            self._lay_out()
        else:
            vector = self._need_vector()
            damage = self.damage_of(vector)
            self.cells = [Cell(name="steered", vector=vector, damage=damage)]
        vectors = {str(i): cell.vector for i, cell in enumerate(self.cells)}
        self._panel = Panel(self.model, vectors)

    def validation_step(self, batch: PairBatch, batch_index: int) -> None:
        """Score a batch unsteered, once, and in every cell."""
        if not self.trainer.sanity_checking:
            self._panel.score(batch)

    def on_validation_epoch_end(self) -> None:
        """Put the scores into the grid and, in a fit, choose."""
        if self.trainer.sanity_checking:
            return
        scores = self._panel.scores()
        unsteered = margin(scores[UNSTEERED], self.reduction)
        for i, cell in enumerate(self.cells):
            mine = scores[str(i)]
            self.cells[i] = cell.scored(
                accuracy=accuracy(mine, self.reduction),
                margin=margin(mine, self.reduction),
                unsteered=unsteered,
            )
        if self.fitting:
            self._choose()
        best = max(self.cells, key=lambda cell: cell.vector is self.vector)
        self.log_dict(
            {
                "val/unsteered/margin": unsteered,
                "val/unsteered/accuracy": accuracy(scores[UNSTEERED], self.reduction),
                "val/steered/margin": best.margin,
                "val/steered/accuracy": best.accuracy,
                "val/steered/kl": best.damage.kl,
                "val/steered/perplexity_ratio": best.damage.perplexity_ratio,
                "val/steered/coefficient": best.vector.coefficient,
            },
            rank_zero_only=True,
        )
        if not self.quiet:
            show_choice(self.cells, best, unsteered, self.budget)

    def _lay_out(self) -> None:
        self._fit.find(quiet=self.quiet)
        if self.blind(self._fit.site, self.positions):
            self.print(BLIND)
        if self._fit.gap is not None:
            self.print(f"completeness gap of the attribution: {self._fit.gap}")
        for name, layers in self._fit.unstable().items():
            if layers:
                self.print(
                    f"{name}: the direction's sign is unstable in layers {show_layers(layers)}; "
                    "more pairs, or other layers, would be surer"
                )
        self.cells = lay_out(
            self._fit.candidates(),
            self.coefficients,
            self.neutral,
            self.budget,
            quiet=self.quiet,
        )

    def _choose(self) -> None:
        best = choose(self.cells, self.budget, force=self.force)
        if best.gain <= 0:
            self.print(f"no cell raises the margin; the best one changes it by {best.gain:+.3f}")
        datamodule = getattr(self.trainer, "datamodule", None)
        certificates = self._fit.found[best.name].certificates
        settings = self.settings()
        del settings["max_new_tokens"]  # of answers, not of the vector
        card = cards.new_card(
            model=self.model.name,
            fingerprint=self.model.fingerprint,
            data=(datamodule.describe() if isinstance(datamodule, SteeringDataModule) else {})
            | {"pairs_fitted": self._fit.pairs, "completeness_gap": self._fit.gap},
            components=settings | {"chosen": best.name},
            seeds={"seed": self.seed},
            site=best.vector.site,
            certificates={layer: certificates[layer] for layer in best.vector.layers},
            validation=[cell.row() for cell in self.cells],
        )
        self.vector = dataclasses.replace(best.vector, card=card)
        self.cells[self.cells.index(best)] = best.with_vector(self.vector)
        self.rivals = {
            name: self._fit.vector(control_of(name, best.name), best.vector.layers)
            for name in self.controls
        }

    def on_fit_end(self) -> None:
        """Write the vector, once."""
        vector = self._need_vector()
        if self.save_to is not None and self.trainer.is_global_zero:
            vector.save(self.save_to, overwrite=self.overwrite)
            self.print(f"wrote {self.save_to}")
