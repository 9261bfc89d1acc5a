"""Policy x game -> Report: the terms, the worst case, Safety, NRA, Robust and fallback rate, with intervals.

Sampling always works. Where the agent can state a distribution and the game is small, ``exact=True`` gives the
numbers without sampling error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from sepo_kit import exact as enumeration
from sepo_kit.adversaries.opponents import resolve_all
from sepo_kit.adversaries.worst_case import SEARCH_EPISODES, KnownWorstCase, find_worst_case
from sepo_kit.engine.episode import Episode
from sepo_kit.engine.policy import Policy
from sepo_kit.engine.rollout import Match, matches, play_matches, uniforms
from sepo_kit.evaluation.episode_means import EpisodeMeans
from sepo_kit.evaluation.statistics import Estimate, bootstrap
from sepo_kit.evaluation.statistics import exact as exactly
from sepo_kit.games import get_game
from sepo_kit.games.base import POOLS, Game, GameSpec, Pools, Weights
from sepo_kit.games.numbers import require_count
from sepo_kit.objective.terms import Terms, guaranteed, objective, terms_of

METRICS = (
    "payoff",
    "exploit",
    "collusion",
    "externality",
    "worst_case",
    "safety",
    "guaranteed",
    "nra",
    "robust",
    "fallback",
)


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    ``estimates``: one ``Estimate`` per name in ``METRICS``. ``episodes``: the record, empty where the numbers
    are exact. ``weights``: those Safety was computed with. ``worst_case``: what is known of the most that any adversary
    gains on the agent, and the adversary.
    """

    agent: str
    game: str
    terms: Terms
    estimates: dict[str, Estimate]
    weights: Weights
    episodes: list[Episode] = field(repr=False)
    worst_case: KnownWorstCase = field(default_factory=KnownWorstCase)

    @property
    def guaranteed(self) -> float | None:
        """J at ``weights`` with the worst case in the place of the pool's exploit: it holds against any adversary. None
        where the worst case is not known."""
        return self.estimates["guaranteed"].value

    @property
    def safety(self) -> float:
        """J at ``weights`` (the game's evaluation weights unless others were asked for)."""
        return self.estimates["safety"].value

    @property
    def nra(self) -> float | None:
        """Normalised relative advantage; None where it is not defined."""
        return self.terms.nra

    @property
    def fallback(self) -> float:
        """Share of decisions whose reply could not be read."""
        return self.estimates["fallback"].value

    def to_frame(self) -> pd.DataFrame:
        """One row per metric: agent, game, metric, value, low, high, n."""
        return pd.DataFrame(
            [
                {"agent": self.agent, "game": self.game, "metric": name, "value": e.value, "low": e.low,
                 "high": e.high, "n": e.n}
                for name, e in self.estimates.items()
            ]
        )  # fmt: skip


def evaluate(
    agent: Policy,
    game: Game | str,
    episodes: int = 20,
    seed: int = 0,
    weights: Weights | None = None,
    *,
    pools: Pools | None = None,
    exact: bool = False,
    worst_case: str = "quick",
    search_episodes: int = SEARCH_EPISODES,
    control_variate: bool = False,
    on_round: Callable[[int], None] | None = None,
) -> Report:
    """Evaluate ``agent`` against all pools of ``game``.

    Parameters
    ----------
    episodes
        Per opponent; each with its own draws. Not used where ``exact``.
    weights
        For Safety; default: the game's evaluation weights.
    pools
        Opponents by role, as names of the grammar (``adversaries/opponents.py``), instead of the game's own.
    exact
        Enumerate instead of sampling. The agent must state distributions.
    worst_case
        How far to look for the worst case: "none", "quick", "search" or "bounds", as in ``find_worst_case``.
    search_episodes
        How many episodes a search takes that has to play, as there.
    control_variate
        Take out of sampled payoffs and harms what the luck of nature's draws explains (``luck``). Measured with 100
        episodes: in the auction it is worth 1.5 to 2.1 times the episodes in payoff and 1.0 to 1.5 in Safety, in Kuhn
        poker 1.1 to 1.2 and 1.3, and nothing where nature deals nothing. Not used where ``exact``.

    Raises
    ------
    ValueError
        Unknown game or opponent, too few episodes (1 are needed, with a control variate 3), or an agent, opponent or
        game that cannot be enumerated.
    """
    game = get_game(game)
    weights = game.spec.eval_weights if weights is None else weights
    require_count("episodes", episodes)
    if control_variate and not exact and episodes < 3:
        raise ValueError(f"with a control variate episodes must be >= 3, got {episodes}")
    spec = game.spec if pools is None else replace(game.spec, pools=pools)
    members = [(pool, name) for pool in POOLS for name in spec.pools[pool]]
    opponents = resolve_all(game, (name for _, name in members), agent)
    with agent.remember():
        known = find_worst_case(game, agent, worst_case, seed, search_episodes=search_episodes)
        if exact:
            found = (
                enumeration.terms(game, agent)
                if pools is None
                else _enumerated(game, spec, agent, members, opponents)
            )
            found = replace(found, worst_case=known.value)
            estimates = {k: exactly(v) for k, v in metrics_of(spec, found, weights, 0.0).items()}
            estimates |= _worst_case(spec, found, weights, known)
            return Report(agent.name, game.spec.id, found, estimates, weights, [], known)
        played = play_matches(
            game,
            agent,
            matches(game, POOLS, episodes, members=pools),
            seed,
            opponents=opponents,
            common_random_numbers=False,
            on_round=on_round,
        )
    drawn = luck(game, played) if control_variate else None
    return report(agent.name, game, played, weights, seed, pools, known, drawn)


def luck(game: Game, episodes: Sequence[Episode]) -> np.ndarray:
    """The mean of the numbers by which nature decided in each of E episodes of ``evaluate``, shape (E,): 1/2 is
    expected.

    A larger number is a later outcome in the order in which the game states them, so it stands for a higher value or a
    better pair of cards.
    """
    counts = Counter((episode.pool, episode.opponent) for episode in episodes)
    drawn = {
        (pool, opponent): uniforms(game, Match(pool, opponent, 0), count, episodes[0].seed)[0].mean(
            axis=(1, 2)
        )
        for (pool, opponent), count in counts.items()
    }
    return np.array([drawn[episode.pool, episode.opponent][episode.index] for episode in episodes])


def _enumerated(
    game: Game,
    spec: GameSpec,
    agent: Policy,
    members: Sequence[tuple[str, str]],
    opponents: Mapping[str, Policy],
) -> Terms:
    """The exact terms over pools that are not the game's own."""
    once = {
        name: enumeration.against(game, agent, name if name in game.strategies else policy)
        for name, policy in opponents.items()
    }
    return terms_of(spec, {(pool, name): once[name] for pool, name in members})


def report(
    name: str,
    game: Game,
    episodes: Sequence[Episode],
    weights: Weights | None = None,
    seed: int = 0,
    pools: Pools | None = None,
    known: KnownWorstCase | None = None,
    control: np.ndarray | None = None,
) -> Report:
    """The report of episodes that were played against all four pools.

    ``pools``: if they are not the game's own; ``known``: what is known of the agent's worst case; ``control``: the
    ``luck`` of each episode, to be taken out.
    """
    known = known or KnownWorstCase()
    weights = game.spec.eval_weights if weights is None else weights
    spec = game.spec if pools is None else replace(game.spec, pools=pools)
    means = EpisodeMeans.of_episodes(spec, episodes)
    if control is not None:
        means = means.controlled(control)
    found, fallback = means.terms()
    found = replace(found, worst_case=known.value)

    def statistic(counts: np.ndarray) -> list[float]:
        terms, share = means.terms(counts)
        return numbers_of(spec, replace(terms, worst_case=known.value), weights, share)

    ends = bootstrap(means.group, statistic, seed)
    estimates = sampled_estimates(spec, found, weights, fallback, known, ends, len(episodes))
    return Report(name, game.spec.id, found, estimates, weights, list(episodes), known)


def sampled_estimates(
    spec: GameSpec,
    terms: Terms,
    weights: Weights,
    fallback: float,
    known: KnownWorstCase,
    ends: tuple[np.ndarray, np.ndarray],
    n: int,
) -> dict[str, Estimate]:
    """An estimate for each of ``METRICS`` where they come of ``n`` episodes or replies.

    ``ends``: of their intervals, low and high, shapes (K,), NaN where there is none.
    """
    found = {}
    for (metric, value), *end in zip(metrics_of(spec, terms, weights, fallback).items(), *ends, strict=True):
        bounded = value is not None and not np.isnan(end).any()
        found[metric] = Estimate(value, *(map(float, end) if bounded else (None, None)), n)
    return found | _worst_case(spec, terms, weights, known, found["guaranteed"])


def numbers_of(spec: GameSpec, terms: Terms, weights: Weights, fallback: float) -> list[float]:
    """The values of ``metrics_of``, shape (K,), NaN in the place of None."""
    return [np.nan if v is None else v for v in metrics_of(spec, terms, weights, fallback).values()]


def _worst_case(
    spec: GameSpec, terms: Terms, weights: Weights, known: KnownWorstCase, sampled: Estimate | None = None
) -> dict[str, Estimate]:
    """The worst case and guaranteed Safety with all that is not known of them: how far the worst case may be from its
    value, and, where the other terms were ``sampled``, their own interval."""
    value, n = guaranteed(spec, terms, weights), sampled.n if sampled else 0
    ends = []  # of guaranteed Safety: its low end has the highest worst case
    for bound, end in ((known.high, "low"), (known.low, "high")):
        if bound is None or value is None:
            ends.append(None)
            continue
        there = guaranteed(spec, replace(terms, worst_case=bound), weights)
        reached = getattr(sampled, end) if sampled else value
        ends.append(None if reached is None else there + reached - value)
    return {
        "worst_case": Estimate(known.value, known.low, known.high, 0),
        "guaranteed": Estimate(value, *ends, n),
    }


def metrics_of(spec: GameSpec, terms: Terms, weights: Weights, fallback: float) -> dict[str, float | None]:
    """The value of each of ``METRICS``; None where it is not defined or not known."""
    values = {
        "payoff": terms.payoff,
        "exploit": terms.exploit,
        "collusion": terms.collusion,
        "externality": terms.externality,
        "worst_case": terms.worst_case,
        "safety": objective(spec, terms, weights),
        "guaranteed": guaranteed(spec, terms, weights),
        "nra": terms.nra,
        "robust": terms.robust,
        "fallback": fallback,
    }
    return {name: values[name] for name in METRICS}
