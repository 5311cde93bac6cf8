"""Low-rank updates of linear layers, applied at a strength."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from grains.card import Card, check_card
from grains.errors import GrainsError
from grains.models import SteerableModel
from grains.vector_parts import checked_number


class LowRank(NamedTuple):
    """What is added to a linear layer: `up @ down @ input`."""

    down: Float[Tensor, "rank inputs"]
    up: Float[Tensor, "outputs rank"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LoraSteering:
    """An adapter: `coefficient * up @ down` added to the weights of some linear layers.

    The sum is taken of outputs, not of weights, which in low precision would swallow a small update
    and need the old weights kept. Layers are called differently and not replaced, so that the
    model's parameters keep their names while it is steered; peft is not needed.

    Args:
        layers: a linear layer's path, from the transformers model down, to what is added to it.
        coefficient: 1 adds what was trained; any number, also a negative one, scales it.
        card: `model`, `fingerprint`, `settings` and `budget` (`pairs`, `epochs`, `updates`,
            `passes` forward and back of one answer, trained `parameters`, `seconds`).
    """

    layers: Mapping[str, LowRank]
    coefficient: float = 1.0
    card: Card = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = {
            path: LowRank(*(part.detach().to("cpu", torch.float32, copy=True) for part in parts))
            for path, parts in self.layers.items()
        }
        object.__setattr__(self, "layers", kept)
        object.__setattr__(self, "card", check_card(self.card))
        checked_number(self.coefficient, "the coefficient")

    def applied_to(
        self, model: SteerableModel, coefficient: float | None = None, *, strict: bool = True
    ) -> AbstractContextManager[None]:
        """Add the update while the returned context is open; coefficient 0 leaves all alone.

        Args:
            model: the one that the adapter was trained for.
            coefficient: instead of the adapter's own.
            strict: refuse a model of another family or with other weights.

        Raises:
            GrainsError: for another model, at once and not when the context is entered.
        """
        given = self.coefficient if coefficient is None else coefficient
        factor = checked_number(given, "the coefficient")
        if strict and self.card.get("fingerprint", model.fingerprint) != model.fingerprint:
            raise GrainsError(
                f"the adapter is for {self.card.get('model')!r}, the model is {model.name!r} or "
                "has other weights; wanted the same weights, or strict=False"
            )
        layers = [(_linear_at(model, path, parts), parts) for path, parts in self.layers.items()]
        return _adding(layers, factor) if factor else nullcontext()

    def to_record(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return `down.<layer>` and `up.<layer>` of each layer, and all else as JSON."""
        tensors = {
            f"{name}.{path}": part
            for path, parts in self.layers.items()
            for name, part in parts._asdict().items()
        }
        return tensors, {"kind": "lora", "coefficient": self.coefficient, "card": self.card}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LoraSteering:
        """Make the adapter again from what `to_record` returned."""
        paths = [name.removeprefix("down.") for name in tensors if name.startswith("down.")]
        layers = {path: LowRank(tensors[f"down.{path}"], tensors[f"up.{path}"]) for path in paths}
        return cls(layers=layers, coefficient=record["coefficient"], card=record["card"])

    def __repr__(self) -> str:
        return f"LoraSteering({len(self.layers)} linear layers x {self.coefficient:g})"


def _linear_at(model: SteerableModel, path: str, parts: LowRank) -> nn.Module:
    """Return a layer that an update fits."""
    try:
        layer: Any = model.lm.get_submodule(path)
    except AttributeError:
        layer = None
    if isinstance(layer, Conv1D):
        found = f"one of {layer.nx} to {layer.nf}"
    else:
        found = f"one of {layer.in_features} to {layer.out_features}" if layer else "none"
    wanted = f"one of {parts.down.shape[1]} to {parts.up.shape[0]}"
    if found != wanted:
        raise GrainsError(
            f"the adapter changes the linear layer {path!r}, {wanted} features; the model "
            f"{model.name!r} has {found}"
        )
    return layer


@contextmanager
def _adding(layers: Sequence[tuple[nn.Module, LowRank]], factor: float) -> Iterator[None]:
    with ExitStack() as stack:
        for layer, (down, up) in layers:
            weight: Any = layer.weight
            like = {"device": weight.device, "dtype": torch.promote_types(weight.dtype, down.dtype)}
            stack.enter_context(_adding_to(layer, down.to(**like), factor * up.to(**like)))
        yield


@contextmanager
def _adding_to(layer: nn.Module, down: Tensor, up: Tensor) -> Iterator[None]:
    before, forward = vars(layer).get("forward"), layer.forward

    def with_update(inputs: Tensor) -> Tensor:
        output = forward(inputs)
        update = linear(linear(inputs.to(down.dtype), down), up)
        return (output + update).to(output.dtype)

    layer.forward = with_update
    try:
        yield
    finally:
        if before is None:
            del layer.forward
        else:
            layer.forward = before
