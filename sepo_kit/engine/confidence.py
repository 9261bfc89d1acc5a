"""The level of the kit's intervals, and how far one reaches at it."""

from __future__ import annotations

from functools import lru_cache

CONFIDENCE = 0.95


@lru_cache
def quantile(freedom: int, together: int = 1) -> float:
    """Student's t with ``freedom`` degrees of freedom at the upper end of the 95 % interval, or of one of several that
    hold ``together`` in 95 % (Bonferroni).

    >>> round(quantile(2), 6), round(quantile(2, 10), 6)
    (4.302653, 14.08905)
    """
    from scipy.special import stdtrit  # as long to import as a command takes to start

    return float(stdtrit(freedom, 1 - (1 - CONFIDENCE) / 2 / together))


def widened(end: float, value: float, freedom: int, together: int) -> float:
    """An end of the interval of ``value``, one of several that hold ``together`` in 95 % (Bonferroni); ``end`` is that
    of its own 95 % interval, by Student's t with ``freedom`` degrees of freedom.

    >>> round(widened(0.5, 1.0, 9, 1), 6), round(widened(0.5, 1.0, 9, 200), 6)
    (0.5, -0.288535)
    """
    return value - quantile(freedom, together) / quantile(freedom) * (value - end)
