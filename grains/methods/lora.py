"""Low-rank adapters trained on the same pairs: the rival that changes weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from tqdm.auto import tqdm
from transformers.pytorch_utils import Conv1D

from grains.card import plain
from grains.errors import GrainsError, did_you_mean
from grains.methods.adapter import LoraSteering, LowRank
from grains.methods.base import METHODS, Candidate, Material, Method
from grains.models import SteerableModel
from grains.types import ContrastivePair, Reduction, checked_choice

Loss = Literal["dpo", "sft"]
"""What an adapter is trained for: the preference, or the chosen answers' likelihood."""

_ALL = "all-linear"
_LONGEST_GRADIENT = 1.0


@final
@METHODS.register("lora")
@dataclass(frozen=True, kw_only=True)
class Lora(Method):
    """A low-rank adapter trained by DPO, or on the chosen answers; needs the extra `lora`.

    Each epoch offers its adapter, so that validation pairs say how long to train. AdamW, its rate
    falling linearly to 0. Sources: Hu et al., ICLR 2022 (arXiv 2106.09685); Rafailov et al.,
    NeurIPS 2023 (arXiv 2305.18290).

    Args:
        loss: `dpo`, or `sft`: the negative log-likelihood of the chosen answers.
        beta: of DPO: how soon a pair counts as learnt.
        reduction: how the log-probabilities of an answer's tokens become one number.
        rank: of the update.
        alpha: the update is scaled by `alpha / rank`.
        targets: `all-linear` for every linear layer of the decoder blocks, or some of their names,
            such as `q_proj, v_proj`.
        learning_rate: at the start.
        epochs: how often each pair is seen.
        batch_size: pairs in one update.
        seed: of the first weights and the order of pairs; the comparison's, if not given.
    """

    loss: Loss = "dpo"
    beta: float = 0.1
    reduction: Reduction = "sum"
    rank: int = 8
    alpha: float = 16.0
    targets: str = _ALL
    learning_rate: float = 1e-3
    epochs: int = 2
    batch_size: int = 4
    seed: int | None = None

    def __post_init__(self) -> None:
        checked_choice(self.loss, Loss, "loss")
        checked_choice(self.reduction, Reduction, "reduction")
        for name in ("beta", "rank", "alpha", "learning_rate", "epochs", "batch_size"):
            if not getattr(self, name) > 0:
                raise GrainsError(f"{name} is {getattr(self, name)!r}; wanted more than 0")

    def fit(self, material: Material) -> list[Candidate]:
        """Train one adapter and offer it as it is after each epoch."""
        peft, started = _peft(), time.monotonic()
        model, seed = material.model, material.seed if self.seed is None else self.seed
        pairs = [pair for batch in material.batches for pair in batch.pairs]
        targets = _targets(model, self.targets)
        config = peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=targets,
            fan_in_fan_out=isinstance(model.lm.get_submodule(targets[0]), Conv1D),
        )
        card = {"model": model.name, "fingerprint": model.fingerprint}
        card["settings"] = plain({**METHODS.spec(self), "seed": seed})
        known = self._unsteered(material)
        candidates = []
        with _trainable(model, targets, config, seed) as adapters:
            weights = [weight for parts in adapters.values() for weight in parts]
            for epoch in self._epochs(model, pairs, known, weights, seed, material.quiet):
                layers = {
                    path: LowRank(down, up * (self.alpha / self.rank))
                    for path, (down, up) in adapters.items()
                }
                budget = {
                    "pairs": len(pairs),
                    "epochs": epoch,
                    "updates": epoch * math.ceil(len(pairs) / self.batch_size),
                    "passes": epoch * len(pairs) * (2 if self.loss == "dpo" else 1),
                    "parameters": sum(weight.numel() for weight in weights),
                    "seconds": round(time.monotonic() - started, 1),
                }
                steering = LoraSteering(layers=layers, card={**card, "budget": budget})
                candidates.append(Candidate(f"epoch {epoch}", steering))
        return candidates

    def restored(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LoraSteering:
        """Make an adapter again."""
        return LoraSteering.from_record(record, tensors)

    def _epochs(
        self,
        model: SteerableModel,
        pairs: Sequence[ContrastivePair],
        known: Float[Tensor, " pairs"],
        weights: Sequence[Tensor],
        seed: int,
        quiet: bool,
    ) -> Iterator[int]:
        """Train the weights, and yield after each epoch its number, from 1."""
        generator = torch.Generator().manual_seed(seed)
        total = self.epochs * math.ceil(len(pairs) / self.batch_size)
        optimizer = torch.optim.AdamW(weights, lr=self.learning_rate, weight_decay=0.0)
        rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total)
        with tqdm(total=total, desc="Adapter", leave=False, delay=2, disable=quiet) as bar:
            for epoch in range(1, self.epochs + 1):
                order = torch.randperm(len(pairs), generator=generator)
                for rows in order.split(self.batch_size):
                    loss = self._loss(model, [pairs[row] for row in rows.tolist()], known[rows])
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(weights, _LONGEST_GRADIENT)
                    optimizer.step()
                    rate.step()
                    bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
                    bar.update()
                yield epoch

    def _unsteered(self, material: Material) -> Float[Tensor, " pairs"]:
        """Return the margins from which DPO counts."""
        if self.loss == "sft":
            return torch.zeros(sum(len(batch.pairs) for batch in material.batches))
        bar = tqdm(material.batches, desc="Unsteered", leave=False, delay=2, disable=material.quiet)
        with torch.no_grad():
            return torch.cat([self._margin(material.model, batch.pairs) for batch in bar])

    def _loss(
        self, model: SteerableModel, pairs: Sequence[ContrastivePair], known: Tensor
    ) -> Float[Tensor, ""]:
        if self.loss == "sft":
            encoded = model.encode(pairs, "chosen")
            return -model.answer_log_prob(encoded, reduction=self.reduction).mean()
        moved = self._margin(model, pairs) - known
        return -logsigmoid(self.beta * moved).mean()

    def _margin(
        self, model: SteerableModel, pairs: Sequence[ContrastivePair]
    ) -> Float[Tensor, " pairs"]:
        """Return log p(chosen) - log p(rejected), both sides in one pass."""
        encoded = model.encode([*pairs, *(pair.swapped() for pair in pairs)], "chosen")
        chosen, rejected = model.answer_log_prob(encoded, reduction=self.reduction).chunk(2)
        return chosen - rejected


def _targets(model: SteerableModel, wanted: str) -> list[str]:
    """Return the paths of the decoder blocks' linear layers, or of those with the wanted names."""
    linear = [
        name
        for name, module in model.blocks.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]
    names = {name.rpartition(".")[2] for name in linear}
    chosen = names if wanted == _ALL else {name.strip() for name in wanted.split(",")}
    for name in sorted(chosen - names):
        raise GrainsError(
            f"targets is {wanted!r}, and no linear layer of {model.name!r} is named {name!r}; "
            f"{did_you_mean(name, [_ALL, *names])}"
        )
    return [f"{model.blocks_path}.{name}" for name in linear if name.rpartition(".")[2] in chosen]


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise GrainsError(
            "method 'lora' trains with peft, which is not installed: "
            "pip install 'grains-steering[lora]'"
        ) from error
    return peft


@contextmanager
def _trainable(
    model: SteerableModel, targets: Sequence[str], config: Any, seed: int
) -> Iterator[dict[str, LowRank]]:
    """Let peft put an adapter in, and take it out again whatever happens."""
    lm = model.lm
    attributes = set(vars(lm))
    replaced = {path: lm.get_submodule(path) for path in targets}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # the CPU's alone, where weights are drawn
            _peft().inject_adapter_in_model(config, lm)
        adapters = {}
        for path in targets:
            layer: Any = lm.get_submodule(path)
            parts = (layer.lora_A["default"], layer.lora_B["default"])
            # In float32 whatever the model's dtype: bfloat16 would swallow most updates.
            adapters[path] = LowRank(*(part.float().weight for part in parts))
        yield adapters
    finally:
        for path, layer in replaced.items():
            lm.set_submodule(path, layer)
        for name in set(vars(lm)) - attributes:
            delattr(lm, name)
