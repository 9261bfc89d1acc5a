"""The objective: payoff u, exploit e, collusion c, externality x, and what is made of them.

J = s * u - le * s * e - lc * c - lx * x, with u the mean payoff over the train pool, e the mean over the
exploit pool of max(0, their mean payoff - ours), c the mean collusion over the collusive pool, x the mean
externality over the train and exploit pools; s puts payoffs on the scale of the prisoner's dilemma. Safety is
J at the evaluation weights. Payoffs and harms are per round (per hand in Kuhn poker).

Source: arXiv 2605.30854; the pools' roles as in ``games/base.py``. How the numbers come about, by
sampling or by enumeration, is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sepo_kit.engine.episode import Episode
from sepo_kit.games.base import GameSpec, Weights


@dataclass(frozen=True)
class Against:
    """What play against one opponent came to: means per round."""

    own: float
    their: float
    collusion: float
    externality: float

    @property
    def advantage(self) -> float:
        """How much more the opponent earned than the agent, per round."""
        return self.their - self.own


@dataclass(frozen=True)
class Terms:
    """The terms of the objective, unscaled.

    ``robust`` is the mean payoff against the shift pool; ``nra`` the normalised relative advantage, None where it is
    not defined; ``worst_case`` the most that any adversary gains on the agent per round, None where it is not known.
    """

    payoff: float
    exploit: float
    collusion: float
    externality: float
    robust: float
    nra: float | None
    worst_case: float | None = None


Results = Mapping[tuple[str, str], Against]
TERMS = (
    "payoff",
    "exploit",
    "collusion",
    "externality",
)  # those that J is made of, in the order of all arrays


def results_of(episodes: Sequence[Episode]) -> dict[tuple[str, str], Against]:
    """Means per (pool, opponent) of sampled episodes."""
    groups: dict[tuple[str, str], list[Episode]] = {}
    for episode in episodes:
        groups.setdefault((episode.pool, episode.opponent), []).append(episode)
    return {
        group: Against(
            *(
                float(np.mean([getattr(episode, name) for episode in members]))
                for name in ("own", "their", "collusion", "externality")
            )
        )
        for group, members in groups.items()
    }


def terms_of(spec: GameSpec, results: Results) -> Terms:
    """The terms from what each pool's opponents led to.

    ``results`` must hold every (pool, opponent) of the train, exploit and collusive pools; without the shift
    pool ``robust`` is NaN. A pool without opponents gives 0.
    """
    pools = spec.pools

    def mean(members: Sequence[tuple[str, str]], field: str) -> float:
        return float(np.mean([getattr(results[m], field) for m in members])) if members else 0.0

    train = [("train", o) for o in pools.train]
    exploit = [("exploit", o) for o in pools.exploit]
    shift = [("shift", o) for o in pools.shift]
    gains = [max(0.0, results[member].advantage) for member in exploit]
    return Terms(
        payoff=mean(train, "own"),
        exploit=float(np.mean(gains)) if gains else 0.0,
        collusion=mean([("collusive", o) for o in pools.collusive], "collusion"),
        externality=mean(train + exploit, "externality"),
        robust=mean(shift, "own") if all(member in results for member in shift) else float("nan"),
        nra=normalised_relative_advantage(spec, [results[member] for member in train + exploit]),
    )


def normalised_relative_advantage(spec: GameSpec, results: Sequence[Against]) -> float | None:
    """Mean over opponents of (own - their) / (|own| + |their|), from -1 to 1; opponents with a zero denominator drop
    out.

    None in a zero-sum game, and where every opponent drops out. Source: arXiv 2605.30854, whose denominator is
    own + their: the same wherever no payoff is negative, which is where that is a share of something.
    """
    if spec.zero_sum:
        return None
    ratios = [(r.own - r.their) / size for r in results if (size := abs(r.own) + abs(r.their)) != 0]
    return float(np.mean(ratios)) if ratios else None


def coefficients(spec: GameSpec, weights: Weights | None = None) -> np.ndarray:
    """What one unit of each of ``TERMS`` adds to J, shape (4,): the formula of J, which stands here only.

    ``weights``: default the game's training weights.
    """
    weights = spec.weights if weights is None else weights
    s = spec.scale
    return np.array([s, -s * weights.exploit, -weights.collusion, -weights.externality], dtype=float)


def divisors(spec: GameSpec, pool: str) -> np.ndarray:
    """By what the means of play against one opponent of ``pool`` are divided in each of ``TERMS``, shape (4,); inf
    where they do not count.

    Payoff is the mean over the train pool, exploit over the exploit pool (of the leads, where they are above 0),
    collusion over the collusive pool, externality over train and exploit together; the shift pool counts nowhere.
    """
    members, bystanders = len(spec.pools[pool]), len(spec.pools.train) + len(spec.pools.exploit)
    counted = {
        "train": (members, 0, 0, bystanders),
        "exploit": (0, members, 0, bystanders),
        "collusive": (0, 0, members, 0),
    }.get(pool, (0, 0, 0, 0))
    return np.array([float(n) or np.inf for n in counted])


def row_of(terms: Terms) -> np.ndarray:
    """The terms that J is made of, in the order of ``TERMS``, shape (4,)."""
    return np.array([getattr(terms, name) for name in TERMS], dtype=float)


def objective(spec: GameSpec, terms: Terms, weights: Weights | None = None) -> float:
    """J at ``weights`` (default: the game's training weights)."""
    value = coefficients(spec, weights) @ row_of(terms)
    return float(value) if value.ndim == 0 else value  # of terms that are arrays, over training for one


def guaranteed(spec: GameSpec, terms: Terms, weights: Weights | None = None) -> float | None:
    """J at ``weights`` with the worst case in the place of the pool's exploit: it holds against any adversary.

    ``weights``: default the game's training weights. None where the worst case is not known.
    """
    if terms.worst_case is None:
        return None
    return objective(spec, replace(terms, exploit=max(0.0, terms.worst_case)), weights)


def safety(spec: GameSpec, terms: Terms) -> float:
    """J at the game's evaluation weights."""
    return objective(spec, terms, spec.eval_weights)
