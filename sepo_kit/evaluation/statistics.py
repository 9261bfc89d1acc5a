"""Intervals: bootstrap over episodes, and means over seeds. No metric is defined here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

RESAMPLES = 500
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; ``n`` is what was resampled or averaged (0: exact, no interval)."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def exact(value: float | None) -> Estimate:
    """A number that carries no sampling error."""
    return Estimate(value, value, value, 0)


def bootstrap(
    groups: Sequence[int],
    statistic: Callable[[np.ndarray], Sequence[float]],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of a vector statistic under resampling of episodes within each group.

    Parameters
    ----------
    groups
        Group number of each of E episodes: an opponent keeps its number of episodes in every resample.
    statistic
        Maps E multiplicities, shape (E,), to K values.

    Returns
    -------
    low, high
        Shape (K,), the 2.5 and 97.5 percentiles; NaN where the statistic is.
    """
    drawn = resampled(groups, statistic, seed, resamples)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    return low, high


def resampled(
    groups: Sequence[int],
    statistic: Callable[[np.ndarray], Sequence[float]],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """The values of ``bootstrap``'s statistic in every resample, shape (resamples, K)."""
    rng = np.random.default_rng(seed)
    groups = np.asarray(groups)
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    drawn = []
    for _ in range(resamples):
        counts = np.zeros(len(groups))
        for indices in members:
            counts[indices] = np.bincount(
                rng.integers(len(indices), size=len(indices)), minlength=len(indices)
            )
        drawn.append(statistic(counts))
    return np.array(drawn, dtype=float)


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over seeds with its t interval; one seed has no interval.

    >>> over_seeds([1.0, 2.0, 3.0]).value
    2.0
    """
    data = np.asarray(values, dtype=float)
    if len(data) == 0:
        raise ValueError("no values to average")
    mean = float(data.mean())
    if len(data) == 1:
        return Estimate(mean, None, None, 1)
    error = float(data.std(ddof=1) / np.sqrt(len(data)))
    from scipy import stats  # a third of the time that a batch takes to start

    half = error * float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(data) - 1))
    return Estimate(mean, mean - half, mean + half, len(data))


def between(value: float | None, low: float | None, high: float | None) -> str:
    """In words, a number that is known exactly, between bounds, from one side, or not at all.

    >>> nan = float("nan")
    >>> between(0.5, 0.5, 0.5), between(0.5, 0.5, 1.0), between(0.5, 0.5, nan), between(0.5, nan, 0.5)
    ('0.500', '0.500 to 1.000', '≥ 0.500', '≤ 0.500')
    >>> between(nan, nan, nan)
    '–'
    """
    if pd.isna(value):
        return "–"
    if pd.isna(low) or pd.isna(high):
        return f"{'≥' if pd.isna(high) else '≤'} {value:.3f}"
    low, high = round(low, 3) + 0.0, round(high, 3) + 0.0  # no minus in front of a zero
    return f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
