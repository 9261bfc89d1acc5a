"""check_game finds rounds that depend on earlier ones where a spec says that they do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from coins import CoinInformation, Coins, CoinState, spec

from sepo_kit.games import GameError, check_game
from sepo_kit.games.base import Harms, Outcome


class Fresh(CoinState):
    """Nothing of earlier rounds is shown."""

    def information(self, seat):
        return CoinInformation((self.coins[-1][seat],), ())

    @property
    def outcome(self):
        ended = super().outcome
        return ended and replace(ended, private=tuple((coins[-1],) for coins in ended.private))


def fresh(state=(), game=()):
    """The toy game with independent rounds, and methods of its states or of itself replaced."""
    parts = {
        "state": type("CoinState", (Fresh,), dict(state)),
        "spec": replace(Coins.spec, independent_rounds=True),
        **dict(game),
    }
    return type("Fresh", (Coins,), parts)()


def pays_what_was_called_first(self):
    ended = Fresh.outcome.fget(self)
    if ended is None or self.calls[0] != ("RED", "RED"):
        return ended
    return replace(ended, payoffs=(0.5, -0.5))


def coins_after_the_first_call(self):
    if self.actors or self.round == self.rounds:
        return ()
    first = 0.7 if self.calls and self.calls[0][0] == "RED" else 0.5
    return (((0, 0), first), ((1, 1), 1 - first))


def coins_of_one_side(self):
    if self.actors or self.round == self.rounds:
        return ()
    kept = 1 if self.calls and self.calls[0][0] == "RED" else 2
    return tuple((coins, 1 / kept) for coins in [(0, 0), (1, 1)][:kept])


class Silenced(Fresh):
    """Seat 1 does not call once seat 0 has called RED before."""

    @property
    def actors(self):
        silent = len(self.calls) == 1 and self.calls[0][0] == "RED"
        return super().actors[: 1 if silent else 2]

    @property
    def outcome(self):
        if not self.calls or self.actors:
            return None
        return Outcome((0.0, 0.0), ((self.calls[-1][0],), self.calls[-1][1:]), (self.coins, self.coins))


DEPENDENT = {
    "what seat 1 sees": spec(independent_rounds=True),
    "what the round pays": fresh({"outcome": property(pays_what_was_called_first)}),
    "what nature may do": fresh({"chance_outcomes": coins_after_the_first_call}),
    "what nature may do at all": fresh({"chance_outcomes": coins_of_one_side}),
    "who moves": fresh(game={"state": Silenced}),
    "what harm is done": fresh(
        {"outcome": property(lambda self: CoinState.outcome.fget(self))},
        {"harms": lambda self, outcome, seat=0, definition="": Harms(0.0, sum(outcome.private[0]) / 2)},
    ),
}


@pytest.mark.parametrize("what", DEPENDENT)
def test_rounds_that_are_said_to_be_independent_are_the_same_after_all_that_came_before(what):
    game = DEPENDENT[what]
    with pytest.raises(GameError) as caught:
        check_game(game)
    assert f"in round 1 {what.removesuffix(' at all')} depends on the rounds before" in str(caught.value)
    assert "spec.independent_rounds is True" in str(caught.value)
    check_game(type("Dependent", (type(game),), {"spec": replace(game.spec, independent_rounds=False)})())


@pytest.mark.parametrize("seed", range(3))
def test_rounds_that_are_dealt_afresh_pass(seed):
    check_game(fresh(), seed)


def test_what_nature_has_shown_before_may_be_told_with_a_round_that_pays_the_same():
    check_game(fresh({"outcome": property(lambda self: CoinState.outcome.fget(self))}))
