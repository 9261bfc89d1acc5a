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


def lower_end(value: float, low: float, freedom: int, together: int) -> float:
    """The lower end of the interval of ``value``, one of several that hold ``together`` in 95 % (Bonferroni); ``low``
    is that of its own 95 % interval, by Student's t with ``freedom`` degrees of freedom.

    >>> round(lower_end(1.0, 0.5, 9, 1), 6), round(lower_end(1.0, 0.5, 9, 200), 6)
    (0.5, -0.288535)
    """
    return value - quantile(freedom, together) / quantile(freedom) * (value - low)
