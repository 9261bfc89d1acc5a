"""Independent rounds: where the spec promises them, a round is the same whatever came before it."""

from __future__ import annotations

from sepo_kit.games.base import Outcome, State
from sepo_kit.games.check.frame import TOLERANCE, Trail, short
from sepo_kit.games.check.states import StateChecks


class IndependenceChecks(StateChecks):
    """Checks that the moves of a round, played after other earlier rounds, are met and paid as they were there."""

    def independent_rounds(self, trail: Trail) -> None:
        """Play each round of an episode once more, from where that round began when it was first met."""
        if not self.game.spec.independent_rounds:
            return
        twin = self.starts.setdefault(0, trail[0][1])
        for move, state in trail[1:]:
            number = twin.round
            twin = self.step(twin, move)
            self.same_outcome(number, state.outcome, twin.outcome)
            if state.outcome is not None:
                twin = self.starts.setdefault(state.round, state)
            self.same_position(state, twin)

    def same_position(self, one: State, two: State) -> None:
        number = two.round
        self.same(number, "who moves", one.actors, two.actors)
        chances, others = dict(one.chance_outcomes()), dict(two.chance_outcomes())
        alike = chances.keys() == others.keys() and all(
            abs(p - others[outcome]) < TOLERANCE for outcome, p in chances.items()
        )
        self.same(number, "what nature may do", tuple(chances.items()), tuple(others.items()), alike)
        for seat in one.actors:
            self.same(number, f"what seat {seat} sees", one.information(seat), two.information(seat))

    def same_outcome(self, number: int, one: Outcome | None, two: Outcome | None) -> None:
        if one is None or two is None:
            self.same(number, "what the round pays", one, two)
            return
        for what, values, others in (
            ("what the round pays", one.payoffs, two.payoffs),
            ("what harm is done", self.all_harms(one), self.all_harms(two)),
        ):
            alike = all(abs(a - b) < TOLERANCE for a, b in zip(values, others, strict=True))
            self.same(number, what, values, others, alike)

    def same(self, number: int, what: str, one: object, two: object, alike: bool | None = None) -> None:
        self.require(
            one == two if alike is None else alike,
            f"in round {number} {what} depends on the rounds before: {short(one)} after some, {short(two)} after "
            "others, and spec.independent_rounds is True",
            "Leave earlier rounds out of information(), chances, payoffs and harms, or set it to False",
        )
