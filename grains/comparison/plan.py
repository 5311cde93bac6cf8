"""What a comparison is asked to do, as a YAML file or a mapping says it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from grains.card import plain
from grains.damage import Damage, NeutralText
from grains.data import DATASETS, SteeringDataModule, neutral_texts
from grains.errors import GrainsError, did_you_mean
from grains.evaluation import TASKS, Task
from grains.layers import parse_layers
from grains.methods import METHODS, Method
from grains.models import SteerableModel
from grains.types import checked_choice


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """One thing to steer.

    Args:
        name: what to call it.
        data: arguments of `SteeringDataModule`: the pairs that methods are fitted on and chosen by.
        tasks: benchmarks that show the behaviour, by name or as `{name, settings}`.
        settings: method to settings of it for this behaviour alone, such as an instruction's text.
    """

    name: str
    data: Mapping[str, Any]
    tasks: Sequence[Any]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def module(self) -> SteeringDataModule:
        """Return the data, split; what is left of it is no part of it."""
        return SteeringDataModule(**{"test": 0, **self.data})


@dataclass(frozen=True, kw_only=True)
class Named:
    """A method under the name that tables show."""

    name: str
    method: Method


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Models, behaviours, methods and levels of a comparison.

    Args:
        model: as `SteerableModel.load` takes it.
        behaviours: what is steered, each fitted by itself.
        methods: by name, or as `{name, settings}`, with a `label` where one occurs twice.
        side_effects: benchmarks that steering should leave alone.
        levels: damage at which methods are compared, in units of the measure.
        measure: of damage on neutral text: `kl` to the unsteered model, in nats a token, or
            `perplexity_ratio` to it.
        choose_at: the level at which validation pairs choose among a method's candidates.
        layers: sets of layers that may be steered, such as `8-19`.
        limit: at most that many questions of a task, drawn by the seed.
        neutral: a data set on whose chosen answers damage is measured; packaged text if not given.
        samples: how many prompts are answered by every method, to be read; 0 for none.
        against: methods with which all others are compared, question by question; those of them
            that take part.
        dtype: of the model.
        seed: of draws, random controls and intervals.
        tolerance: how far below its level a method's damage may end, as a share of it.
    """

    model: str = "smollm2-135m-instruct"
    behaviours: Sequence[Behaviour]
    methods: Sequence[Any] = ("caa", "objective_gradient", "grains", "random_direction")
    side_effects: Sequence[Any] = ()
    levels: Sequence[float] = (0.02, 0.05, 0.1, 0.2)
    measure: Literal["kl", "perplexity_ratio"] = "kl"
    choose_at: float = 0.1
    layers: Sequence[str] = ("middle",)
    limit: int | None = None
    neutral: Any = None
    samples: int = 0
    against: Sequence[str] = ("caa", "random_masks")
    dtype: str | None = None
    seed: int = 0
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what would only be noticed after hours."""
        for name in ("behaviours", "methods", "levels", "layers", "against"):
            given = getattr(self, name)
            if isinstance(given, str) or not isinstance(given, Sequence) or not given:
                raise GrainsError(f"{name} is {given!r}; wanted a list of one or more")
        checked_choice(self.measure, Literal["kl", "perplexity_ratio"], "measure")
        least = 1 if self.measure == "perplexity_ratio" else 0
        for level in (*self.levels, self.choose_at):
            if isinstance(level, bool) or not isinstance(level, (int, float)) or not level > least:
                raise GrainsError(f"a level is {level!r}; wanted a {self.measure} above {least}")
        for what, names in (
            ("behaviour", [one.name for one in self.behaviours]),
            ("method", [one.name for one in self.named()]),
        ):
            if twice := [name for name in names if names.count(name) > 1]:
                raise GrainsError(f"two {what}s are named {twice[0]!r}; wanted a label for one")
        known = [one.name for one in self.named()]
        for behaviour in self.behaviours:
            for name in behaviour.settings:
                if name not in known:
                    raise GrainsError(
                        f"behaviour {behaviour.name!r} has settings of a method {name!r}; "
                        f"{did_you_mean(name, known)}"
                    )
            self.named(behaviour)  # a wrong setting is refused now
        for name in self.against:
            if name not in known and name not in METHODS.names():
                raise GrainsError(f"against names {name!r}; {did_you_mean(name, known)}")
        for task in [*self.side_effects, *(task for one in self.behaviours for task in one.tasks)]:
            TASKS.build(task)

    @classmethod
    def load(cls, path: str | Path, changes: Mapping[str, Any] | None = None) -> Plan:
        """Read a YAML file.

        Args:
            path: the file.
            changes: settings that replace the file's.

        Raises:
            GrainsError: if it cannot be read, or says what a plan does not know.
        """
        try:
            given = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise GrainsError(f"{path} cannot be read ({reason}); wanted a YAML file") from error
        if not isinstance(given, Mapping):
            raise GrainsError(f"{path} holds {type(given).__name__}; wanted a mapping of settings")
        return cls.of({**given, **(changes or {})})

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Plan:
        """Return the plan that a mapping describes.

        Raises:
            GrainsError: for an unknown, missing or senseless setting.
        """
        behaviours = given.get("behaviours")
        if not isinstance(behaviours, list):
            raise GrainsError(f"behaviours is {behaviours!r}; wanted a list of one or more")
        made = [_made(Behaviour, one, "a behaviour") for one in behaviours]
        return _made(cls, {**given, "behaviours": made}, "a comparison")

    def named(self, behaviour: Behaviour | None = None) -> list[Named]:
        """Return the methods, with the settings that a behaviour has of its own."""
        found = []
        for given in self.methods:
            spec = dict(given) if isinstance(given, Mapping) else {"name": given}
            label = spec.pop("label", spec.get("name"))
            own = behaviour.settings.get(label, {}) if behaviour else {}
            found.append(Named(name=str(label), method=METHODS.build({**spec, **own})))
        return found

    def tasks(self, behaviour: Behaviour) -> list[tuple[Task, bool]]:
        """Return a behaviour's tasks, and after them the side effects: task, whether it is one."""
        return [(TASKS.build(task), False) for task in behaviour.tasks] + [
            (TASKS.build(task), True) for task in self.side_effects
        ]

    def spent(self, damage: Damage, level: float) -> float:
        """Return the share of a level that a damage uses up; 1 is all of it."""
        if not (math.isfinite(damage.kl) and math.isfinite(damage.perplexity_ratio)):
            return math.inf
        if self.measure == "kl":
            return damage.kl / level
        return math.log(damage.perplexity_ratio) / math.log(level)

    def neutral_text(self, model: SteerableModel, *, quiet: bool = False) -> NeutralText:
        """Return the text on which damage is measured, as the unsteered model finds it."""
        texts = DATASETS.build(self.neutral).pairs() if self.neutral else neutral_texts()
        return NeutralText(model, texts, quiet=quiet)

    def layer_sets(self, n_blocks: int) -> list[tuple[int, ...]]:
        """Return the sets of layers of a model with that many blocks."""
        return [parse_layers(layers, n_blocks) for layers in self.layers]

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON, from which `of` makes it again."""
        return plain(dataclasses.asdict(self))


def _made(cls: Any, given: Any, what: str) -> Any:
    if not isinstance(given, Mapping):
        raise GrainsError(f"{what} is {given!r}; wanted a mapping of settings")
    fields = {one.name: one for one in dataclasses.fields(cls)}
    for key in given:
        if key not in fields:
            raise GrainsError(f"{what} has no setting {key!r}; {did_you_mean(str(key), fields)}")
    for name, one in fields.items():
        required = one.default is one.default_factory is dataclasses.MISSING
        if required and name not in given:
            raise GrainsError(f"{what} has no {name}; wanted one")
    return cls(**given)
