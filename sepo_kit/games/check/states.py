"""Single states: immutable, of one kind, with sound chances, information, prompts, outcomes and harms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass

from sepo_kit.games.base import HARM_DEFINITIONS, SEATS, Harms, InformationState, Outcome, State
from sepo_kit.games.check.frame import (
    NO_ACTION,
    TOLERANCE,
    Check,
    Move,
    finite,
    is_equal,
    is_hashable,
    short,
)

STATES = 1000  # games with more states are checked by play


class StateChecks(Check):
    """Checks of every state there is, or that play reaches."""

    def every_state(self) -> None:
        """Visit every state if there are few; otherwise stop, and leave the rest to play."""
        waiting = [self.call("initial_state", self.game.initial_state)]
        found = set()
        while waiting:
            state = waiting.pop()
            self.visit(state)
            for move in self.moves(state):
                after = self.step(state, move)
                self.hashable(after)
                if after not in found:
                    found.add(after)
                    waiting.append(after)
                if len(found) > STATES:
                    return

    def moves(self, state: State) -> Iterator[Move]:
        """Every move that is possible in ``state``."""
        for outcome, _ in state.chance_outcomes():
            yield "nature", outcome
        legal = [state.information(seat).legal_actions for seat in state.actors]
        if len(legal) == 1:
            yield from (("seats", (action,)) for action in legal[0])
        elif len(legal) == 2:
            yield from (("seats", (first, second)) for first in legal[0] for second in legal[1])

    def step(self, state: State, move: Move) -> State:
        """The state after ``move``; ``state`` itself must stay as it is."""
        before = repr(state), hash(state)
        kind, what = move
        name, function = ("apply_chance", state.apply_chance) if kind == "nature" else ("apply", state.apply)
        after, again = self.call(name, function, what), self.call(name, function, what)
        self.require(
            (repr(state), hash(state)) == before,
            f"{name} changed the state it was called on",
            "Return a new state and leave self alone",
        )
        self.require(
            isinstance(after, State), f"{name} returned {short(after)}", "Return the State that follows"
        )
        self.require(
            after == again,
            f"{name}({short(what)}) gives {short(after)} and then {short(again)}",
            "It must depend on the state and the move only, and equal states must compare equal: all "
            "randomness belongs into chance_outcomes()",
        )
        return after

    def visit(self, state: State) -> None:
        """All that must hold in a single state."""
        self.hashable(state)
        if state in self.visited:
            return
        self.visited.add(state)
        self.frozen(state)
        self.kind(state)
        self.chance(state)
        for seat in state.actors:
            self.information(state, seat)
        if state.actors:
            self.refuses(
                "apply",
                state.apply,
                (NO_ACTION,) * len(state.actors),
                mend="Raise ValueError in apply() for an action that is not legal (require_legal does)",
            )
        if state.outcome is not None:
            self.outcome(state.outcome)

    def hashable(self, thing: State | InformationState) -> None:
        self.require(
            is_hashable(thing) and is_equal(thing, thing),
            f"{type(thing).__name__} is not hashable",
            "Make it a @dataclass(frozen=True) of tuples, strings and numbers: no list, dict or array",
        )

    def frozen(self, thing: object) -> None:
        names = (
            [f.name for f in fields(thing)] if is_dataclass(thing) else list(getattr(thing, "__dict__", ()))
        )
        for name in names:
            try:
                setattr(thing, name, getattr(thing, name))
            except (AttributeError, TypeError):
                continue
            self.require(
                False,
                f"{type(thing).__name__}.{name} can be changed",
                "States are immutable: make it a @dataclass(frozen=True)",
            )

    def kind(self, state: State) -> None:
        actors = state.actors
        self.require(
            actors in ((), (0,), (1,), (0, 1)), f"actors is {actors!r}", "Return (), (0,), (1,) or (0, 1)"
        )
        self.require(
            len(actors) != 1 or not self.game.spec.label_suffices,
            f"seat {actors[:1]} moves alone in {short(state)}, and spec.label_suffices is True",
            "Leave label_suffices False: it is for games whose seats always move at once",
        )
        most = self.game.spec.moves_per_round
        self.require(
            not actors or most == 1 or not self.game.spec.label_suffices,
            f"spec.moves_per_round is {most}, and spec.label_suffices is True",
            "Leave label_suffices False: it is for games whose seats move once a round",
        )
        holds = [
            word
            for word, holds in (
                ("is_terminal", state.is_terminal),
                ("chance_outcomes()", bool(state.chance_outcomes())),
                ("actors", bool(actors)),
            )
            if holds
        ]
        self.require(
            len(holds) == 1,
            f"{' and '.join(holds) or 'none of is_terminal, chance_outcomes(), actors'} in {short(state)}",
            "Exactly one must hold: the game is over, nature moves, or seats move",
        )

    def chance(self, state: State) -> None:
        pairs = state.chance_outcomes()
        if not pairs:
            return
        probabilities = [p for _, p in pairs]
        self.require(
            all(finite(p) and p > 0 for p in probabilities) and abs(sum(probabilities) - 1) < TOLERANCE,
            f"the probabilities of chance_outcomes() sum to {sum(probabilities):g}: {short(probabilities)}",
            "Each must be > 0 and together they must be 1",
        )
        outcomes = [outcome for outcome, _ in pairs]
        self.require(
            all(map(is_hashable, outcomes)) and len(set(outcomes)) == len(outcomes),
            f"chance_outcomes() lists an outcome twice, or one that is not hashable: {short(outcomes)}",
            "List each once, as a tuple, string or number",
        )

    def information(self, state: State, seat: int) -> None:
        seen = self.call("information", state.information, seat)
        self.require(
            isinstance(seen, InformationState),
            f"information({seat}) is {short(seen)}",
            "Return an InformationState",
        )
        self.hashable(seen)
        self.require(
            seen == state.information(seat),
            f"information({seat}) is not equal to itself when asked twice",
            "It must depend on the state only",
        )
        if self.game.spec.label_suffices:
            told = self.call("round", lambda _: seen.round, seen)
            self.require(
                told == state.round,
                f"information({seat}).round is {told!r} in round {state.round}, and spec.label_suffices is True",
                "Let the information states tell the round at play, by a history or a round of their own",
            )
        if seen in self.seen:
            return
        self.frozen(seen)
        self.legal(seen)
        key = self.call("key", lambda _: seen.key, seen)
        self.require(isinstance(key, str) and bool(key), f"key is {key!r}", "Return a short text")
        other = self.keys.setdefault(key, seen)
        self.require(
            other == seen,
            f"key {key!r} stands for two information states: {short(other)} and {short(seen)}",
            "Put into key all that tells them apart: it is the row label of a tabular policy",
        )
        self.seen[seen] = self.prompt(seen)

    def legal(self, seen: InformationState) -> None:
        actions = self.call("legal_actions", lambda _: seen.legal_actions, seen)
        self.require(
            isinstance(actions, tuple) and len(actions) > 0 and len(set(actions)) == len(actions),
            f"legal_actions is {short(actions)}",
            "Return a tuple of at least one action, each once",
        )
        unknown = [action for action in actions if action not in self.game.spec.actions]
        self.require(
            not unknown,
            f"legal_actions has {short(unknown)}, which spec.actions does not list",
            "spec.actions must list every action word of the game: replies are read with it",
        )

    def prompt(self, seen: InformationState) -> str:
        text = self.call("render", self.game.render, seen)
        self.require(isinstance(text, str) and bool(text.strip()), f"render gives {text!r}", "Return text")
        self.require(
            text == self.game.render(seen),
            "render gives two texts for one information state",
            "It must depend on what the seat has seen only: no counter, no randomness, no field of the game",
        )
        other = self.prompts.setdefault(text, seen)
        self.require(
            other == seen,
            f"render gives the same text for {short(other)} and {short(seen)}: {short(text)}",
            "Show all that information() holds, or leave out of information() what you do not show",
        )
        return text

    def outcome(self, outcome: Outcome) -> None:
        spec = self.game.spec
        self.require(
            isinstance(outcome, Outcome), f"outcome is {short(outcome)}", "Return an Outcome or None"
        )
        low, high = spec.payoff_bounds
        payoffs = outcome.payoffs
        self.require(
            len(payoffs) == 2 and all(finite(p) and low <= p <= high for p in payoffs),
            f"a round pays {payoffs!r}, outside spec.payoff_bounds {spec.payoff_bounds!r}",
            "Give two finite payoffs, or mend the bounds",
        )
        self.require(
            not spec.zero_sum or abs(sum(payoffs)) < TOLERANCE,
            f"a round pays {payoffs!r}, which is not zero-sum",
            "Mend the payoffs, or set spec.zero_sum=False",
        )
        for definition in HARM_DEFINITIONS:
            for seat in SEATS:
                self.harms(outcome, seat, definition)

    def harms(self, outcome: Outcome, seat: int, definition: str) -> None:
        harms = self.call("harms", self.game.harms, outcome, seat, definition=definition)
        self.require(isinstance(harms, Harms), f"harms gives {short(harms)}", "Return a Harms(...)")
        for name in ("collusion", "externality"):
            value = getattr(harms, name)
            self.require(
                finite(value) and 0 <= value <= 1,
                f"harms(..., seat={seat}, definition={definition!r}).{name} is {value!r}",
                "A harm is a share from 0 to 1; divide by the most a round can do",
            )

    def all_harms(self, outcome: Outcome, definitions: Sequence[str] = HARM_DEFINITIONS) -> tuple[float, ...]:
        """Collusion and externality for both seats, under each definition."""
        found = []
        for definition in definitions:
            for seat in SEATS:
                harms = self.call("harms", self.game.harms, outcome, seat, definition=definition)
                found += [harms.collusion, harms.externality]
        return tuple(found)
