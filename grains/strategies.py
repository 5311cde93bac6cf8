"""Data parallel for a model of which nothing is trained."""

from __future__ import annotations

from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry


class FrozenDDPStrategy(DDPStrategy):
    """DDP without the wrapper, which torch refuses to put around a model without gradients.

    What is left is what a fit needs: the processes, their samplers, and their collectives.
    """

    def configure_ddp(self) -> None:
        """Wrap the model only if something in it is trained."""
        assert self.lightning_module is not None
        if any(weights.requires_grad for weights in self.lightning_module.parameters()):
            super().configure_ddp()


if "frozen_ddp" not in StrategyRegistry.available_strategies():
    StrategyRegistry.register("frozen_ddp", FrozenDDPStrategy, FrozenDDPStrategy.__doc__ or "")
