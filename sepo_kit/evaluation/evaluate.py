"""Policy x game -> Report: the terms, the worst case, Safety, NRA, Robust and fallback rate, with intervals.

Sampling always works. Where the agent can state a distribution and the game is small, ``exact=True`` gives the
numbers without sampling error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from sepo_kit import exact as enumeration
from sepo_kit.adversaries.opponents import resolve_all
from sepo_kit.adversaries.worst_case import KnownWorstCase, find_worst_case
from sepo_kit.engine.episode import Episode
from sepo_kit.engine.policy import Policy
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.engine.tables import EPISODE
from sepo_kit.evaluation.statistics import Estimate, bootstrap
from sepo_kit.evaluation.statistics import exact as exactly
from sepo_kit.games import get_game
from sepo_kit.games.base import POOLS, Game, GameSpec, Pools, Weights
from sepo_kit.objective.terms import Against, Terms, guaranteed, objective, terms_of

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
    episodes: list[Episode]
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
        How far to look for the worst case: "none", "quick" or "search", as in ``find_worst_case``.

    Raises
    ------
    ValueError
        Unknown game or opponent, no episodes, or an agent, opponent or game that cannot be enumerated.
    """
    game = get_game(game)
    weights = game.spec.eval_weights if weights is None else weights
    if episodes < 1:
        raise ValueError(f"episodes must be >= 1, got {episodes}")
    spec = game.spec if pools is None else replace(game.spec, pools=pools)
    members = [(pool, name) for pool in POOLS for name in spec.pools[pool]]
    opponents = resolve_all(game, (name for _, name in members), agent)
    known = find_worst_case(game, agent, worst_case, seed)
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
    return report(agent.name, game, played, weights, seed, pools, known)


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
) -> Report:
    """The report of episodes that were played against all four pools.

    ``pools``: if they are not the game's own; ``known``: what is known of the agent's worst case.
    """
    known = known or KnownWorstCase()
    weights = game.spec.eval_weights if weights is None else weights
    spec = game.spec if pools is None else replace(game.spec, pools=pools)
    means = EpisodeMeans.of_episodes(spec, episodes)
    found, fallback = means.terms()
    found = replace(found, worst_case=known.value)
    values = metrics_of(spec, found, weights, fallback)

    def statistic(counts: np.ndarray) -> list[float]:
        terms, share = means.terms(counts)
        terms = replace(terms, worst_case=known.value)
        return [np.nan if v is None else v for v in metrics_of(spec, terms, weights, share).values()]

    ends = np.stack(bootstrap(means.group, statistic, seed), axis=1)  # (K, 2)
    estimates = {
        metric: Estimate(
            value, *((None, None) if value is None or np.isnan(end).any() else end.tolist()), len(episodes)
        )
        for (metric, value), end in zip(values.items(), ends, strict=True)
    }
    estimates |= _worst_case(spec, found, weights, known, estimates["guaranteed"])
    return Report(name, game.spec.id, found, estimates, weights, list(episodes), known)


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


MEANS = ("own", "their", "collusion", "externality")


@dataclass(frozen=True)
class EpisodeMeans:
    """All that the terms need of E episodes, so that any reweighing of them is a weighted mean.

    ``names``: the (pool, opponent) pairs; ``group``: which of them each episode was played against, shape (E,).
    ``means``: per episode and round, in the order of ``MEANS``, shape (E, 4). ``decisions`` and ``unread``: how many
    decisions an episode has, and how many of them could not be read, shape (E,).
    """

    spec: GameSpec
    names: list[tuple[str, str]]
    group: np.ndarray
    means: np.ndarray
    decisions: np.ndarray
    unread: np.ndarray

    @classmethod
    def of_episodes(cls, spec: GameSpec, episodes: Sequence[Episode]) -> EpisodeMeans:
        """From episodes as they were played."""
        names = list(dict.fromkeys((e.pool, e.opponent) for e in episodes))
        number = {name: i for i, name in enumerate(names)}
        return cls(
            spec,
            names,
            np.array([number[e.pool, e.opponent] for e in episodes]),
            np.array([[np.mean(getattr(e, name)) for name in MEANS] for e in episodes]),
            np.array([len(e.decisions) for e in episodes]),
            np.array([sum(d.fallback for d in e.decisions) for e in episodes]),
        )

    @classmethod
    def of_tables(cls, spec: GameSpec, rounds: pd.DataFrame, decisions: pd.DataFrame) -> EpisodeMeans:
        """From stored rounds and decisions (``engine.episode``), a fraction of a second for a hundred thousand.

        Raises
        ------
        ValueError
            Columns, rounds or decisions are missing.
        """
        keys = list(EPISODE)
        wanted = {"rounds": (rounds, {*keys, "round", "decisions", *MEANS}),
                  "decisions": (decisions, {*keys, "seat", "fallback"})}  # fmt: skip
        for name, (frame, columns) in wanted.items():
            if missing := sorted(columns - set(frame.columns)):
                raise ValueError(f"the table of {name} has no column {', '.join(missing)}")
        each = rounds.drop_duplicates([*keys, "round"]).groupby(keys, sort=False, observed=True)
        if not (each.size() == spec.rounds).all():
            raise ValueError(f"an episode of {spec.id} has {spec.rounds} rounds, and some are missing")
        means = each[list(MEANS)].mean()
        pairs = [(pool, opponent) for pool, opponent, *_ in means.index]
        names = list(dict.fromkeys(pairs))
        mine = decisions[decisions["seat"] == 0]
        episode = means.index.get_indexer(pd.MultiIndex.from_frame(mine[keys]))
        counted = np.bincount(episode[episode >= 0], minlength=len(means))
        if (episode < 0).any() or (counted != each["decisions"].sum().to_numpy()).any():
            raise ValueError("the decisions are not those of the rounds, and some are missing")
        return cls(
            spec,
            names,
            np.array([names.index(pair) for pair in pairs]),
            means.to_numpy(float),
            counted,
            np.bincount(episode, mine["fallback"].to_numpy(float), minlength=len(means)).astype(int),
        )

    def terms(self, counts: np.ndarray | None = None) -> tuple[Terms, float]:
        """Terms and fallback rate where episode i counts ``counts[i]`` times (default: once)."""
        counts = np.ones(len(self.group)) if counts is None else counts
        total = np.bincount(self.group, weights=counts)
        columns = [np.bincount(self.group, weights=counts * column) / total for column in self.means.T]
        results = {name: Against(*(float(c[i]) for c in columns)) for i, name in enumerate(self.names)}
        return terms_of(self.spec, results), float(counts @ self.unread / max(counts @ self.decisions, 1))
