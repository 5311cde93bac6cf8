"""What steering costs: how far the model moves on text that has nothing to do with the behaviour.

No gain is worth quoting without this. A coefficient that destroys the model also "gains" wherever
the unsteered accuracy lies below chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from grains.data.base import pair_sha256, sha256_of
from grains.errors import GrainsError
from grains.metrics import MeanKL, TokenPerplexity
from grains.models import SteerableModel
from grains.models.encoding import Encoded
from grains.types import ContrastivePair


class Damage(NamedTuple):
    """Distance from the unsteered model on neutral text.

    `kl` is the mean KL divergence KL(unsteered || steered) a token, in nats. `perplexity_ratio` is
    the steered perplexity over the unsteered one.
    """

    kl: float
    perplexity_ratio: float


Batch = Sequence[str | ContrastivePair]
NO_DAMAGE = Damage(0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most damage that steering may do.

    Args:
        max_kl: in nats a token.
        max_perplexity_ratio: above 1.
    """

    max_kl: float = 0.1
    max_perplexity_ratio: float = 1.1

    def __post_init__(self) -> None:
        """Refuse a budget that nothing fits."""
        for name, least, wanted in (
            ("max_kl", 0, "more than 0 nats a token"),
            ("max_perplexity_ratio", 1, "more than 1"),
        ):
            given = getattr(self, name)
            number = isinstance(given, Real) and not isinstance(given, bool)
            if not (number and float(given) > least):
                raise GrainsError(f"{name} is {given!r}; wanted {wanted}")

    def spent(self, damage: Damage) -> float:
        """Return the larger of the two shares of the budget that are used up; 1 is all of it."""
        if not (math.isfinite(damage.kl) and math.isfinite(damage.perplexity_ratio)):
            return math.inf
        ratio = math.log(damage.perplexity_ratio) / math.log(self.max_perplexity_ratio)
        return max(damage.kl / self.max_kl, ratio)


class NeutralText:
    """The unsteered model's predictions on neutral text, kept to measure damage against.

    Of a plain text the opening quarter counts as the prompt and the rest is scored, so that every
    position scope steers something and is seen. Of a pair, with pictures or without, the chosen
    answer is scored.

    Args:
        model: the model; no steering may be applied while this is made.
        texts: texts, or pairs; some thousand scored tokens are enough for a mean KL within a few
            percent.
        token_budget: positions in one forward pass.
        quiet: without a progress bar.
    """

    def __init__(
        self,
        model: SteerableModel,
        texts: Sequence[str] | Sequence[ContrastivePair],
        *,
        token_budget: int = 2048,
        quiet: bool = False,
    ) -> None:
        if not texts:
            raise GrainsError("there are no neutral texts; wanted one or more")
        self.model = model
        self.count = len(texts)
        self.pairs = [item for item in texts if isinstance(item, ContrastivePair)]
        self.identity = sha256_of(
            item if isinstance(item, str) else pair_sha256(item) for item in texts
        )
        by_length = sorted(texts, key=self._length)
        size = max(1, token_budget // self._length(by_length[-1]))
        self._batches = [by_length[i : i + size] for i in range(0, len(by_length), size)]
        # Half precision halves the memory of tokens x vocabulary; both sides are rounded alike,
        # so that the unsteered model is at distance 0 from itself exactly.
        self._quiet = quiet
        known = [self._predict(batch) for batch in self._bar("Unsteered neutral text")]
        self._unsteered = [logits for logits, _ in known]
        self._targets = [targets for _, targets in known]
        self.perplexity = self._perplexity(self._unsteered)

    def damage(self) -> Damage:
        """Return the damage of whatever steering is applied now."""
        divergence, perplexity = MeanKL(), TokenPerplexity()
        bar = self._bar("Steered neutral text")
        for batch, before, targets in zip(bar, self._unsteered, self._targets, strict=True):
            after, _ = self._predict(batch)
            if not after.isfinite().all():
                return Damage(math.inf, math.inf)
            divergence.update(before.to(after.device), after)
            perplexity.update(_log_probs(after, targets))
        return Damage(float(divergence.compute()), float(perplexity.compute()) / self.perplexity)

    def _bar(self, what: str) -> Iterable[Batch]:
        return tqdm(self._batches, desc=what, leave=False, delay=2, disable=self._quiet)

    def _length(self, item: str | ContrastivePair) -> int:
        # In tokens: a short text may come with a large picture.
        if isinstance(item, str):
            return len(self.model.tokenizer(item)["input_ids"])
        return self.model.encoder.read([item], "chosen", self.model.device)[0].input_ids.shape[1]

    def _encode(self, batch: Batch) -> Encoded:
        # Anew each time: a steered vision tower acts here.
        pairs = [item for item in batch if isinstance(item, ContrastivePair)]
        if pairs:
            return self.model.encode(pairs, "chosen")
        texts = [item for item in batch if isinstance(item, str)]
        return self.model.encoder.encode_texts(texts, 0.25, self.model.device)

    def _predict(self, items: Batch) -> tuple[Tensor, Tensor]:
        # [tokens, vocab] and [tokens]: the logits that score each real answer token, and the token.
        batch = self._encode(items)
        width = batch.input_ids.shape[1] - batch.prompt_length
        with torch.no_grad():
            logits = self.model.logits(batch, keep=width + 1)[:, -width - 1 : -1]
        scored = logits[batch.answer_mask[:, batch.prompt_length :].to(logits.device)].half()
        # Tokens that a model rules out, by -1e9 or -inf, are no sign that it is broken.
        return scored.clamp(min=torch.finfo(scored.dtype).min), batch.input_ids[batch.answer_mask]

    def _perplexity(self, predictions: Sequence[Tensor]) -> float:
        perplexity = TokenPerplexity()
        for logits, targets in zip(predictions, self._targets, strict=True):
            perplexity.update(_log_probs(logits, targets))
        return float(perplexity.compute())


def _log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    targets = targets.to(logits.device)
    return -torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")


class DamageCurve:
    """Damage as a function of the coefficient, each value computed once.

    Args:
        text: neutral text.
        applied: coefficient to a context in which that steering is applied.
    """

    def __init__(
        self, text: NeutralText, applied: Callable[[float], AbstractContextManager[object]]
    ) -> None:
        self._text = text
        self._applied = applied
        self.known: dict[float, Damage] = {0.0: NO_DAMAGE}

    def at(self, coefficient: float) -> Damage:
        """Return the damage at a coefficient."""
        if coefficient not in self.known:
            with self._applied(coefficient):
                self.known[coefficient] = self._text.damage()
        return self.known[coefficient]

    def solve(
        self,
        spent: Callable[[Damage], float],
        *,
        start: float = 0.02,
        largest: float = 4.0,
        tolerance: float = 0.02,
    ) -> float:
        """Return the coefficient at which the damage uses up its limit.

        Damage grows with about the square of the coefficient, so each try is read off the power law
        through the two nearest points; where that leaves the bracket, the bracket is halved. What
        is known from earlier searches is used, so a second limit costs little.

        Args:
            spent: share of the limit that a damage uses up; 1 is all of it.
            start: the first try.
            largest: where the search gives up; that coefficient is then returned.
            tolerance: the search ends when the share lies between `1 - tolerance` and 1, or when
                the coefficient is known to within `tolerance`: in low precision damage is a
                staircase. What is returned never exceeds the limit.
        """
        known = sorted((size, spent(damage)) for size, damage in self.known.items() if size >= 0)
        low = max(point for point in known if point[1] <= 1)
        high = min((point for point in known if point[1] > 1), default=(math.inf, math.inf))
        if high[0] <= low[0]:  # no longer growing where it was tried: search anew below
            low = (0.0, 0.0)
        if 1 - tolerance <= low[1]:
            return low[0]
        untried = low[0] == 0 and math.isinf(high[0])
        coefficient = start if untried else min(_next_try(low, high, 1 - tolerance / 2), largest)
        while high[0] > low[0] * (1 + tolerance) and high[0] > 1e-6:
            share = spent(self.at(coefficient))
            if share > 1:
                high = (coefficient, share)
            elif share >= 1 - tolerance or coefficient >= largest:
                return coefficient
            else:
                low = (coefficient, share)
            coefficient = min(_next_try(low, high, 1 - tolerance / 2), largest)
        return low[0]


def _next_try(low: tuple[float, float], high: tuple[float, float], target: float) -> float:
    """Return where a power law through two (coefficient, share) points meets the target."""
    (c0, s0), (c1, s1) = low, high
    known = s0 > 0, math.isfinite(s1)
    if all(known):
        power = math.log(s1 / s0) / math.log(c1 / c0)
        guess = c0 * (target / s0) ** (1 / power)
        # Stay off the ends: the law may be wrong, and an end may be approached forever.
        return min(max(guess, c0 + 0.1 * (c1 - c0)), c1 - 0.1 * (c1 - c0))
    if any(known):
        c, s = (c0, s0) if known[0] else (c1, s1)
        factor = min(max(math.sqrt(target / s), 0.2), 3.0)
        guess = c * factor
        return guess if c0 < guess < c1 else (c0 + c1) / 2
    return 3 * c0 if math.isinf(c1) else (c0 + c1) / 2
