"""Safety under any weights, without playing again: it is linear in the terms, and the terms do not know the weights.

Here is the arithmetic: the ranking, the weights at which it flips, the front of payoff and penalty. Where the terms
come from is in ``contenders.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sepo_kit.evaluation.statistics import Estimate, exact, over_seeds, percentiles, reach
from sepo_kit.games.base import GameSpec, Weights
from sepo_kit.objective.terms import TERMS, Terms, coefficients, row_of

WEIGHTS = ("exploit", "collusion", "externality")
KINDS = ("base", "sft", "sepo", "worst-case", "reference", "scripted")
TINY = 1e-12  # differences below are rounding


@dataclass(frozen=True, eq=False)
class Contender:
    """An agent by its terms.

    Attributes
    ----------
    name, kind
        What it is called, and one of ``KINDS``.
    terms
        u, e, c and x per round (per hand in Kuhn poker), unscaled, in the order of ``TERMS``, shape (4,).
    samples
        Rows like ``terms``, shape (n, 4): one per training seed, or one per bootstrap resample of its episodes; no
        rows where the terms carry no error.
    seeds
        Whether the samples are seeds; ``terms`` is then their mean.
    episodes
        Of the opponent with the fewest, where the terms were sampled; 0: they are exact.
    within
        Where the samples are seeds with sampled terms: the bootstrap resamples of each, shape (n, R, 4).
    worst_case
        The most that any adversary gains on it per round, unscaled, over seeds their mean, and between which values it
        lies (``high`` None where it is only known from below); None where it is not known.
    """

    name: str
    kind: str
    terms: np.ndarray
    samples: np.ndarray
    seeds: bool = False
    worst_case: Estimate | None = None
    episodes: int = 0
    within: np.ndarray | None = None

    @classmethod
    def exactly(cls, name: str, kind: str, terms: Terms) -> Contender:
        """One whose terms were enumerated, with their worst case where they have one."""
        worst = None if terms.worst_case is None else exact(terms.worst_case)
        return cls(name, kind, row_of(terms), np.zeros((0, len(TERMS))), worst_case=worst)

    def safety(self, spec: GameSpec, weights: Weights) -> Estimate:
        """Safety at ``weights`` with its interval: over seeds and their episodes, else over the episodes."""
        factors = coefficients(spec, weights)
        value = float(self.terms @ factors)
        if not len(self.samples):
            return exact(value)
        drawn = self.samples @ factors
        if self.seeds:
            if self.within is None:
                return over_seeds(drawn)
            return over_seeds(drawn, reach(drawn, *percentiles((self.within @ factors).T, self.episodes)))
        low, high = percentiles(drawn, self.episodes)
        return Estimate(value, float(low), float(high), len(drawn))

    def guaranteed(self, spec: GameSpec, weights: Weights) -> Estimate | None:
        """Safety at ``weights`` with the worst case in exploit's place, between the values that the worst case leaves
        it: ``low`` None where that is only known from below. None where nothing is known of the worst case."""
        if self.worst_case is None:
            return None
        factors = coefficients(spec, weights)
        rest = float(self.terms @ factors) - self.terms[1] * factors[1]

        def at(gain: float | None) -> float | None:
            return None if gain is None else float(rest + max(0.0, gain) * factors[1])

        worst = self.worst_case
        return Estimate(at(worst.value), at(worst.high), at(worst.low), 0)


def ranking(spec: GameSpec, contenders: Sequence[Contender], weights: Weights) -> pd.DataFrame:
    """All contenders by their Safety at ``weights``, the best first.

    Returns
    -------
    DataFrame
        place (equals share one), agent, kind, safety, low, high, the four terms, Safety's two sides in scaled payoff:
        ``gain`` (s * payoff) and ``penalty`` (all that is taken off it), and ``worst_case`` and ``guaranteed`` (Safety
        with it in exploit's place), each with ``_low`` and ``_high``, between which it is known to lie; NaN: not known.
    """
    factors = coefficients(spec, weights)
    rows = []
    for contender in contenders:
        found = contender.safety(spec, weights)
        parts = contender.terms * factors
        rows.append(
            {
                "agent": contender.name,
                "kind": contender.kind,
                "safety": found.value,
                "low": found.low,
                "high": found.high,
                **dict(zip(TERMS, contender.terms.tolist(), strict=True)),
                "gain": float(parts[0]),
                "penalty": float(-parts[1:].sum()) + 0.0,  # no minus in front of a zero
                **_known("worst_case", contender.worst_case),
                **_known("guaranteed", contender.guaranteed(spec, weights)),
            }
        )
    numbers = ["safety", "low", "high", *TERMS, "gain", "penalty", *_known("worst_case", None)]
    numbers += _known("guaranteed", None)
    frame = pd.DataFrame(rows, columns=["place", "agent", "kind", *numbers]).astype(
        dict.fromkeys(numbers, float)
    )
    frame = frame.sort_values("safety", ascending=False, kind="stable")
    frame["place"] = (-frame["safety"].round(9)).rank(method="min").astype(int)
    return frame.reset_index(drop=True)


def _known(name: str, found: Estimate | None) -> dict[str, float | None]:
    """The columns of a number that may be known between bounds only."""
    value, low, high = (None, None, None) if found is None else (found.value, found.low, found.high)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def lines(
    spec: GameSpec, contenders: Sequence[Contender], weights: Weights, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Safety as a line in the weight ``name``, the other two as they are: its values at 0 and its slopes, (n,) each."""
    terms = np.array([c.terms for c in contenders]).reshape(-1, len(TERMS))
    start = terms @ coefficients(spec, replace(weights, **{name: 0.0}))
    return start, terms @ coefficients(spec, replace(weights, **{name: 1.0})) - start


def flips(spec: GameSpec, contenders: Sequence[Contender], weights: Weights) -> pd.DataFrame:
    """Every value of a weight, the other two as they are, at which two contenders change places.

    Returns
    -------
    DataFrame
        One row per weight and pair: ``weight``, ``at`` (> 0), ``up`` and ``down`` (who is ahead above it, and who
        below), ``place`` (the better of the two places they trade); by weight and ``at``.
    """
    names = [c.name for c in contenders]
    found = []
    for name in WEIGHTS:
        start, slope = lines(spec, contenders, weights, name)
        at, up, down = _crossings(start, slope)
        height = start[up] + at * slope[up]
        ahead = (start + at[:, None] * slope > height[:, None] + 1e-9).sum(axis=1)
        found += [
            (name, float(w), names[i], names[j], int(place))
            for w, i, j, place in zip(at, up, down, ahead + 1, strict=True)
        ]
    return pd.DataFrame(found, columns=["weight", "at", "up", "down", "place"])


def _crossings(start: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where lines cross at positive weights, in ascending order: at which, the line that is above from there on, and
    the other, each shape (K,)."""
    one, two = np.triu_indices(len(start), 1)
    steeper = slope[one] - slope[two]
    with np.errstate(divide="ignore", invalid="ignore"):
        at = (start[two] - start[one]) / steeper
    kept = np.flatnonzero((np.abs(steeper) >= TINY) & (at >= TINY))
    kept = kept[at[kept].argsort(kind="stable")]
    rising = steeper[kept] > 0
    return at[kept], np.where(rising, one[kept], two[kept]), np.where(rising, two[kept], one[kept])


def leaders(spec: GameSpec, contenders: Sequence[Contender], weights: Weights) -> pd.DataFrame:
    """Who has the highest Safety over each weight, from 0 to infinity, the other two as they are.

    Returns
    -------
    DataFrame
        ``weight``, ``low``, ``high`` and ``agent``; of equals the first is named.
    """
    found = []
    for name in WEIGHTS:
        start, slope = lines(spec, contenders, weights, name)
        low, leader = 0.0, _first_best(start, slope)
        while contenders:
            slower = slope > slope[leader] + TINY
            meet = np.full(len(start), np.inf)
            meet[slower] = (start[leader] - start[slower]) / (slope[slower] - slope[leader])
            high = max(low, meet.min())
            if high > low:
                found.append((name, low, high, contenders[leader].name))
            if np.isinf(high):
                break
            low, leader = high, _first_best(np.where(meet <= high + TINY, 0.0, -np.inf), slope)
    return pd.DataFrame(found, columns=["weight", "low", "high", "agent"])


def _first_best(height: np.ndarray, slope: np.ndarray) -> int | None:
    """Of the highest lines the one that falls least, the first of equals."""
    if not len(height):
        return None
    highest = np.flatnonzero(height >= height.max() - TINY)
    return int(highest[slope[highest].argmax()])


def steady(spec: GameSpec, contenders: Sequence[Contender], weights: Weights) -> pd.DataFrame:
    """How far each weight can move by itself before any two contenders change places.

    Returns
    -------
    DataFrame
        One row per weight: ``weight``, ``chosen``, ``low`` and ``high`` (0 and infinity where nothing changes), and
        what happens there: ``below`` and ``above`` as pairs (who rises, who falls), None where nothing does.
    """
    names = [c.name for c in contenders]
    rows = []
    for name in WEIGHTS:
        chosen = getattr(weights, name)
        at, up, down = _crossings(*lines(spec, contenders, weights, name))
        under, over = (at < chosen - TINY).sum() - 1, (at <= chosen + TINY).sum()
        rows.append(
            {
                "weight": name,
                "chosen": chosen,
                "low": float(at[under]) if under >= 0 else 0.0,
                "high": float(at[over]) if over < len(at) else np.inf,
                "below": (names[down[under]], names[up[under]]) if under >= 0 else None,
                "above": (names[up[over]], names[down[over]]) if over < len(at) else None,
            }
        )
    return pd.DataFrame(rows)


def told(ranges: pd.DataFrame) -> pd.DataFrame:
    """``steady`` to be read: who passes whom at the nearest flip below and above, "nobody" where nothing changes."""
    return ranges.assign(
        **{side: [passes(pair) or "nobody" for pair in ranges[side]] for side in ("below", "above")}
    )


def passes(pair: tuple[str, str] | None) -> str:
    """
    >>> passes(("grim-trigger", "tit-for-tat")), passes(None)
    ('grim-trigger passes tit-for-tat', '')
    """
    return "" if pair is None else f"{pair[0]} passes {pair[1]}"


def front(ranked: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``ranking`` that none beats in both gain and penalty, by penalty: whatever the price of the penalty
    as a whole, the best is among them."""
    gain, penalty = ranked["gain"].to_numpy(), ranked["penalty"].to_numpy()
    worse = (gain[None] >= gain[:, None] - TINY) & (penalty[None] <= penalty[:, None] + TINY)
    strictly = (gain[None] > gain[:, None] + TINY) | (penalty[None] < penalty[:, None] - TINY)
    return ranked[~(worse & strictly).any(axis=1)].sort_values(["penalty", "gain"], kind="stable")
