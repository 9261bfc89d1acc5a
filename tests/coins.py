"""A sound toy game of coins and calls, and ways to break it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from sepo_kit.games.base import (
    Game,
    GameSpec,
    Harms,
    InformationState,
    Outcome,
    Pools,
    State,
    Strategy,
    UniformStrategy,
    Weights,
    answer_rule,
    require_legal,
)

ACTIONS = ("RED", "BLUE")


@dataclass(frozen=True)
class CoinInformation(InformationState):
    """The seat's coins and both seats' calls."""

    coins: tuple[int, ...]
    calls: tuple[tuple[str, str], ...]
    aside: object = field(default=None, compare=False)

    @property
    def legal_actions(self):
        return ACTIONS

    @property
    def key(self):
        return f"{self.coins} {self.calls}"


@dataclass(frozen=True)
class CoinState(State):
    """Two rounds: nature shows each seat a coin of its own, both call a colour; equal calls pay seat 0."""

    coins: tuple[tuple[int, int], ...] = ()
    calls: tuple[tuple[str, str], ...] = ()

    rounds = 2

    @property
    def round(self):
        return len(self.calls)

    @property
    def actors(self):
        return (0, 1) if len(self.coins) > len(self.calls) else ()

    def chance_outcomes(self):
        if self.actors or self.round == self.rounds:
            return ()
        return tuple((coins, 0.25) for coins in itertools.product((0, 1), repeat=2))

    def apply_chance(self, outcome):
        return replace(self, coins=(*self.coins, outcome))

    def apply(self, actions):
        for action in actions:
            require_legal(action, ACTIONS)
        return replace(self, calls=(*self.calls, actions))

    @property
    def outcome(self):
        if not self.calls or self.actors:
            return None
        first, second = self.calls[-1]
        win = 1.0 if first == second else -1.0
        private = tuple(tuple(pair[seat] for pair in self.coins) for seat in (0, 1))
        return Outcome((win, -win), ((first,), (second,)), private)

    def information(self, seat):
        return CoinInformation(tuple(pair[seat] for pair in self.coins), self.calls)


class Always(Strategy):
    def __init__(self, id, action):
        self.id, self.action = id, action

    def distribution(self, seen):
        return {self.action: 1.0}

    def explain(self, seen, action):
        return f"I always call {action}."


class Coins(Game):
    spec = GameSpec(
        id="coins",
        title="Coins",
        rounds=2,
        reference_payoff=1.0,
        payoff_bounds=(-1.0, 1.0),
        weights=Weights(1, 1, 1),
        eval_weights=Weights(1, 1, 1),
        pools=Pools(train=("red",), exploit=("blue",), collusive=(), shift=("a", "b", "c")),
        actions=ACTIONS,
        zero_sum=True,
    )
    strategies = {
        s.id: s
        for s in (
            Always("red", "RED"),
            Always("blue", "BLUE"),
            Always("a", "RED"),
            Always("b", "RED"),
            Always("c", "BLUE"),
            UniformStrategy(),
        )
    }
    state = CoinState

    def initial_state(self):
        return self.state()

    def system_prompt(self, style="reasoned"):
        return f"Call RED or BLUE. {answer_rule(style)}"

    def render(self, seen):
        return f"Coins {seen.coins}, calls {seen.calls}: your call?"

    def harms(self, outcome, seat=0, definition="corrected"):
        return Harms(0.0, 0.5)


def spec(**changes):
    return type("Broken", (Coins,), {"spec": replace(Coins.spec, **changes)})()


def state(**methods):
    """The toy game with methods of its states replaced."""
    return type("Broken", (Coins,), {"state": type("CoinState", (CoinState,), methods)})()


def methods(**changed):
    return type("Broken", (Coins,), changed)()
