"""The numbers of the objective without sampling, by enumerating the game's own states.

Works for any agent that can state a distribution. Here: the terms, and play against a given opponent. The first
question about a game builds its trees (``tree.py``), later ones reuse them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from sepo_kit.engine.policy import Policy, distributions_of
from sepo_kit.exact.answers import Answers, Everything
from sepo_kit.exact.tree import MAX_STATES, SAMPLE, Tree, arena, means
from sepo_kit.games import get_game
from sepo_kit.games.base import POOLS, Game, InformationState, Strategy
from sepo_kit.objective.terms import Against, Results, Terms, terms_of


def terms(game: Game | str, agent: Policy, max_states: int = MAX_STATES) -> Terms:
    """The exact terms of ``agent`` over the game's four pools.

    Raises
    ------
    NoDistribution
        The agent cannot state a distribution over actions.
    TooLarge
        More than ``max_states`` states are reached against one opponent.
    ValueError
        The agent's distribution is none over the legal actions, or its table misses a state that is reached.

    >>> from sepo_kit.engine.policy import scripted
    >>> ipd = get_game("ipd")
    >>> round(terms(ipd, scripted(ipd, "tit-for-tat")).payoff, 5)
    2.78906
    """
    game = get_game(game)
    return terms_of(game.spec, results(game, agent, game.opponents, max_states))


def results(
    game: Game,
    agent: Policy,
    opponents: Sequence[tuple[str, str]],
    max_states: int = MAX_STATES,
) -> Results:
    """Expected means per round against each (pool, opponent) of ``opponents``."""
    known = arena(game)
    answers = Answers(known.seen, agent)
    once = {o: _against(known.against(game.strategy(o)), answers, max_states) for _, o in opponents}
    return {(pool, o): once[o] for pool, o in opponents}


def against(
    game: Game | str, agent: Policy, opponent: str | Strategy | Policy, max_states: int = MAX_STATES
) -> Against:
    """Expected means per round of ``agent`` against ``opponent``: a strategy of the game by its id, any
    ``Strategy``, or any policy that states distributions, such as ``worst_case(...).adversary``.

    Raises
    ------
    NoDistribution, TooLarge, ValueError
        As ``terms``.

    >>> from sepo_kit.engine.policy import scripted
    >>> ipd = get_game("ipd")
    >>> against(ipd, scripted(ipd, "always-cooperate"), "always-defect").advantage
    5.0
    """
    return each_against(game, [agent], opponent, max_states)[0]


def each_against(
    game: Game | str,
    agents: Iterable[Policy],
    opponent: str | Strategy | Policy,
    max_states: int = MAX_STATES,
) -> list[Against]:
    """``against`` of each of ``agents``, by one tree: much faster where they are many."""
    game = get_game(game)
    known = arena(game)
    tree = known.against(game.strategy(opponent) if isinstance(opponent, str) else opponent)
    return [_against(tree, Answers(known.seen, agent), max_states) for agent in agents]


def advantages_over(game: Game, agent: Policy, pool: str = "exploit") -> dict[str, float]:
    """How much more each opponent of ``pool`` earns than ``agent``, per round, exactly."""
    if pool not in POOLS:
        raise ValueError(f"pool must be one of {', '.join(POOLS)}, got {pool!r}")
    found = results(game, agent, [(pool, o) for o in game.spec.pools[pool]])
    return {opponent: result.advantage for (_, opponent), result in found.items()}


def information_states(game: Game | str, max_states: int = MAX_STATES) -> list[InformationState]:
    """Everything the agent's seat can see when it has to move, in the order of the keys.

    Raises
    ------
    TooLarge
        There are more nodes than ``max_states``.
    """
    tree = arena(get_game(game)).free
    tree.reach(Everything(tree.seen), max_states, "raise max_states")
    numbers = np.unique(np.concatenate([layer.seen for layer in tree.layers]))
    return sorted((tree.seen.states[i] for i in numbers if i), key=lambda seen: seen.key)


def policy_table(
    game: Game | str, agent: Policy, max_states: int = MAX_STATES
) -> dict[str, dict[str, float]]:
    """Probability of every legal action at every information state the agent's seat can meet.

    Raises
    ------
    NoDistribution, TooLarge
        As ``terms``.
    """
    states = information_states(game, max_states)
    return {
        seen.key: dict(zip(seen.legal_actions, map(float, p), strict=True))
        for seen, p in zip(states, distributions_of(agent, states), strict=True)
    }


def _against(tree: Tree, answers: Answers, max_states: int) -> Against:
    return Against(*means(tree, answers, max_states, SAMPLE).tolist())
