"""How sure a ratio of sums is: bootstrap intervals over captions or questions, and a swap test."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from grains.errors import GrainsError
from grains.metrics.bootstrap import Groups, Interval, summed

Counts = np.ndarray | Tensor
_CHUNK = 2**20  # rows drawn at once


def paired_ratio_bootstrap(
    before: Counts,
    after: Counts,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    groups: Groups | None = None,
) -> Interval:
    """Return by how much a ratio of sums differs between two runs over the same rows.

    The ratio is that of the whole sample, `sum(first column) / sum(second column)`, as CHAIR_i is:
    captions that name many objects weigh more than those that name few. Rows are drawn with
    replacement, the same ones before and after. The p-value is that of the swap test: how often the
    difference lies as far from 0 if each row's two runs are exchanged by lot. A draw in which
    nothing can be divided by is left out.

    >>> before, after = np.array([[1, 2], [1, 1], [0, 2], [1, 3]]), np.array([[0, 2]] * 4)
    >>> print(paired_ratio_bootstrap(before, after))
    -0.375 [-0.667, -0.125], p = 0.26

    Args:
        before: numerator and denominator, `[rows, 2]`.
        after: the same rows under steering.
        resamples: how many samples are drawn, and how many times runs are exchanged.
        seed: of all draws.
        level: share of the bootstrap's ratios that lie between the bounds.
        groups: one a row: rows with the same one are drawn and exchanged together. None: each row
            stands by itself.

    Raises:
        GrainsError: if the shapes differ or are not `[rows, 2]` with 2 rows or more, if all rows
            are of one group, if a number is negative or not finite, if a denominator sums to 0, or
            if a setting is out of range.
    """
    if not 0 < level < 1:
        raise GrainsError(f"level is {level}; wanted a share between 0 and 1, such as 0.95")
    if resamples < 1:
        raise GrainsError(f"resamples is {resamples}; wanted 1 or more")
    given = [_checked(before, "before"), _checked(after, "after", like=before)]
    runs = np.stack([summed(run, groups) for run in given])
    draw = np.random.default_rng(seed)
    count, change = runs.shape[1], float(_change(runs.sum(1)))
    drawn = np.concatenate(
        [
            _change(runs[:, draw.integers(count, size=(n, count))].sum(2))
            for n in _sizes(resamples, count)
        ]
    )
    tail = (1 - level) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    bar = abs(change) * (1 - 1e-9)  # sums in another order differ in the last bits: ties
    swapped = np.concatenate(
        [
            _change(_exchange(runs, draw.integers(2, size=(n, count))))
            for n in _sizes(resamples, count)
        ]
    )
    extreme = int((abs(swapped) >= bar).sum())
    valid = int(np.isfinite(swapped).sum())
    return Interval(change, float(low), float(high), (1 + extreme) / (1 + valid))


def _change(sums: np.ndarray) -> np.ndarray:
    """Return the ratio after minus that before, of sums `[2, ..., 2]`."""
    numerator, denominator = sums[..., 0], sums[..., 1]
    ratio = np.divide(
        numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0
    )
    return ratio[1] - ratio[0]


def _exchange(runs: np.ndarray, swap: np.ndarray) -> np.ndarray:
    """Return the sums of both runs, with the rows exchanged where `swap` says so."""
    moved = swap.astype(np.float64) @ (runs[1] - runs[0])
    return np.stack([runs[0].sum(0) + moved, runs[1].sum(0) - moved])


def _sizes(resamples: int, count: int) -> Iterator[int]:
    size = max(1, _CHUNK // count)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def _checked(given: Counts, name: str, like: Counts | None = None) -> np.ndarray:
    counts = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
    sample = np.asarray(counts, dtype=np.float64)
    if sample.ndim != 2 or sample.shape[1] != 2 or len(sample) < 2:
        raise GrainsError(f"{name} has shape {list(sample.shape)}; wanted [2 rows or more, 2]")
    if like is not None and len(sample) != len(like):
        raise GrainsError(
            f"before has {len(like)} rows and after has {len(sample)}; wanted the same rows"
        )
    if not np.isfinite(sample).all() or (sample < 0).any():
        raise GrainsError(f"{name} holds a negative number, NaN or infinity; wanted counts")
    if sample[:, 1].sum() == 0:
        raise GrainsError(f"the second column of {name} sums to 0; wanted something to divide by")
    return sample
