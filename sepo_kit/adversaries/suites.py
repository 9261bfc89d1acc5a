"""Held-out suites: adversaries that nobody trained against, by the name of who made them.

``axelrod``: the strategies of Axelrod's library that never look into their opponent, in the prisoner's dilemma.
``openspiel``: OpenSpiel's counterfactual regret minimisation and the exact best response, in Kuhn poker.
``strategies``: a game's own strategies outside its exploit pool, and the fitted adversary.
Both libraries are an extra of their own and load here only: importing Axelrod's takes seconds, and nothing else needs
either.

Source: Knight et al., An open framework for the reproducible study of the iterated prisoner's dilemma (2016), for the
library; Zinkevich et al., Regret minimization in games with incomplete information (2007), for the regret minimiser.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib import import_module
from types import ModuleType

import numpy as np

from sepo_kit import exact
from sepo_kit.engine.policy import Policy, scripted, tabular
from sepo_kit.exact.fitted import fit_adversary
from sepo_kit.games.base import Game, InformationState

REPLAYS = 8  # of a strategy that draws: what it plays is the share of so many
CFR_ITERATIONS = 500


class AxelrodPolicy(Policy):
    """A strategy of Axelrod's library: what it plays after a history is what it says when it is led through it.

    A strategy that draws is led through it ``REPLAYS`` times, with as many seeds, and plays as often as they say; its
    own past moves are those of the history. It is told that a match has as many turns as the game has rounds.
    There is one player, which is led through one history at a time: not for several threads.
    """

    def __init__(self, make: Callable[[], object], game: Game, name: str) -> None:
        self.game, self.name = game, name
        self.library = library("axelrod")
        self.player, self.other = make(), self.library.MockPlayer()
        self.replays = REPLAYS if self.player.classifier["stochastic"] else 1
        self._known: dict[InformationState, np.ndarray] = {}

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        for state in seen:
            if state not in self._known:
                share = float(np.mean([self._cooperates(state, seed) for seed in range(self.replays)]))
                self._known[state] = np.array([share, 1 - share])
        return [self._known[state] for state in seen]

    def _cooperates(self, seen: InformationState, seed: int) -> bool:
        action, player, other = self.library.Action, self.player, self.other
        for each in (player, other):
            each.reset()  # the library's promise: as it was made; to make it anew takes ten times as long
        player.set_seed(seed)
        player.set_match_attributes(length=self.game.spec.rounds, noise=0)
        for own, their in seen.history:
            player.strategy(other)
            moves = [action.from_char(move[0]) for move in (own, their)]
            player.update_history(*moves)
            other.update_history(*reversed(moves))
        return player.strategy(other) == action.C


def suite(game: Game, name: str, agent: Policy) -> dict[str, Policy]:
    """The adversaries of the suite ``name``, by name.

    Raises
    ------
    ValueError
        There is no such suite, or not for ``game``; or its library is not installed.
    """
    if name not in SUITES:
        raise ValueError(f"unknown suite {name!r}; known: {', '.join(SUITES)}")
    of_game, make = SUITES[name]
    if of_game not in (None, game.spec.id):
        fitting = [s for s, (g, _) in SUITES.items() if g in (None, game.spec.id)]
        raise ValueError(
            f"suite {name!r} is one of {of_game}, not of {game.spec.id}; known there: {', '.join(fitting)}"
        )
    return make(game, agent)


def axelrod_strategy(game: Game, name: str) -> Policy:
    """The strategy of Axelrod's library called ``name``, by its class or its title.

    Raises
    ------
    ValueError
        Another game, no such strategy, one that looks into its opponent, or the library is not installed.
    """
    if game.spec.id != "ipd":
        raise ValueError(f"axelrod:{name} plays ipd, not {game.spec.id}")
    known = axelrod_classes()
    if name not in known:
        raise ValueError(
            f"axelrod has no strategy {name!r} that never looks into its opponent; some of {len(known)}: "
            f"{', '.join(list(known)[:6])}"
        )
    return AxelrodPolicy(known[name], game, f"axelrod:{name}")


@lru_cache(maxsize=1)
def axelrod_classes() -> dict[str, type]:
    """All strategies of the library that neither read nor change their opponent and are quick, by class name."""
    refused = ("manipulates_state", "manipulates_source", "inspects_source", "long_run_time")
    with sources_read_once():
        strategies = library("axelrod").all_strategies
    return {
        each.__name__: each for each in strategies if not any(each.classifier.get(what) for what in refused)
    }


@contextmanager
def sources_read_once() -> Iterator[None]:
    """Inside, no function's source is read twice. While Axelrod's library is imported it looks into the source of all
    methods of all strategies: 15,000 times, of some 40 functions that most inherit."""
    before = inspect.getsource
    once = cache(before)
    # of a method the function: strategies that inherit it have it in common
    inspect.getsource = lambda object: once(getattr(object, "__func__", object))
    try:
        yield
    finally:
        inspect.getsource = before


def library(name: str) -> ModuleType:
    """The library ``name``; ValueError where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        raise ValueError(
            f"{name} is not installed; install the extra: pip install 'sepo_kit[suites]'"
        ) from None


# --- the suites -----------------------------------------------------------------------------------


def _axelrod(game: Game, agent: Policy) -> dict[str, Policy]:
    return _strategies_of_axelrod(game)


@lru_cache(maxsize=1)
def _strategies_of_axelrod(game: Game) -> dict[str, Policy]:
    """The same for every agent, so that what a strategy said after a history is asked once."""
    return {name: AxelrodPolicy(make, game, f"axelrod:{name}") for name, make in axelrod_classes().items()}


def _openspiel(game: Game, agent: Policy) -> dict[str, Policy]:
    return {"cfr": cfr(game), "best-response": exact.worst_case(game, agent).adversary}


@lru_cache(maxsize=1)
def cfr(game: Game) -> Policy:
    """The mean policy of OpenSpiel's CFR+ in Kuhn poker."""
    spiel = library("pyspiel")
    solver = spiel.CFRPlusSolver(spiel.load_game("kuhn_poker"))
    for _ in range(CFR_ITERATIONS):
        solver.evaluate_and_update_policy()
    mean = solver.tabular_average_policy()
    rows = {}
    for seen in exact.information_states(game):
        theirs = str("JQK".index(seen.key[0])) + seen.key[1:]
        chances = dict(mean.get_state_policy(theirs))
        rows[seen.key] = [chances[0], chances[1]]  # PASS and BET, FOLD and CALL
    return tabular(game, rows, name="cfr")


def _strategies(game: Game, agent: Policy) -> dict[str, Policy]:
    pool = game.spec.pools.exploit
    members = {name: scripted(game, name) for name in game.strategies if name not in pool}
    return {**members, "fitted": fit_adversary(game, agent)}


# Suite -> the game that it belongs to, None for every game, and who is in it.
SUITES: dict[str, tuple[str | None, Callable[[Game, Policy], dict[str, Policy]]]] = {
    "axelrod": ("ipd", _axelrod),
    "openspiel": ("kuhn", _openspiel),
    "strategies": (None, _strategies),
}
