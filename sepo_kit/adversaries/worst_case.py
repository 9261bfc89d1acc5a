"""The worst case of any agent, as far as it can be known: exactly, between bounds, from below, or not at all."""

from __future__ import annotations

from dataclasses import dataclass

from sepo_kit import exact
from sepo_kit.engine.policy import NoDistribution, Policy, StrategyPolicy, TabularPolicy
from sepo_kit.games import get_game
from sepo_kit.games.base import Game

QUICK_STATES = 30_000  # a tree of more takes longer than a moment
EFFORTS = ("none", "quick", "search")


@dataclass(frozen=True)
class KnownWorstCase:
    """What is known of the most that any adversary gains on an agent, per round, in the game's payoff unit.

    Attributes
    ----------
    value
        The exact worst case, or what the best adversary that was found gains; None where nothing was found.
    low, high
        Between which the worst case lies; ``high`` None where no bound is known from above.
    adversary
        The best adversary that was found, a policy of seat 1.
    how
        "exact", "bounds", "found" (from below only) or "unknown".
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    adversary: Policy | None = None
    how: str = "unknown"


def find_worst_case(game: Game | str, agent: Policy, effort: str = "search", seed: int = 0) -> KnownWorstCase:
    """The worst case of ``agent`` as far as ``effort`` goes.

    Parameters
    ----------
    effort
        "none"; "quick": only where it is exact and takes a moment, which is in games of few information states, and
        for strategies and tables where the tree is small; "search": else bounds by ``exact.worst_case_bounds``, seconds
        to minutes.
    seed
        Of what is sampled.

    Raises
    ------
    ValueError
        There is no such effort.
    """
    if effort not in EFFORTS:
        raise ValueError(f"effort must be one of {', '.join(EFFORTS)}, got {effort!r}")
    game = get_game(game)
    found = _exactly(game, agent) if effort != "none" else None
    if found is not None:
        return KnownWorstCase(found.advantage, found.advantage, found.advantage, found.adversary, "exact")
    if effort != "search":
        return KnownWorstCase()
    bounds = exact.worst_case_bounds(game, agent, seed=seed)
    known = bounds.upper is not None
    return KnownWorstCase(
        bounds.lower, bounds.lower, bounds.upper, bounds.adversary, "bounds" if known else "found"
    )


def _exactly(game: Game, agent: Policy) -> exact.WorstCase | None:
    """The exact worst case where it takes a moment, else None."""
    cheap = isinstance(agent, StrategyPolicy | TabularPolicy) and game.spec.reference_row is not None
    if not (cheap or game.spec.few_states):
        return None
    try:
        return exact.worst_case(game, agent, max_states=QUICK_STATES)
    except (exact.TooLarge, NoDistribution):
        return None
