"""Limits instead of weights: say what a penalty may at most be, and let dual ascent find its weight.

Maximise s * u subject to term <= limit for every limited term: the weight of a term rises while the term is above its
limit and falls, to 0 at the least, while it is below. Source: projected dual ascent as in constrained Markov
decision processes (Altman 1999).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sepo_kit.games.base import Weights
from sepo_kit.games.numbers import is_finite
from sepo_kit.objective.terms import Terms

# what can be limited -> the weight that follows the limit
LIMITED = {
    "exploit": "exploit",
    "collusion": "collusion",
    "externality": "externality",
    "worst_case": "exploit",
}


class DualAscent:
    """Weights that follow limits.

    Parameters
    ----------
    limits
        "exploit", "worst_case", "collusion", "externality" -> the most it may be: the first two in payoff per round,
        the harms in [0, 1]. The weight of exploit follows the limit on the worst case. Terms without a limit keep
        their weight.
    start
        The weights to begin with.
    rate
        How much a weight moves per step and unit of violation, > 0.

    Raises
    ------
    ValueError
        Unknown term, a limit that is negative or no number, or a rate that is not positive.

    >>> dual = DualAscent({"exploit": 0.05}, Weights(1, 1, 1), rate=0.5)
    >>> dual.update(Terms(2.0, 0.25, 0.0, 0.0, 0.0, None)).exploit
    1.1
    """

    def __init__(self, limits: Mapping[str, float], start: Weights, rate: float = 0.5) -> None:
        if not isinstance(limits, Mapping):
            raise ValueError(
                f"limits must be numbers by name, on some of {', '.join(LIMITED)}, or {{}} for none, got {limits!r}"
            )
        unknown = sorted(set(limits) - set(LIMITED), key=str)
        if unknown:
            raise ValueError(f"limits must be on {', '.join(LIMITED)}, got {', '.join(map(repr, unknown))}")
        if {"exploit", "worst_case"} <= set(limits):
            raise ValueError(
                "limits must be on exploit or on worst_case, not on both: one weight follows them"
            )
        for name, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, int | float) or not is_finite(limit):
                raise ValueError(f"limits[{name!r}] must be a finite number >= 0, got {limit!r}")
            if limit < 0:
                raise ValueError(f"limits[{name!r}] must be >= 0, got {limit!r}: no penalty is ever below 0")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not is_finite(rate) or rate <= 0:
            raise ValueError(f"the dual rate must be > 0, got {rate!r}")
        self.limits = dict(limits)
        self.weights = start
        self.rate = rate

    def update(self, terms: Terms) -> Weights:
        """Move the weights by one step of dual ascent on what a batch showed; the new weights."""
        moved = {
            LIMITED[name]: max(
                0.0, getattr(self.weights, LIMITED[name]) + self.rate * (getattr(terms, name) - limit)
            )
            for name, limit in self.limits.items()
        }
        self.weights = replace(self.weights, **moved)
        return self.weights
