"""The worst case of any agent, as far as it can be known: exactly, between bounds, from below, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sepo_kit import exact
from sepo_kit.adversaries.exploiters import states_distributions
from sepo_kit.adversaries.fitted import fit_adversary, fitted
from sepo_kit.adversaries.gain import measured_gain
from sepo_kit.engine.episode import Episode
from sepo_kit.engine.policy import NoDistribution, Policy, StrategyPolicy, TabularPolicy, scripted
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState
from sepo_kit.games.numbers import require_count

QUICK_STATES = 30_000  # a tree of more takes longer than a moment
EFFORTS = ("none", "quick", "search", "bounds")
SEARCH_EPISODES = 400  # to fit an adversary to, and as many to measure what it gains
ASKED_ANYWAY = 50  # information states that a training step meets whatever it plays
GLIMPSED, MATCHES = 10_000, 20  # replies tried to fit an adversary in passing, and matches against it
TRIED = 8  # each adversary is tried first in one of so many of the episodes
# Of ``exact.worst_case_bounds``, whose ``search_episodes`` are those that it compares adversaries by.
SEARCHED = {"max_states": 4_000, "episodes": 400, "search_episodes": 20}


@dataclass(frozen=True)
class KnownWorstCase:
    """What is known of the most that any adversary gains on an agent, per round, in the game's payoff unit.

    Attributes
    ----------
    value
        The exact worst case, or ``low`` of bounds, or what the best adversary that was found gains; None where nothing
        was found.
    low, high
        Between which the worst case lies, ``low`` with 95 % confidence where it was sampled; ``high`` None where no
        bound is known from above.
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


def find_worst_case(
    game: Game | str,
    agent: Policy,
    effort: str = "search",
    seed: int = 0,
    *,
    search_episodes: int = SEARCH_EPISODES,
) -> KnownWorstCase:
    """The worst case of ``agent`` as far as ``effort`` goes.

    Parameters
    ----------
    effort
        "none"; "quick": only where it is exact and takes a moment, which is in games of few information states, and
        for strategies and tables where the tree is small; "search": elsewhere in seconds, where nature does not move
        bounds from the likeliest part of the tree, else what the best of the exploit pool and an adversary that was
        fitted to the agent's play gains in fresh episodes; "bounds": elsewhere ``exact.worst_case_bounds`` at its
        best, minutes.
    seed
        Of what is sampled.
    search_episodes
        Where "search" has to play: of these an adversary is fitted, and in as many more it is measured what the best
        gains. Fewer find less, and leave ``low`` lower; of a language model with long prompts 400 may take an hour.

    Raises
    ------
    ValueError
        There is no such effort, or the episodes are no whole number of at least 2.
    """
    require_count("search_episodes", search_episodes, 2)
    if effort not in EFFORTS:
        raise ValueError(f"effort must be one of {', '.join(EFFORTS)}, got {effort!r}")
    game = get_game(game)
    found = _exactly(game, agent) if effort != "none" else None
    if found is not None:
        return KnownWorstCase(found.advantage, found.advantage, found.advantage, found.adversary, "exact")
    if effort not in ("search", "bounds"):
        return KnownWorstCase()
    if effort == "search" and (nature_moves(game) or not states_distributions(agent)):
        return _found(game, agent, seed, search_episodes)
    bounds = exact.worst_case_bounds(game, agent, seed=seed, **(SEARCHED if effort == "search" else {}))
    known = bounds.upper is not None
    return KnownWorstCase(
        bounds.lower, bounds.lower, bounds.upper, bounds.adversary, "bounds" if known else "found"
    )


def glimpse(
    game: Game, agent: Policy, number: int, every: int, episodes: Sequence[Episode], seed: int = 0
) -> float | None:
    """What a training may know of its agent's worst case in step ``number`` without being held up: exact at every step
    where play asks for all information states anyway (Kuhn poker), else at each ``every``-th step, exact where they are
    few and elsewhere what an adversary gains that was fitted to the step's ``episodes``; None at the others, and for
    agents that answer in free text."""
    if not states_distributions(agent):
        return None
    if number % every and not met_anyway(game):
        return None
    if game.spec.few_states:
        with suppress(exact.Forgets):  # then as where there are many
            return exact.worst_case(game, agent).advantage
    # Not ``roughly``: what was asked in play differs between processes, and all must find the same.
    adversary = fitted(game, episodes, agent=agent, tries=GLIMPSED)
    return measured_gain(game, agent, adversary, MATCHES, seed + number).value


def met_anyway(game: Game) -> Sequence[InformationState]:
    """All information states of the agent, where they are so few that a training step meets them whatever it plays;
    else none."""
    states = exact.information_states(game) if game.spec.few_states else ()
    return states if len(states) <= ASKED_ANYWAY else ()


def nature_moves(game: Game) -> bool:
    """Whether anything in the game is drawn by nature, by the first round of it."""
    state = game.initial_state()
    while not state.is_terminal and state.outcome is None:
        if state.chance_outcomes():
            return True
        state = state.apply(tuple(state.information(seat).legal_actions[0] for seat in state.actors))
    return bool(state.chance_outcomes())


def _found(game: Game, agent: Policy, seed: int, episodes: int) -> KnownWorstCase:
    """The best of some adversaries that are tried, and what it gains where it was not chosen for it."""
    tried = [fit_adversary(game, agent, episodes=episodes, seed=seed)]
    tried += [scripted(game, strategy) for strategy in game.spec.pools.exploit]
    few = max(2, episodes // TRIED)
    best = max(tried, key=lambda adversary: measured_gain(game, agent, adversary, few, seed).value)
    gain = measured_gain(game, agent, best, episodes, seed + 1)
    return KnownWorstCase(gain.value, gain.low, None, best, "found")


def _exactly(game: Game, agent: Policy) -> exact.WorstCase | None:
    """The exact worst case where it takes a moment, else None."""
    cheap = isinstance(agent, StrategyPolicy | TabularPolicy) and game.spec.reference_row is not None
    if not (cheap or game.spec.few_states):
        return None
    try:
        return exact.worst_case(game, agent, max_states=QUICK_STATES)
    except (exact.Unsolvable, NoDistribution):
        return None
