"""Policy x game -> Report: the terms, Safety, NRA, Robust and fallback rate, with intervals.

Sampling always works. Where the agent can state a distribution and the game is small, ``exact=True`` gives the
numbers without sampling error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sepo_kit import exact as enumeration
from sepo_kit.engine.episode import Episode
from sepo_kit.engine.policy import Policy
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.engine.tables import EPISODE
from sepo_kit.evaluation.statistics import Estimate, bootstrap
from sepo_kit.evaluation.statistics import exact as exactly
from sepo_kit.games import get_game
from sepo_kit.games.base import POOLS, Game, GameSpec, Weights
from sepo_kit.objective.terms import Against, Terms, objective, terms_of

METRICS = (
    "payoff",
    "exploit",
    "collusion",
    "externality",
    "safety",
    "nra",
    "robust",
    "fallback",
)


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    ``estimates``: one ``Estimate`` per name in ``METRICS``. ``episodes``: the record, empty where the numbers
    are exact. ``weights``: those Safety was computed with.
    """

    agent: str
    game: str
    terms: Terms
    estimates: dict[str, Estimate]
    weights: Weights
    episodes: list[Episode]

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
    exact: bool = False,
    on_round: Callable[[int], None] | None = None,
) -> Report:
    """Evaluate ``agent`` against all pools of ``game``.

    Parameters
    ----------
    episodes
        Per opponent; each with its own draws. Not used where ``exact``.
    weights
        For Safety; default: the game's evaluation weights.
    exact
        Enumerate instead of sampling. The agent must state distributions.

    Raises
    ------
    ValueError
        Unknown game, no episodes, or an agent or game that cannot be enumerated.
    """
    game = get_game(game)
    weights = game.spec.eval_weights if weights is None else weights
    if episodes < 1:
        raise ValueError(f"episodes must be >= 1, got {episodes}")
    if exact:
        found = enumeration.terms(game, agent)
        values = _values(game, found, weights, 0.0)
        return Report(
            agent.name, game.spec.id, found, {k: exactly(v) for k, v in values.items()}, weights, []
        )
    played = play_matches(
        game, agent, matches(game, POOLS, episodes), seed, common_random_numbers=False, on_round=on_round
    )
    return report(agent.name, game, played, weights, seed)


def report(
    name: str, game: Game, episodes: Sequence[Episode], weights: Weights | None = None, seed: int = 0
) -> Report:
    """The report of episodes that were played against all four pools."""
    weights = game.spec.eval_weights if weights is None else weights
    means = EpisodeMeans.of_episodes(game.spec, episodes)
    found, fallback = means.terms()
    values = _values(game, found, weights, fallback)

    def statistic(counts: np.ndarray) -> list[float]:
        terms, share = means.terms(counts)
        return [np.nan if v is None else v for v in _values(game, terms, weights, share).values()]

    low, high = bootstrap(means.group, statistic, seed)
    estimates = {
        metric: Estimate(
            value, *((None, None) if value is None else (float(low[i]), float(high[i]))), len(episodes)
        )
        for i, (metric, value) in enumerate(values.items())
    }
    return Report(name, game.spec.id, found, estimates, weights, list(episodes))


def _values(game: Game, terms: Terms, weights: Weights, fallback: float) -> dict[str, float | None]:
    values = {
        "payoff": terms.payoff,
        "exploit": terms.exploit,
        "collusion": terms.collusion,
        "externality": terms.externality,
        "safety": objective(game.spec, terms, weights),
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
