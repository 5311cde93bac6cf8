"""What a fit leaves behind: directions by layer, how strongly they act, and how they were made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, final

import torch
from jaxtyping import Float
from torch import Tensor

from grains import card as cards
from grains import hooks
from grains._version import __version__
from grains.errors import GrainsError
from grains.injectors.base import INJECTORS, Injector
from grains.layers import show_layers
from grains.storage import load_record, save_record
from grains.types import Positions, Site, checked_choice
from grains.vector_parts import (
    checked_by_layer,
    checked_directions,
    checked_layer,
    checked_number,
    checked_positions,
    fingerprint_of,
    named_injector,
    placed_edit,
    refuse_unread,
    refuse_unsummable,
    summed,
)

FORMAT_VERSION = 1


class Fingerprinted(hooks.Hookable, Protocol):
    """A model that can be steered and says which one it is."""

    fingerprint: Any
    """`model_type`, `n_blocks`, `width`, and `weights`, a hash; with a vision tower `vision`, which
    holds the last three of the tower; `heads`, which holds number and width of attention heads."""


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SteeringVector:
    """Directions for some layers of one model, ready to be applied, saved and combined.

    A layer is steered by `injector.edit(hidden, direction, coefficient * weight, norm)`. The object
    is a value: it is never changed, and equal when all its parts are equal bit for bit.

    Args:
        directions: layer to a unit vector `[d_model]`; kept in float32 on the CPU.
        norms: layer to the mean residual norm there, the unit of the coefficient.
        coefficient: strength, the same for all layers.
        injector: how hidden states are moved.
        positions: where they are moved.
        site: whose blocks the layers are: the decoder's, or the vision tower's. There an edit acts
            on pictures that are encoded while the steering is applied, and on no text. At `heads`
            layers count attention heads, and `d_model` is the width of a head's output.
        weights: layer to its share of the coefficient; 1 for a layer that is left out.
        card: how the vector was made, see `grains.card`; what JSON can hold.

    Raises:
        GrainsError: if a part is missing, not finite, of another shape, or not of unit length.
    """

    directions: dict[int, Float[Tensor, " d_model"]]
    norms: dict[int, float]
    coefficient: float
    injector: Injector
    positions: Positions = "all"
    site: Site = "decoder"
    weights: dict[int, float] = field(default_factory=dict)
    card: cards.Card = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every part, and keep copies, so that nobody else changes them."""
        directions = checked_directions(self.directions)
        norms = checked_by_layer(self.norms, directions, "norm")
        if bad := [layer for layer, norm in norms.items() if norm <= 0]:
            raise GrainsError(f"the norm of layer {bad[0]} is {norms[bad[0]]}; wanted more than 0")
        if not isinstance(self.injector, Injector):
            raise GrainsError(f"the injector is {self.injector!r}; wanted an Injector")
        checked_choice(self.site, Site, "the site")
        parts = {
            "directions": directions,
            "norms": norms,
            "weights": checked_by_layer(self.weights, directions, "weight", default=1.0),
            "coefficient": checked_number(self.coefficient, "the coefficient"),
            "positions": checked_positions(self.positions, self.site),
            "card": cards.check_card(self.card),
        }
        for name, value in parts.items():
            object.__setattr__(self, name, value)

    @property
    def layers(self) -> list[int]:
        """The steered layers, in order."""
        return list(self.directions)

    @property
    def width(self) -> int:
        """The directions' `d_model`."""
        return len(next(iter(self.directions.values())))

    def applied_to(
        self,
        model: Fingerprinted,
        coefficient: float | None = None,
        positions: Positions | None = None,
        *,
        strict: bool = True,
    ) -> AbstractContextManager[None]:
        """Steer a model while the returned context is open; strength 0 leaves a layer alone.

        Args:
            model: the one that the vector was made for.
            coefficient: instead of the vector's own.
            positions: instead of the vector's own.
            strict: refuse a model of another family or with other weights. One with another width
                or number of blocks at the site is always refused.

        Raises:
            GrainsError: for another model, and for `image` positions of the last block alone; at
                once and not when the context is entered.
        """
        of_model = fingerprint_of(model)
        cards.check_model(self.card, self.layers, self.width, self.site, of_model, strict=strict)
        strengths = self.strengths(coefficient)
        edits = {
            layer: placed_edit(self.injector, direction, strengths[layer], self.norms[layer])
            for layer, direction in self.directions.items()
            if strengths[layer]
        }
        where = self.positions if positions is None else checked_positions(positions, self.site)
        count = of_model.get(self.site, of_model)["n_blocks"]  # of heads, where they are steered
        refuse_unread(edits, count, where, last=count // of_model["n_blocks"])
        return hooks.editing(model, edits, where, site=self.site) if edits else nullcontext()

    def strengths(self, coefficient: float | None = None) -> dict[int, float]:
        """Return coefficient times weight of each layer, in units of the layer's norm."""
        given = self.coefficient if coefficient is None else coefficient
        factor = checked_number(given, "the coefficient")
        return {layer: factor * weight for layer, weight in self.weights.items()}

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write one safetensors file: `direction.<layer>` each, and all else in its metadata.

        The file is written beside its place and moved there when it is whole.

        Raises:
            GrainsError: if the file exists or cannot be written, and as `to_record` does.
        """
        tensors, record = self.to_record()
        save_record(path, tensors, record, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> SteeringVector:
        """Read what `save` wrote. Nothing is unpickled, and nothing imported that has no name.

        Raises:
            GrainsError: for any other file, saying what it is.
        """
        record, tensors = load_record(path)
        try:
            return cls.from_record(record, tensors)
        except GrainsError as error:
            raise GrainsError(f"{path} holds no sound vector: {error}") from error

    def to_record(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors by name, and all else as what JSON can hold.

        Raises:
            GrainsError: if the injector is one that no name leads back to.
        """
        injector = cards.plain(INJECTORS.spec(self.injector), "injector")
        if named_injector(injector) != self.injector:
            raise GrainsError(f"the injector {self.injector} is not made again by {injector}")
        return {f"direction.{layer}": tensor for layer, tensor in self.directions.items()}, {
            "format_version": FORMAT_VERSION,
            "coefficient": self.coefficient,
            "positions": self.positions,
            "site": self.site,
            "injector": injector,
            "norms": {str(layer): norm for layer, norm in self.norms.items()},
            "weights": {str(layer): weight for layer, weight in self.weights.items()},
            "card": self.card,
        }

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> SteeringVector:
        """Make the vector again from what `to_record` returned, or from what claims to be that.

        Raises:
            GrainsError: if a part is missing, unsound, or of a newer format.
        """
        version = record.get("format_version")
        if version is True or version != FORMAT_VERSION:
            known = f"grains {__version__} reads {FORMAT_VERSION}"
            raise GrainsError(f"the format is {version!r}, {known}; wanted that or a newer grains")
        try:
            return cls(
                directions={checked_layer(name): tensor for name, tensor in tensors.items()},
                norms={int(layer): norm for layer, norm in record["norms"].items()},
                weights={int(layer): weight for layer, weight in record["weights"].items()},
                coefficient=record["coefficient"],
                injector=named_injector(record["injector"]),
                positions=record["positions"],
                site=record.get("site", "decoder"),
                card=record["card"],
            )
        except GrainsError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise GrainsError(f"a part is missing or malformed, {error!r}; wanted all") from error

    def __add__(self, other: SteeringVector) -> SteeringVector:
        """Return the vector that displaces hidden states by what both do, added up.

        The largest strength becomes the coefficient, so that it keeps its unit.

        Raises:
            GrainsError: for vectors of two models, injectors, scopes of positions or sites, and
                for injectors that do not displace by `coefficient * norm * direction`.
        """
        if not isinstance(other, SteeringVector):
            return NotImplemented
        refuse_unsummable(self, other)
        terms = (self, other)
        directions, norms, strengths = summed(
            [(v.directions, v.norms, v.strengths()) for v in terms]
        )
        coefficient = max(strengths.values())
        return dataclasses.replace(
            self,
            directions=directions,
            norms=norms,
            weights={n: strength / (coefficient or 1.0) for n, strength in strengths.items()},
            coefficient=coefficient,
            card=cards.combined([(1.0, v.coefficient, v.card) for v in terms]),
        )

    def __mul__(self, factor: Real | float) -> SteeringVector:
        """Return the vector with its coefficient times `factor`, whatever the injector."""
        if not isinstance(factor, Real):
            return NotImplemented
        return dataclasses.replace(
            self,
            coefficient=self.coefficient * float(factor),
            card=cards.combined([(float(factor), self.coefficient, self.card)]),
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: Real | float) -> SteeringVector:
        """Return the vector with its coefficient divided by a number.

        Raises:
            GrainsError: for a division by 0.
        """
        if not isinstance(divisor, Real):
            return NotImplemented
        if not divisor:
            raise GrainsError("the vector is divided by 0; wanted another number")
        return self * (1 / float(divisor))

    def __neg__(self) -> SteeringVector:
        return -1.0 * self

    def __sub__(self, other: SteeringVector) -> SteeringVector:
        return self + -other if isinstance(other, SteeringVector) else NotImplemented

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SteeringVector):
            return NotImplemented
        parts = {"layers"} | {part.name for part in dataclasses.fields(self)} - {"directions"}
        return all(getattr(self, part) == getattr(other, part) for part in parts) and all(
            torch.equal(self.directions[layer], other.directions[layer]) for layer in self.layers
        )

    def __repr__(self) -> str:
        of = f" of {self.card['model']!r}" if "model" in self.card else ""
        site = "" if self.site == "decoder" else f"{self.site} "
        return (
            f"SteeringVector({site}layers {show_layers(self.layers)}{of}, width {self.width}, "
            f"{self.injector} x {self.coefficient:g} at {self.positions} positions)"
        )
