"""Best responses over the likeliest part of a tree, for agents that are too dear to ask about all of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sepo_kit.engine.policy import Policy
from sepo_kit.exact.answers import Answers
from sepo_kit.exact.best_response import best_replies, require_recall
from sepo_kit.exact.tree import arena
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, State
from sepo_kit.games.numbers import require_count


def likely_best_response(
    game: Game | str, agent: Policy, most_moves: int = 2_000
) -> tuple[dict[str, np.ndarray], float]:
    """The adversary that gains most on ``agent`` in the part of the tree that the agent and nature most likely lead to,
    what was left out counted as if the adversary then lost the most a round allows.

    Parameters
    ----------
    most_moves
        Of each layer of the tree the likeliest positions are kept, as many as have at most so many moves together.

    Returns
    -------
    rows, gain
        Pure rows by ``key`` where it was searched, arrays of shape (A,); a lower bound on what the adversary gains per
        round, and so on the worst case. The two are equal where nothing was left out.

    Raises
    ------
    ValueError
        ``most_moves`` is no whole number of at least 1.
    NoDistribution
        The agent cannot state a distribution over actions.
    Forgets
        An adversary could not follow the best replies; as of ``worst_case``.

    >>> from sepo_kit.engine.policy import scripted
    >>> rows, gain = likely_best_response("ipd", scripted(get_game("ipd"), "tit-for-tat"))
    >>> gain  # defecting once, in the last round, or always
    0.625
    """
    game = get_game(game)
    require_count("most_moves", most_moves)
    tree = arena(game).free
    steps = tree.reach_likely(Answers(tree.seen, agent), most_moves)
    require_recall(tree, steps)
    found = best_replies(steps, counted_as_lost(game))
    rows = {key: row for replies in found.replies for key, row in replies.rows().items()}
    return rows, found.lead / game.spec.rounds


def counted_as_lost(game: Game) -> Callable[[State], float]:
    """The least that an adversary can still lead by from a state: in all rounds that are left, or in its own where
    rounds are independent, the most that the payoffs allow, lost."""
    spec = game.spec
    most = spec.payoff_bounds[1] - spec.payoff_bounds[0]
    return lambda state: -most * (1 if spec.independent_rounds else spec.rounds - state.round)
