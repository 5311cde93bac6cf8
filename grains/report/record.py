"""What a record of a comparison or of a sweep holds, as far as a report shows it.

A number that is not known is None, in the file `null` or simply not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Number = float | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """A difference between two runs on the same questions, with its 95 % interval."""

    mean: Number = None
    low: Number = None
    high: Number = None
    p_value: Number = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One method on one task at one level of damage; `level` is None at its own damage.

    `change` is against the unsteered model, `against` against another method, by name.
    """

    method: str
    level: Number = None
    means: Mapping[str, Number]
    change: Mapping[str, Change]
    against: Mapping[str, Mapping[str, Change]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark, scored under every method; `effect` is false where it measures side effects."""

    name: str
    label: str | None = None
    effect: bool
    items: int | None = None
    left_out: int | None = None
    prompt: str | None = None
    options: tuple[str, ...] = ()
    main: str
    higher_is_better: Mapping[str, bool | None] = field(default_factory=dict)
    unsteered: Mapping[str, Number]
    cells: tuple[Cell, ...]
    area: Mapping[str, Mapping[str, Number]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The label, or else the name."""
        return self.label or self.name

    def sign(self, metric: str) -> int:
        """Return -1 for a metric of which less is better, else 1."""
        return -1 if self.higher_is_better.get(metric) is False else 1


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What speaks for the direction of a layer."""

    explained: Number = None
    split_half: Number = None
    to_mean_difference: Number = None
    stable: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One of the steerings among which a method's validation pairs chose."""

    label: str
    coefficient: Number = None
    kl: Number = None
    val_margin: Number = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to steer; `role` is `ours`, `rival` or `control`, `budget` what its training took."""

    name: str
    label: str | None = None
    role: str
    summary: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: Number = None
    error: str | None = None
    candidates: tuple[Candidate, ...] = ()
    chosen: str | None = None
    budget: Mapping[str, Any] = field(default_factory=dict)
    certificates: Mapping[str, Certificate] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The label, or else the name."""
        return self.label or self.name

    @property
    def kind(self) -> str:
        """The name under which the method is registered, whatever it is called here."""
        return str(self.settings.get("name", self.name))


@dataclass(frozen=True, kw_only=True)
class Point:
    """The strength of a method at a level of damage, and the damage that was measured there."""

    method: str
    level: Number = None
    coefficient: Number = None
    kl: Number = None
    perplexity_ratio: Number = None
    reached: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One prompt, answered unsteered and under methods, by name."""

    prompt: str
    answers: Mapping[str, str]
    level: Number = None


@dataclass(frozen=True, kw_only=True)
class Pictured:
    """A picture as a `data:` address, and x0 y0 x1 y1 in 0..1 of each of its image tokens."""

    image: str
    boxes: tuple[tuple[Number, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Credited:
    """The credits of one sequence, with its pictures in order; without, if they were not kept."""

    name: str = ""
    explains: str = ""
    tokens: tuple[str, ...]
    scores: tuple[float, ...]
    modality: tuple[str, ...]
    pictures: tuple[Pictured, ...] = ()
    gap: Number = None


@dataclass(frozen=True, kw_only=True)
class Fit:
    """All methods fitted on the same pairs, and what became of them."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    methods: tuple[Method, ...]
    points: tuple[Point, ...]
    tasks: tuple[Task, ...]
    generations: tuple[Generation, ...] = ()
    generated: Mapping[str, Mapping[str, Number]] = field(default_factory=dict)
    credits: tuple[Credited, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which weights."""

    name: str
    fingerprint: Any = None
    dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class Head:
    """What both kinds of record begin with."""

    grains: str
    kind: str
    command: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: Model
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    neutral: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Comparison(Head):
    """What `grains compare` writes.

    Args:
        levels: of damage, in units of the measure.
        fits: one a behaviour.
        measure: of damage: `kl` in nats a token, or `perplexity_ratio`.
    """

    levels: tuple[float, ...]
    fits: tuple[Fit, ...]
    measure: str = "kl"

    def at(self, level: float) -> str:
        """Return a level in words."""
        if self.measure == "kl":
            return f"KL {level:g} nats a token"
        return f"{self.measure.replace('_', ' ')} {level:g}"


@dataclass(frozen=True, kw_only=True)
class SweepCell:
    """One setting of a sweep, on validation pairs."""

    arm: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    layers: str
    coefficient: float
    kl: Number = None
    perplexity_ratio: Number = None
    pairs: int | None = None
    accuracy: Number = None
    margin: Number = None
    gain: Number = None
    round: int | None = None


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A mean over test pairs, and its change against the unsteered."""

    value: Number = None
    change: Change | None = None


@dataclass(frozen=True, kw_only=True)
class Tested:
    """The chosen steering, the unsteered model, or a control, on the test pairs."""

    name: str
    coefficient: Number = None
    kl: Number = None
    perplexity_ratio: Number = None
    accuracy_mean: Shift = Shift()
    accuracy_sum: Shift = Shift()
    margin: Shift = Shift()


@dataclass(frozen=True, kw_only=True)
class Sweep(Head):
    """What `grains sweep` writes."""

    data: Mapping[str, Any] = field(default_factory=dict)
    unsteered: Mapping[str, Number] = field(default_factory=dict)
    cells: tuple[SweepCell, ...]
    chosen: int
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    test: tuple[Tested, ...] = ()
    notes: tuple[str, ...] = ()
    vector: str | None = None
