"""Play one agent against one opponent, whoever it is."""

from __future__ import annotations

from sepo_kit.adversaries.opponents import resolve
from sepo_kit.engine.episode import Episode
from sepo_kit.engine.policy import Policy
from sepo_kit.engine.rollout import Match, play_matches, pool_of
from sepo_kit.games import get_game
from sepo_kit.games.base import Game
from sepo_kit.games.numbers import require_count


def play(
    game: Game | str,
    agent: Policy,
    opponent: str | Policy,
    episodes: int = 20,
    seed: int = 0,
    pool: str | None = None,
) -> list[Episode]:
    """Play ``episodes`` independent episodes of ``agent`` (seat 0) against one opponent.

    Parameters
    ----------
    opponent
        A name of the grammar (``adversaries/opponents.py``), or any policy.
    pool
        Labels the episodes, and so fixes their draws; without it, the first pool that holds the opponent, else "none".

    Raises
    ------
    ValueError
        Unknown game or opponent, or no episodes.

    >>> from sepo_kit.engine.policy import scripted
    >>> (episode,) = play("ipd", scripted("ipd", "tit-for-tat"), "self", episodes=1)
    >>> sum(episode.own), len(episode.answers)
    (24.0, 8)
    """
    game = get_game(game)
    require_count("episodes", episodes)
    name, policy = (
        (opponent, resolve(game, opponent, agent)) if isinstance(opponent, str) else (opponent.name, opponent)
    )
    pool = pool_of(game, name) if pool is None else pool
    todo = [Match(pool, name, index) for index in range(episodes)]
    return play_matches(game, agent, todo, seed, opponents={name: policy}, common_random_numbers=False)
