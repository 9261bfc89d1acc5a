"""All games of the kit and the worked example, for tests that hold each of them to the same."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from sepo_kit.games import GAMES

EXAMPLE = Path(__file__).parents[1] / "examples" / "commons.py"


def _example():
    """The example as a module that stays, the same for all tests, however often this one is read: some pickle its
    states."""
    if "commons" in sys.modules:
        return sys.modules["commons"]
    spec = importlib.util.spec_from_file_location("commons", EXAMPLE)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMONS = _example()
EVERY_GAME = (*GAMES.values(), COMMONS.GAME)
each_game = pytest.mark.parametrize("game", EVERY_GAME, ids=lambda game: game.spec.id)


def deals(game, most: int = 6):
    """States after nature's first moves: the first ``most`` outcomes of each of them, in every combination."""
    states = [game.initial_state()]
    while outcomes := states[0].chance_outcomes()[:most]:
        states = [state.apply_chance(outcome) for state in states for outcome, _ in outcomes]
    return states


def same_seen(game):
    """Pairs (seat, states) of deals of a game of ``HIDING`` that look the same to the seat."""
    groups: dict = {}
    for state in deals(game):
        for seat in state.actors:
            groups.setdefault((seat, state.information(seat)), []).append(state)
    return [(seat, states) for (seat, _), states in groups.items() if len(states) > 1]


# Those in which nature deals, where a seat does not see all of it; they are not none.
HIDING = tuple(game for game in EVERY_GAME if same_seen(game))
each_hiding = pytest.mark.parametrize("game", HIDING, ids=lambda game: game.spec.id)
