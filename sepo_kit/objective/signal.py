"""Whether a batch can train anything: how much the rollouts of a group differ in each term.

A term that is the same in all rollouts of every group has no in-group spread; no credit scheme can learn from it there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sepo_kit.engine.episode import Episode
from sepo_kit.games.base import GameSpec, Weights
from sepo_kit.objective.credit import Credit

ROUNDING = 1e-12  # a spread below this is that of equal numbers

# term -> pools it is measured in, and what it is in an episode
TERMS = {
    "payoff": (("train",), lambda e: np.mean(e.own)),
    "exploit": (("exploit",), lambda e: np.mean(e.their) - np.mean(e.own)),
    "collusion": (("collusive",), lambda e: np.mean(e.collusion)),
    "externality": (("train", "exploit"), lambda e: np.mean(e.externality)),
}


def spread(episodes: Sequence[Episode]) -> dict[str, float]:
    """Mean over groups of the standard deviation of each term over the group's rollouts; NaN where no pool of
    the batch measures the term."""
    groups: dict[tuple, list[Episode]] = {}
    for episode in episodes:
        groups.setdefault((episode.pool, episode.opponent, episode.group, episode.owner), []).append(episode)
    found = {}
    for term, (pools, value) in TERMS.items():
        members = [m for (pool, *_), m in groups.items() if pool in pools and len(m) > 1]
        found[term] = float(np.mean([np.std([value(e) for e in m]) for m in members])) if members else np.nan
    return found


def idle_groups(episodes: Sequence[Episode], credit: Credit) -> float:
    """Share of the groups that are trained on in which every advantage is 0."""
    idle: dict[tuple, bool] = {}
    number = 0
    for episode in episodes:
        group = (episode.pool, episode.opponent, episode.group)
        for _ in episode.decisions:
            if credit.trained[number]:
                idle[group] = idle.get(group, True) and credit.advantage[number] == 0.0
            number += 1
    return float(np.mean(list(idle.values()))) if idle else 1.0


def silent_penalties(spec: GameSpec, weights: Weights, spreads: dict[str, float]) -> list[str]:
    """Penalties that have a weight and a pool, and yet no spread in any group: they train nothing now."""
    pools = {
        "exploit": spec.pools.exploit,
        "collusion": spec.pools.collusive,
        "externality": (*spec.pools.train, *spec.pools.exploit),
    }
    return [
        name
        for name, pool in pools.items()
        if pool and getattr(weights, name) > 0 and spreads[name] < ROUNDING
    ]
