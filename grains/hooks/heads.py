"""Single attention heads: where their outputs are, to be read and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Parts = tuple[Tensor, ...]


@dataclass(frozen=True)
class Heads:
    """A model's attention heads, counted through its blocks.

    Head h of block b is number `b * per_block + h`. What it puts out is its part of what the
    output projection of its block's attention is given.

    Args:
        projections: the output projection of each block, in order.
        per_block: heads of each.
        width: of a head's output.
    """

    projections: Sequence[nn.Module]
    per_block: int
    width: int

    def __len__(self) -> int:
        """Return how many heads there are in all blocks together."""
        return len(self.projections) * self.per_block

    def part(
        self, joined: Float[Tensor, "*tokens joined"], head: int
    ) -> Float[Tensor, "*tokens width"]:
        """Return a head's part of what its projection is given; a view."""
        return joined.narrow(-1, head % self.per_block * self.width, self.width)

    def hook_reader(
        self, heads: Iterable[int], note: Callable[[int, Tensor], None]
    ) -> list[RemovableHandle]:
        """Have the outputs of some heads noted whenever they are computed, in order."""

        def reader(own: Sequence[int]) -> Callable[[nn.Module, Parts], None]:
            def hook(_module: nn.Module, args: Parts) -> None:
                for head in own:
                    note(head, self.part(args[0], head))

            return hook

        return [
            projection.register_forward_pre_hook(reader(own))
            for projection, own in self._by_block(heads)
        ]

    def hook_editor(
        self, heads: Iterable[int], edit: Callable[[int, Tensor], Tensor]
    ) -> list[RemovableHandle]:
        """Have the outputs of some heads changed before they are joined."""

        def editor(own: Sequence[int]) -> Callable[[nn.Module, Parts], Parts]:
            def hook(_module: nn.Module, args: Parts) -> Parts:
                # Not in place: what the heads put out may be needed as it was by autograd.
                joined = args[0].clone()
                for head in own:
                    self.part(joined, head).copy_(edit(head, self.part(args[0], head)))
                return (joined, *args[1:])

            return hook

        return [
            projection.register_forward_pre_hook(editor(own))
            for projection, own in self._by_block(heads)
        ]

    def _by_block(self, heads: Iterable[int]) -> list[tuple[nn.Module, list[int]]]:
        blocks: dict[int, list[int]] = {}
        for head in sorted(heads):
            blocks.setdefault(head // self.per_block, []).append(head)
        return [(self.projections[block], own) for block, own in blocks.items()]
