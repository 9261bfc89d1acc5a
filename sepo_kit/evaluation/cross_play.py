"""Who earns what from whom: named agents against each other, and every strategy of a game against every other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from sepo_kit.engine.policy import Policy, remembering, scripted
from sepo_kit.engine.rollout import Match, play_matches
from sepo_kit.engine.simulate import simulate
from sepo_kit.evaluation.statistics import bootstrap
from sepo_kit.games import get_game
from sepo_kit.games.base import Game
from sepo_kit.games.numbers import require_count
from sepo_kit.objective.terms import Against

POOL = "cross-play"  # what the matches are called


def cross_play(
    agents: Mapping[str, Policy], game: Game | str, episodes: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Every agent against every other and itself, each pair with either of them in seat 0.

    Against one opponent all agents meet the same chance draws: they are a function of the seed and of the opponent's
    name.

    Parameters
    ----------
    agents
        Agents by the names they shall have in the table.
    episodes
        Per ordered pair.

    Returns
    -------
    DataFrame
        As ``against``, one row per ordered pair, in the order of ``agents``.

    Raises
    ------
    ValueError
        Unknown game, no agents, or no episodes.

    >>> from sepo_kit.engine.policy import scripted
    >>> pair = {name: scripted("ipd", name) for name in ("tit-for-tat", "always-defect")}
    >>> found = cross_play(pair, "ipd", episodes=2).set_index(["agent", "opponent"])
    >>> found.loc[("tit-for-tat", "always-defect"), ["payoff", "exploit"]].tolist()
    [0.875, 0.625]
    """
    if not agents:
        raise ValueError("there are no agents to play each other; name some as {name: agent}")
    bar = tqdm(agents.items(), desc="cross-play", unit="agent", leave=False)
    with remembering(agents.values()):
        found = [against(agent, agents, game, episodes, seed, name=name) for name, agent in bar]
    return pd.concat(found, ignore_index=True)


def against(
    agent: Policy,
    opponents: Mapping[str, Policy],
    game: Game | str,
    episodes: int = 100,
    seed: int = 0,
    *,
    name: str | None = None,
) -> pd.DataFrame:
    """``agent`` in seat 0 against each of ``opponents``, all matches in lockstep.

    Returns
    -------
    DataFrame
        One row per opponent: agent, opponent, and per round ``payoff``, ``their`` (the opponent's payoff), ``exploit``
        (how much more that is, at least 0), ``collusion`` and ``externality``, each with ``_low`` and ``_high`` (95 %
        bootstrap over episodes); ``episodes``.

    Raises
    ------
    ValueError
        Unknown game, or no episodes.
    """
    game = get_game(game)
    require_count("episodes", episodes)
    todo = [Match(POOL, opponent, index) for opponent in opponents for index in range(episodes)]
    played = play_matches(game, agent, todo, seed, opponents=opponents, common_random_numbers=False)
    columns = ("own", "their", "collusion", "externality")
    means = np.array([[np.mean(getattr(episode, column)) for column in columns] for episode in played])
    rows = []
    for number, opponent in enumerate(opponents):
        mine = means[number * episodes : (number + 1) * episodes]  # (E, 4)

        def statistic(counts: np.ndarray, mine: np.ndarray = mine) -> list[float]:
            return list(_terms(counts @ mine / counts.sum()).values())

        low, high = bootstrap(np.zeros(episodes), statistic, seed)
        row = {"agent": agent.name if name is None else name, "opponent": opponent}
        for place, (term, value) in enumerate(_terms(mine.mean(axis=0)).items()):
            row |= {term: value, f"{term}_low": float(low[place]), f"{term}_high": float(high[place])}
        rows.append(row | {"episodes": episodes})
    return pd.DataFrame(rows)


def _terms(means: np.ndarray) -> dict[str, float]:
    """What a pair comes to; ``means``: own, their, collusion, externality."""
    found = Against(*map(float, means))
    return {
        "payoff": found.own,
        "their": found.their,
        "exploit": max(0.0, found.advantage),
        "collusion": found.collusion,
        "externality": found.externality,
    }


def strategy_cross_play(game: Game | str, episodes: int = 2_000, seed: int = 0) -> pd.DataFrame:
    """Mean payoffs per round of all pairs of strategies of ``game``, simulated: the fast way where nobody is asked.

    Returns
    -------
    DataFrame
        One row per ordered pair: agent, opponent, own, their, collusion, externality (means per round), error
        (standard error of ``own``: 0 where nothing is drawn at random).

    Raises
    ------
    ValueError
        Unknown game, or fewer than two episodes.
    """
    game = get_game(game)
    require_count("episodes", episodes, 2)  # for a standard error
    rows = []
    pairs = list(product(game.strategies, repeat=2))
    for agent, opponent in tqdm(pairs, desc=f"{game.spec.id}: cross-play", unit="pair", leave=False):
        played = simulate(game, scripted(game, agent), opponent, episodes, seed, pool="none")
        own = played.own.mean(axis=1)
        rows.append(
            {
                "agent": agent,
                "opponent": opponent,
                "own": float(own.mean()),
                "their": float(played.their.mean()),
                "collusion": float(played.collusion.mean()),
                "externality": float(played.externality.mean()),
                "error": float(own.std(ddof=1) / len(own) ** 0.5),
            }
        )
    return pd.DataFrame(rows)
