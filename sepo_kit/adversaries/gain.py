"""What an adversary gains on an agent, measured in fresh episodes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sepo_kit.adversaries.play import play
from sepo_kit.engine.confidence import quantile
from sepo_kit.engine.policy import NoDistribution, Policy
from sepo_kit.engine.simulate import simulate
from sepo_kit.games import get_game
from sepo_kit.games.base import Game
from sepo_kit.games.numbers import require_count

FRESH = "measured"  # the pool label of these episodes, so that their draws are those of no others


@dataclass(frozen=True)
class Gain:
    """How much more than the agent an adversary earns per round (per hand in Kuhn poker), in the game's payoff unit:
    the mean over ``n`` episodes with its 95 % interval, by Student's t."""

    value: float
    low: float
    high: float
    n: int


def measured_gain(
    game: Game | str, agent: Policy, adversary: Policy, episodes: int = 1_000, seed: int = 0
) -> Gain:
    """Play ``agent`` (seat 0) against ``adversary`` (seat 1) in ``episodes`` fresh episodes.

    Raises
    ------
    ValueError
        Fewer than two episodes.

    >>> from sepo_kit.engine.policy import scripted
    >>> measured_gain("ipd", scripted("ipd", "always-cooperate"), scripted("ipd", "always-defect"), 10).value
    5.0
    """
    require_count("episodes", episodes, 2)
    return gain_of(leads_of(get_game(game), agent, adversary, episodes, seed))


def gain_of(leads: np.ndarray) -> Gain:
    """The mean of what an adversary gained in each of E >= 2 episodes, shape (E,), with Student's interval."""
    mean, episodes = float(leads.mean()), len(leads)
    half = quantile(episodes - 1) * float(leads.std(ddof=1)) / math.sqrt(episodes)
    return Gain(mean, mean - half, mean + half, episodes)


def leads_of(game: Game, agent: Policy, adversary: Policy, episodes: int, seed: int) -> np.ndarray:
    """How much more than the agent the adversary earned per round, by episode, shape (episodes,)."""
    try:
        found = simulate(game, agent, adversary, episodes, seed, FRESH)
        return (found.their - found.own).mean(axis=1)
    except NoDistribution:
        played = play(game, agent, adversary, episodes, seed, FRESH)
        return np.array([np.mean(e.their) - np.mean(e.own) for e in played])
