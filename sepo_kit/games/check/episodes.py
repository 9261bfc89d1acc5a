"""Whole episodes: their length, what their rounds say of themselves, and that the same moves give the same again."""

from __future__ import annotations

from sepo_kit.games.base import SEATS, Outcome, State, Strategy
from sepo_kit.games.check.frame import Move, Trail, short
from sepo_kit.games.check.states import StateChecks
from sepo_kit.games.check.strategies import StrategyChecks


class EpisodeChecks(StateChecks, StrategyChecks):
    """Checks of episodes in which each seat plays at random or one of the game's strategies."""

    def play(self) -> Trail:
        """One episode, each seat playing at random or one of the game's strategies."""
        state = self.call("initial_state", self.game.initial_state)
        trail: Trail = [(None, state)]
        players = [self.some([None, *self.game.strategies.values()], 1)[0] for _ in SEATS]
        spec = self.game.spec
        longest = 10 * spec.rounds * (2 * spec.moves_per_round + spec.chance_per_round)
        self.visit(state)
        while not state.is_terminal:
            self.require(
                len(trail) <= longest,
                f"an episode has more than {longest} moves",
                "It must end after spec.rounds rounds: then actors and chance_outcomes() are empty",
            )
            move = self.draw(state, players)
            state = self.step(state, move)
            self.visit(state)
            trail.append((move, state))
        return trail

    def draw(self, state: State, players: list[Strategy | None]) -> Move:
        """A random move, as nature or as the seats that must move."""
        pairs = state.chance_outcomes()
        if pairs:
            return "nature", pairs[self.rng.choice(len(pairs), p=[p for _, p in pairs])][0]
        actions = []
        for seat in state.actors:
            seen = state.information(seat)
            legal = seen.legal_actions
            player = players[seat]
            probabilities = self.distribution(player, seen) if player else {a: 1 / len(legal) for a in legal}
            actions.append(legal[self.rng.choice(len(legal), p=[probabilities.get(a, 0) for a in legal])])
        return "seats", tuple(actions)

    def rounds(self, trail: Trail) -> None:
        """The rounds of an episode: their number, their moves, and what their outcomes say of them."""
        spec, finished = self.game.spec, 0
        made: tuple[list[str], list[str]] = ([], [])
        chance = 0
        self.require(
            trail[0][1].outcome is None,
            "the initial state has an outcome",
            "outcome is None until a round ends",
        )
        for index, (move, state) in enumerate(trail):
            if move is not None and move[0] == "nature":
                chance += 1
            elif move is not None:
                for seat, action in zip(trail[index - 1][1].actors, move[1], strict=True):
                    made[seat].append(action)
            if state.outcome is not None:
                finished += 1
                self.moves_of_round(state.outcome, made, chance)
                made, chance = ([], []), 0
            self.require(
                state.is_terminal or state.round == finished,
                f"state.round is {state.round} after {finished} finished rounds in {short(state)}",
                "round counts from 0 the rounds that have an outcome; outcome is set in the one state right "
                "after the round's last move, and None in the others",
            )
            self.require(
                state.is_terminal or finished < spec.rounds,
                f"{'actors' if state.actors else 'chance_outcomes()'} after the last of {spec.rounds} rounds, in "
                f"{short(state)}",
                "The episode ends with the last round's outcome: neither seats nor nature move any more",
            )
        self.require(
            finished == spec.rounds,
            f"an episode has {finished} outcomes",
            f"It must have one for each of spec.rounds = {spec.rounds}",
        )

    def moves_of_round(self, outcome: Outcome, made: tuple[list[str], list[str]], chance: int) -> None:
        spec = self.game.spec
        told = tuple(tuple(actions) for actions in outcome.actions)
        self.require(
            told == tuple(map(tuple, made)),
            f"Outcome.actions is {short(outcome.actions)} where the seats played {short(made)}",
            "Give the moves of the round, one tuple per seat, in order; in all states but the one right "
            "after the round's last move, outcome is None",
        )
        self.require(
            len(outcome.private) == 2,
            f"Outcome.private is {short(outcome.private)}",
            "Give one entry per seat: all that nature has shown it, or None",
        )
        most = max(map(len, made))
        self.require(
            most <= spec.moves_per_round,
            f"a seat moved {most} times in one round",
            f"spec.moves_per_round is {spec.moves_per_round}; it must be the most that can happen",
        )
        self.require(
            chance <= spec.chance_per_round,
            f"nature moved {chance} times in one round",
            f"spec.chance_per_round is {spec.chance_per_round}; it must be the most that can happen",
        )

    def same_again(self, trail: Trail) -> None:
        """The same moves must give the same states, information and prompts."""
        state = self.game.initial_state()
        for move, before in trail:
            if move is not None:
                state = self.step(state, move)
            self.require(
                state == before and hash(state) == hash(before),
                f"the same moves give {short(before)} and then {short(state)}",
                "initial_state(), apply() and apply_chance() must not remember earlier calls",
            )
            for seat in state.actors:
                seen = state.information(seat)
                self.require(
                    seen == before.information(seat) and self.game.render(seen) == self.seen[seen],
                    f"the same moves give seat {seat} two different views, last {short(seen)}",
                    "information() and render() must depend on the state only",
                )
