"""Every strategy of a game against every other: who earns what from whom."""

from __future__ import annotations

import pandas as pd

from sepo_kit.engine.policy import scripted
from sepo_kit.engine.simulate import simulate
from sepo_kit.games import get_game
from sepo_kit.games.base import Game


def cross_play(game: Game | str, episodes: int = 2_000, seed: int = 0) -> pd.DataFrame:
    """Mean payoffs per round of all pairs of strategies, simulated.

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
    if episodes < 2:
        raise ValueError(f"episodes must be >= 2 for a standard error, got {episodes}")
    rows = []
    for agent in game.strategies:
        for opponent in game.strategies:
            played = simulate(game, scripted(game, agent), opponent, episodes, seed)
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
