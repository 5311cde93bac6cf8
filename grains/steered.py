"""A model with a steering vector under a Lightning trainer: test it, and let it answer."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from tqdm.auto import tqdm

from grains.artifact import SteeringVector
from grains.card import splits_of
from grains.choice import at_equal_damage, curve_of
from grains.damage import NO_DAMAGE, Damage, NeutralText
from grains.data import PairBatch, PairDataset, SteeringDataModule, short_question
from grains.data.neutral import neutral_texts
from grains.errors import GrainsError
from grains.fitting import as_vector, random_directions
from grains.models import SteerableModel
from grains.scoring import UNSTEERED, Outcome, Panel
from grains.strategies import FrozenDDPStrategy as FrozenDDPStrategy  # filed by its import
from grains.tables import show_outcomes
from grains.types import ContrastivePair, Positions, Site

BLIND = (
    "neutral text holds no picture, so the damage of steering pictures is not seen and its budget "
    "does not bind; controls have the coefficient of the steering (neutral=DATASET would show it)"
)


def blind_to(site: Site, positions: Positions, neutral: Sequence[ContrastivePair]) -> bool:
    """Whether only pictures are steered, and damage is measured where there are none."""
    pictures = any(pair.image is not None for pair in neutral)
    return (site == "vision" or positions == "image") and not pictures


class SteeredModule(L.LightningModule):
    """Evaluates one steering vector on one frozen model, beside controls of equal damage.

    Args:
        model: the frozen model. It is no submodule: no strategy may wrap it, cast it, or write it
            into a checkpoint.
        vector: the steering, or None if it is yet to be fitted.
        controls: names of what is tested beside it.
        max_new_tokens: the longest answer of predict.
        seed: of the random direction and of bootstrap intervals.
        neutral: the data set on whose chosen answers damage is measured; None for packaged text.

    Attributes:
        vector: the steering.
        rivals: control to its vector, for the same layers.
        outcomes: what each arm did and cost, after a test.
    """

    model: SteerableModel

    def __init__(
        self,
        model: SteerableModel,
        vector: SteeringVector | None,
        controls: list[str],
        max_new_tokens: int,
        seed: int,
        neutral: PairDataset | None = None,
    ) -> None:
        super().__init__()
        object.__setattr__(self, "model", model)
        self.strict_loading = False  # the language model stays out of checkpoints
        self.vector = vector
        self.controls = controls
        self.max_new_tokens = max_new_tokens
        self.seed = seed
        self.neutral_data = neutral
        self.rivals: dict[str, SteeringVector] = {}
        self.outcomes: list[Outcome] = []
        self._panel: Panel
        self._disjoint = False
        self._tested: dict[str, tuple[SteeringVector, Damage]] = {}

    def setup(self, stage: str) -> None:
        """Put the model where the trainer computes; a checkpoint is read only after this."""
        self.model.to(self.device)
        warnings.filterwarnings("ignore", ".*configure_optimizers` returned `None`")  # as meant
        warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")  # Lightning's own matter

    # --- test: unsteered, steered, controls -----------------------------------------------------

    def on_test_start(self) -> None:
        """Refuse pairs that the fit or the choice has seen, and fewer than two."""
        vector, data = self._need_vector(), getattr(self.trainer, "datamodule", None)
        if not isinstance(data, SteeringDataModule):
            return
        if len(data.split.test) < 2:
            raise GrainsError("the test part is 1 pair; wanted 2 or more, for an interval")
        splits = [split for split in splits_of(vector.card) if "seen" in split]
        self._disjoint = bool(splits)
        for split in splits:
            seen = [pair for pair in data.split.test if short_question(pair) in split["seen"]]
            if seen:
                sizes = ", ".join(f"{name}={count}" for name, count in split["sizes"].items())
                raise GrainsError(
                    f"{len(seen)} of the {len(data.split.test)} test pairs were fitted or chosen "
                    f"on; wanted the split of the vector: seed={split['seed']}, {sizes}"
                )

    def on_test_epoch_start(self) -> None:
        """Bring every control to the damage of the steering."""
        vector = self._need_vector()
        damage, blind = self.damage_of(vector), self.blind(vector.site, vector.positions)
        self._tested = {"steered": (vector, damage)}
        rivals = self._rivals(vector).items()
        for name, rival in tqdm(
            rivals, desc="Controls at equal damage", disable=self.quiet, leave=False
        ):
            # Steering away from a behaviour is compared with controls that lead away from it too.
            curve = curve_of(rival, self.neutral, sign=math.copysign(1.0, vector.coefficient))
            rival, reached = at_equal_damage(rival, vector, damage, curve, blind=blind)
            if reached.kl < 0.9 * damage.kl:
                self.print(f"control {name!r} does less damage: KL {reached.kl:.4f}, not equal")
            self._tested[name] = (rival, reached)
        self._panel = Panel(
            self.model, {name: tested for name, (tested, _) in self._tested.items()}
        )

    def test_step(self, batch: PairBatch, batch_index: int) -> None:
        """Score a batch unsteered, steered, and under every control."""
        self._panel.score(batch)

    def on_test_epoch_end(self) -> None:
        """Compare each arm with the unsteered model, pair by pair."""
        scores = self._panel.scores()
        arms = {UNSTEERED: (0.0, NO_DAMAGE)} | {
            name: (vector.coefficient, damage) for name, (vector, damage) in self._tested.items()
        }
        self.outcomes = [
            Outcome.compare(
                name,
                scores[UNSTEERED],
                scores[name],
                coefficient=coefficient,
                damage=damage,
                seed=self.seed,
            )
            for name, (coefficient, damage) in arms.items()
        ]
        for outcome in self.outcomes:
            numbers = {f"test/{outcome.name}/{key}": x for key, x in outcome.numbers().items()}
            self.log_dict(numbers, rank_zero_only=True)
        if not self.quiet:
            show_outcomes(
                self.outcomes,
                len(scores[UNSTEERED]),
                disjoint=self._disjoint,
                neutral="data" if self.neutral_data else "text",
            )

    def _rivals(self, vector: SteeringVector) -> dict[str, SteeringVector]:
        if "random_direction" in self.controls:
            drawn = random_directions(vector.norms, vector.width, self.seed)
            self.rivals["random_direction"] = as_vector(
                self.model, drawn, vector.layers, vector.injector, vector.positions, vector.site
            )
        fitting = {
            name: rival
            for name, rival in self.rivals.items()
            if (rival.site, rival.layers, rival.injector)
            == (vector.site, vector.layers, vector.injector)
        }
        for name in self.controls:
            if name not in fitting:
                self.print(
                    f"control {name!r} is left out: it is fitted together with the vector (`grains "
                    "fit --save_ckpt FILE` keeps it for `grains test --ckpt_path FILE`)"
                )
        return {name: fitting[name] for name in self.controls if name in fitting}

    # --- predict: before and after --------------------------------------------------------------

    def predict_step(self, batch: PairBatch, batch_index: int) -> list[dict[str, str]]:
        """Answer a batch of prompts, unsteered and steered."""
        vector = self._need_vector()
        answers: dict[int, dict[str, str]] = {}
        for template in sorted({pair.template for pair in batch.pairs}):
            rows = [row for row, pair in enumerate(batch.pairs) if pair.template == template]
            prompts = [batch.pairs[row].prompt for row in rows]
            images = [batch.pairs[row].image for row in rows]
            options = {"template": template, "max_new_tokens": self.max_new_tokens}
            unsteered = self.model.generate(prompts, images, **options)
            with vector.applied_to(self.model):
                steered = self.model.generate(prompts, images, **options)
            for row, before, after in zip(rows, unsteered, steered, strict=True):
                pair = batch.pairs[row]
                answers[row] = {
                    "id": pair.id,
                    "prompt": pair.prompt,
                    "unsteered": before,
                    "steered": after,
                }
        return [answers[row] for row in sorted(answers)]

    # --- checkpoints, and what several steps need -----------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the vector and its rivals into a Lightning checkpoint; the model stays out."""
        vectors = {} if self.vector is None else {"steered": self.vector, **self.rivals}
        checkpoint["steering"] = {}
        for name, vector in vectors.items():
            tensors, record = vector.to_record()
            checkpoint["steering"][name] = {"record": json.dumps(record), "tensors": tensors}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them out again."""
        if "steering" not in checkpoint:
            raise GrainsError("the checkpoint holds no steering; wanted one of a SteeringModule")
        self.rivals = {
            name: SteeringVector.from_record(json.loads(saved["record"]), saved["tensors"])
            for name, saved in checkpoint["steering"].items()
        }
        self.vector = self.rivals.pop("steered", None)

    @cached_property
    def neutral(self) -> NeutralText:
        """The unsteered model on what damage is measured on, computed once."""
        return NeutralText(self.model, self._neutral_pairs or neutral_texts(), quiet=self.quiet)

    @cached_property
    def _neutral_pairs(self) -> list[ContrastivePair]:
        return self.neutral_data.pairs() if self.neutral_data else []

    def damage_of(self, vector: SteeringVector) -> Damage:
        """Return the damage that a vector does, saying so where it cannot be seen."""
        if self.blind(vector.site, vector.positions):
            self.print(BLIND)
        return curve_of(vector, self.neutral).at(vector.coefficient)

    def blind(self, site: Site, positions: Positions) -> bool:
        """Whether only pictures are steered, and damage is measured where there are none."""
        return blind_to(site, positions, self._neutral_pairs)

    @property
    def quiet(self) -> bool:
        """Whether another process does the talking."""
        return not self.trainer.is_global_zero

    @property
    def fitting(self) -> bool:
        """Whether the trainer runs a fit, of which validation is a part."""
        return self.trainer.state.fn == TrainerFn.FITTING

    def _need_vector(self) -> SteeringVector:
        if self.vector is None:
            raise GrainsError("there is no steering vector; wanted vector=..., or a fit before")
        return self.vector
