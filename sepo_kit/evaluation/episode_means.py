"""Sampled episodes by their means: all that the terms need of them, so that any reweighing is a weighted mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sepo_kit.engine.episode import Episode
from sepo_kit.engine.tables import EPISODE
from sepo_kit.evaluation.statistics import controlled
from sepo_kit.games.base import GameSpec
from sepo_kit.objective.terms import Against, Terms, terms_of

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

    def controlled(self, control: np.ndarray) -> EpisodeMeans:
        """The means less what ``control``, of which 1/2 is expected, explains of them against each opponent."""
        means = self.means.copy()
        for number in range(len(self.names)):
            own = self.group == number
            means[own] = controlled(means[own], control[own], 0.5)
        return replace(self, means=means)

    def terms(self, counts: np.ndarray | None = None) -> tuple[Terms, float]:
        """Terms and fallback rate where episode i counts ``counts[i]`` times (default: once)."""
        counts = np.ones(len(self.group)) if counts is None else counts
        total = np.bincount(self.group, weights=counts)
        columns = [np.bincount(self.group, weights=counts * column) / total for column in self.means.T]
        results = {name: Against(*(float(c[i]) for c in columns)) for i, name in enumerate(self.names)}
        return terms_of(self.spec, results), float(counts @ self.unread / max(counts @ self.decisions, 1))
