"""A game as its attacker has it: seat 0 is the other's, and a round pays what the attacker leads by.

What learns in seat 0 can so learn to attack whoever holds the agent's seat, by the training step that everything else
learns by: its payoff is the lead, and there are no harms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sepo_kit.games.base import Game, Harms, InformationState, Outcome, State, Weights

NOTHING = Weights(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class _Exchanged(State):
    """A position with the seats exchanged."""

    inner: State

    @property
    def round(self) -> int:
        return self.inner.round

    @property
    def outcome(self) -> Outcome | None:
        outcome = self.inner.outcome
        if outcome is None:
            return None
        theirs, own = outcome.payoffs
        return Outcome((own - theirs, theirs - own), outcome.actions[::-1], outcome.private[::-1])

    @property
    def actors(self) -> tuple[int, ...]:
        return tuple(1 - seat for seat in reversed(self.inner.actors))

    def information(self, seat: int) -> InformationState:
        return self.inner.information(1 - seat)

    def apply(self, actions: tuple[str, ...]) -> State:
        return _Exchanged(self.inner.apply(actions[::-1]))

    def chance_outcomes(self) -> tuple[tuple[object, float], ...]:
        return self.inner.chance_outcomes()

    def apply_chance(self, outcome: object) -> State:
        return _Exchanged(self.inner.apply_chance(outcome))


class AttackedGame(Game):
    """``game`` with its seats exchanged, paid by the lead and by nothing else; words and strategies are its own."""

    def __init__(self, game: Game) -> None:
        self.inner = game
        low, high = game.spec.payoff_bounds
        self.spec = replace(
            game.spec,
            id=f"{game.spec.id}_attacked",
            weights=NOTHING,
            eval_weights=NOTHING,
            payoff_bounds=(low - high, high - low),
            zero_sum=True,
            reference_row=None,
            label_suffices=False,
        )
        self.strategies = game.strategies

    def initial_state(self) -> State:
        return _Exchanged(self.inner.initial_state())

    def system_prompt(self, style: str = "reasoned") -> str:
        return self.inner.system_prompt(style)

    def render(self, seen: InformationState) -> str:
        return self.inner.render(seen)

    def harms(self, outcome: Outcome, seat: int = 0, definition: str = "corrected") -> Harms:
        return Harms(0.0, 0.0)

    def parse(self, reply: str, legal_actions: Sequence[str]) -> str | None:
        return self.inner.parse(reply, legal_actions)
