"""check_game finds labels that do not suffice where a spec says that they do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from coins import ACTIONS, Coins

from sepo_kit.games import GameError, check_game
from sepo_kit.games.base import Harms, InformationState, Outcome, State, require_legal


@dataclass(frozen=True)
class PastInformation(InformationState):
    """All that was called, seat 0's call first, and all tosses; the label is the last of both."""

    history: tuple[tuple[str, str], ...]
    tosses: tuple[str, ...]

    legal_actions = ACTIONS

    @property
    def key(self):
        return " ".join([*map("".join, self.history), *self.tosses]) or "start"

    @property
    def label(self):
        return "".join(self.history[-1]) + self.tosses[-1] if self.history else "start"


@dataclass(frozen=True)
class PastState(State):
    """Six rounds; equal calls pay seat 0, others seat 1. Between rounds nature tosses a coin, which both see."""

    history: tuple[tuple[str, str], ...] = ()
    tosses: tuple[str, ...] = ()

    rounds = 6

    @property
    def round(self):
        return len(self.history)

    @property
    def actors(self):
        return (0, 1) if len(self.tosses) == self.round < self.rounds else ()

    def chance_outcomes(self):
        tossing = len(self.tosses) < self.round < self.rounds
        return (("heads", self.heads), ("tails", 1 - self.heads)) if tossing else ()

    @property
    def heads(self):
        return 0.5

    def apply_chance(self, outcome):
        return replace(self, tosses=(*self.tosses, outcome))

    def apply(self, actions):
        for action in actions:
            require_legal(action, ACTIONS)
        return replace(self, history=(*self.history, actions))

    @property
    def outcome(self):
        if not self.history or len(self.tosses) == self.round:
            return None
        first, second = self.history[-1]
        return Outcome(self.payoffs, ((first,), (second,)), (self.tosses, self.tosses))

    @property
    def payoffs(self):
        first, second = self.history[-1]
        return (1.0, 0.0) if first == second else (0.0, 1.0)

    def information(self, seat):
        return PastInformation(self.history, self.tosses)


class Past(Coins):
    spec = replace(Coins.spec, rounds=6, zero_sum=False, label_suffices=True, payoff_bounds=(0.0, 6.0))

    def render(self, seen):
        return f"So far: {seen.key}. Your call?"


def past(game=(), **state):
    """The game above, with methods of its states or of itself replaced."""
    return type("Past", (Past,), {"state": type("PastState", (PastState,), state), **dict(game)})()


UNSOUND = {
    "a stock that pays": past(
        payoffs=property(lambda self: (0.0, float([call for _, call in self.history[:-1]].count("BLUE"))))
    ),
    "a coin that remembers": past(
        heads=property(lambda self: 0.9 if self.history[0] == ("RED", "RED") else 0.5)
    ),
    "a harm that adds up": past(
        {
            "harms": lambda self, outcome, seat=0, definition="": Harms(
                0, outcome.private[0].count("heads") / 6
            )
        }
    ),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_labels_that_hide_what_the_future_depends_on_do_not_suffice(name):
    game = UNSOUND[name]
    with pytest.raises(GameError) as caught:
        check_game(game)
    assert "spec.label_suffices is True" in str(caught.value)
    assert "Put into label what the future depends on" in str(caught.value)
    check_game(type("Past", (type(game),), {"spec": replace(game.spec, label_suffices=False)})())


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_tell_all_that_counts_suffice(seed):
    check_game(past(), seed)


def test_where_nature_draws_among_very_many_labels_may_suffice():
    tosses = tuple((f"{number}", 1 / 128) for number in range(128))
    check_game(past(chance_outcomes=lambda self: tosses if PastState.chance_outcomes(self) else ()))
