"""What counts as a number, wherever a user may give one."""

from __future__ import annotations

import math
from numbers import Integral

import numpy as np


def is_finite(value: float | np.number) -> bool:
    """Whether a number is finite, and one that a float can hold: Python's whole numbers go beyond.

    >>> is_finite(2), is_finite(10**400), is_finite(np.float32("inf"))
    (True, False, False)
    """
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def require_count(name: str, value: object, least: int = 1) -> None:
    """ValueError unless ``value``, of Python or of NumPy, is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
