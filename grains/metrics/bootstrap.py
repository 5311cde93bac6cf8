"""How sure a mean is: bootstrap intervals over pairs, and a sign-flip test."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from grains.errors import GrainsError

Numbers = Sequence[float] | np.ndarray | Tensor
Groups = Sequence[Hashable]
_CHUNK = 2**22  # random numbers held at once


class Interval(NamedTuple):
    """A mean, the bounds that its percentile bootstrap gives, and a two-sided p-value."""

    mean: float
    low: float
    high: float
    p_value: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}], p = {self.p_value:.2g}"


def paired_bootstrap(
    before: Numbers,
    after: Numbers,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    groups: Groups | None = None,
) -> Interval:
    """Return the mean of `after - before` over pairs, and how sure it is.

    >>> print(paired_bootstrap([0.0, 0.1, 0.2, 0.3], [1.0, 1.1, 1.2, 1.3]))
    +1.000 [+1.000, +1.000], p = 0.13

    Args:
        before: one number a pair, such as its margin without steering.
        after: one number for the same pair, in the same order.
        resamples: as in `bootstrap_mean`, likewise the rest.
        seed: of all draws.
        level: share of the bootstrap's means that lie between the bounds.
        groups: which pairs hang together, as in `bootstrap_mean`.

    Raises:
        GrainsError: if the lengths differ, else as in `bootstrap_mean`.
    """
    first, second = _checked(before, "before"), _checked(after, "after")
    if len(first) != len(second):
        raise GrainsError(
            f"before has {len(first)} pairs and after has {len(second)}; wanted the same pairs"
        )
    return bootstrap_mean(
        second - first, resamples=resamples, seed=seed, level=level, groups=groups
    )


def bootstrap_mean(
    values: Numbers,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    groups: Groups | None = None,
) -> Interval:
    """Return the mean of independent values, and how sure it is.

    The bounds are percentiles of the means of samples drawn with replacement. The p-value is that
    of the sign-flip test: how often the mean of values with random signs lies as far from 0. It is
    exact, for any number of values, where they are spread evenly about 0 under the null hypothesis;
    of -1, 0 and 1, as differences of accuracy are, it makes McNemar's test. It is never below
    `1 / (resamples + 1)`.

    Args:
        values: one a pair.
        resamples: how many samples are drawn, and how many times signs are flipped.
        seed: of all draws. The same seed and values give the same bits.
        level: share of the bootstrap's means that lie between the bounds.
        groups: one a value: those with the same one hang together, as questions under one prompt
            do, and are drawn together and have one sign. None: each value stands by itself.

    Raises:
        GrainsError: if there are fewer than two values or groups, if a value is not finite, or if
            `level` or `resamples` is out of range.
    """
    if not 0 < level < 1:
        raise GrainsError(f"level is {level}; wanted a share between 0 and 1, such as 0.95")
    if resamples < 1:
        raise GrainsError(f"resamples is {resamples}; wanted 1 or more")
    sample = _checked(values, "values")
    draw = np.random.default_rng(seed)
    mean = float(sample.mean())
    # Of groups, the sums and sizes: a mean over groups drawn anew is one sum over the other.
    sums = summed(np.stack([sample, np.ones(len(sample))], axis=1), groups)
    count = len(sums)

    def drawn(n: int) -> np.ndarray:
        chosen = draw.integers(count, size=(n, count))
        return sums[chosen, 0].sum(1) / sums[chosen, 1].sum(1)

    means = np.concatenate([drawn(n) for n in _chunks(resamples, count)])
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    # Sums of the same numbers in another order differ in the last bits: those are ties.
    bar = abs(mean) * (1 - 1e-9)
    extreme = 0
    for n in _chunks(resamples, count):
        signs = 2.0 * draw.integers(2, size=(n, count)) - 1
        extreme += int((abs(signs @ sums[:, 0]) / len(sample) >= bar).sum())
    return Interval(mean, float(low), float(high), (1 + extreme) / (1 + resamples))


def summed(rows: np.ndarray, groups: Groups | None) -> np.ndarray:
    """Return the sums of the rows of each group; without groups the rows as they are.

    >>> summed(np.array([[1.0, 1.0], [2.0, 1.0], [4.0, 1.0]]), "aba").tolist()
    [[5.0, 2.0], [2.0, 1.0]]

    Args:
        rows: numbers, `[rows, columns]`.
        groups: one a row.

    Raises:
        GrainsError: if there are not as many groups as rows, or all rows are of one group.
    """
    if groups is None:
        return rows
    if len(groups) != len(rows):
        raise GrainsError(f"there are {len(groups)} groups for {len(rows)} values; wanted as many")
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    if len(places) < 2:
        raise GrainsError("all values are of one group; wanted 2 groups or more, for an interval")
    sums = np.zeros((len(places), rows.shape[1]))
    np.add.at(sums, [places[group] for group in groups], rows)
    return sums


def _chunks(resamples: int, count: int) -> Iterator[int]:
    """Split the resamples so that no chunk holds more than `_CHUNK` random numbers."""
    size = max(1, _CHUNK // count)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def _checked(values: Any, name: str) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) < 2:
        raise GrainsError(
            f"{name} has shape {list(sample.shape)}; wanted 2 values or more in a row"
        )
    if not np.isfinite(sample).all():
        raise GrainsError(f"{name} holds NaN or infinity; wanted finite numbers")
    return sample
