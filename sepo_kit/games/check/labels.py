"""Labels that suffice: where the spec promises it, positions that both seats call the same have one future."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from sepo_kit.games.base import State
from sepo_kit.games.check.frame import TOLERANCE, Trail, short
from sepo_kit.games.check.states import StateChecks

JOINT_ACTIONS = 3  # after which two positions of one name are compared
FOLLOWING = 100  # positions of which more follow on one move are not compared
FOLLOWED = 10_000  # in all, which is enough for thousands of positions where nature draws little
DIGITS = 9

# By seat: label and legal actions.
Name = tuple[tuple[str, tuple[str, ...]], ...]
# Probability of what a move brings: payoffs and harms, and the name of the decision it leads to, None at the end.
What = tuple[tuple, Name | None]
Future = dict[What, float]


class LabelChecks(StateChecks):
    """Checks that of positions of one round with equal labels, the same moves bring the same, equally often."""

    def label_suffices(self, trail: Trail) -> None:
        """Compare the decisions of an episode with those of their names that were met first."""
        if not self.game.spec.label_suffices:
            return
        for _, state in trail:
            if not state.actors or self.followed > FOLLOWED:
                continue
            first = self.named.setdefault((state.round, self.labels(state)), state)
            if first != state:
                self.same_future(first, state)

    def same_future(self, one: State, two: State) -> None:
        legal = [one.information(seat).legal_actions for seat in one.actors]
        for _ in range(JOINT_ACTIONS):
            joint = tuple(self.some(actions, 1)[0] for actions in legal)
            first, second = self.future(one, joint), self.future(two, joint)
            if first is None or second is None:
                continue
            for what in first | second:
                p, q = first.get(what, 0.0), second.get(what, 0.0)
                self.require(
                    abs(p - q) < TOLERANCE,
                    f"{short(one)} and {short(two)} have the same labels, and spec.label_suffices is True, but after "
                    f"{joint} {told(what)} in the one with probability {p:g}, in the other with {q:g}",
                    "Put into label what the future depends on, or set label_suffices to False",
                )

    def labels(self, state: State) -> Name:
        views = [self.call("information", state.information, seat) for seat in state.actors]
        return tuple(
            (self.call("label", lambda seen: seen.label, seen), seen.legal_actions) for seen in views
        )

    def future(self, state: State, joint: tuple[str, ...]) -> Future | None:
        """What ``joint`` brings, up to the next decision; None where that is too much to list."""
        found: Future = defaultdict(float)
        for number, (p, paid, after) in enumerate(self.following(state.apply(joint), 1.0, ())):
            self.followed += 1
            if number == FOLLOWING:
                return None
            found[paid, self.labels(after) if after.actors else None] += p
        return found

    def following(self, state: State, p: float, paid: tuple) -> Iterator[tuple[float, tuple, State]]:
        """Probability, payoffs and harms, and the state of every decision or end that nature leads to."""
        if state.outcome is not None:
            values = (state.outcome.payoffs, self.all_harms(state.outcome, ("corrected",)))
            paid = (*paid, *(tuple(round(float(value), DIGITS) for value in each) for each in values))
        outcomes = state.chance_outcomes()
        if not outcomes:
            yield p, paid, state
        for outcome, chance in outcomes:
            yield from self.following(state.apply_chance(outcome), p * chance, paid)


def told(what: What) -> str:
    paid, names = what
    then = f"labels {short(tuple(label for label, _ in names))} follow" if names else "the end follows"
    return f"payoffs and harms {short(paid)} and then {then}"
