"""A sitting: one match in which one seat is played from outside, by a person or from a record.

The other seat is any ``Policy``. Rules and draws are those of ``rollout.py``: a sitting with the agent's moves of an
episode and its draws is that episode again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sepo_kit.engine.episode import Decision, Episode
from sepo_kit.engine.graph import Node, shared_graph
from sepo_kit.engine.policy import NoDistribution, Policy, StrategyPolicy, draw, scripted
from sepo_kit.engine.rollout import AGENT, OPPONENT, Match, uniforms
from sepo_kit.games.base import Game, InformationState, require_legal


@dataclass(frozen=True, slots=True)
class Turn:
    """One move.

    ``seen`` is what the seat saw, ``prompt`` how it was told. ``probabilities`` of the legal actions and ``reason`` are
    the policy's: None for the seat played from outside, and where the policy states none.
    """

    round: int
    seat: int
    seen: InformationState
    prompt: str
    action: str
    probabilities: dict[str, float] | None = None
    reason: str | None = None


class Sitting:
    """A match against ``opponent``, one ``act`` at a time.

    Parameters
    ----------
    opponent
        Who plays the other seat.
    seat
        The seat played from outside, 0 or 1.
    seed
        Fixes what nature and the opponent draw.
    draws
        Uniform numbers of nature, shape (T, C), and of the opponent, shape (T, M), instead of those of ``seed``.

    Raises
    ------
    ValueError
        There is no such seat.
    """

    def __init__(
        self,
        game: Game,
        opponent: Policy,
        seat: int = AGENT,
        seed: int = 0,
        draws: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        if seat not in (AGENT, OPPONENT):
            raise ValueError(f"seat must be 0 or 1, got {seat!r}")
        self.game = game
        self.opponent = opponent
        self.seat = seat
        self.turns: list[Turn] = []
        self.rounds: list[Node] = []  # the node that each finished round led to
        if draws is None:
            nature, theirs, _ = uniforms(game, Match("table", opponent.name, 0), 1, seed)
            draws = nature[0], theirs[0]
        self._nature, self._theirs = draws
        self._chances = self._answers = 0
        self._node = shared_graph(game).root
        self._go_on()

    # --- what the seat sees -----------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether the match has ended."""
        return not self._node.actors and self._node.chance is None

    @property
    def round(self) -> int:
        """Index of the round at play, from 0; the number of rounds where the match is over."""
        return self._node.round

    @property
    def seen(self) -> InformationState | None:
        """What the seat has seen; None where the match is over."""
        return None if self.over else self._node.seen[self.seat]

    @property
    def prompt(self) -> str:
        """What the seat is told, as a model would be; "" where the match is over."""
        return "" if self.over else self.game.render(self.seen)

    @property
    def legal_actions(self) -> tuple[str, ...]:
        """Actions allowed now; () where the match is over."""
        return () if self.over else self.seen.legal_actions

    # --- playing ----------------------------------------------------------------------------------

    def act(self, action: str) -> list[Turn]:
        """Play ``action``; what happened until the seat must move again, in order.

        Raises
        ------
        ValueError
            The match is over, or the action is not legal. Then, and where the opponent fails, nothing has happened.
        """
        if self.over:
            raise ValueError("the match is over; start another")
        require_legal(action, self.legal_actions)
        before, node = len(self.turns), self._node
        kept = before, len(self.rounds), node, self._chances, self._answers
        self.turns.append(Turn(node.round, self.seat, self.seen, self.prompt, action))
        try:
            if len(node.actors) == 2:
                actions = {self.seat: action, 1 - self.seat: self._answer()}
                self._enter(node.after((actions[AGENT], actions[OPPONENT])))
            else:
                self._enter(node.after((action,)))
            self._go_on()
        except BaseException:  # a model may fail or be interrupted
            turns, rounds, self._node, self._chances, self._answers = kept
            del self.turns[turns:], self.rounds[rounds:]
            raise
        return self.turns[before:]

    def _go_on(self) -> None:
        """Let nature and the opponent move until the seat must, or the match is over."""
        while not self.over and self.seat not in self._node.actors:
            node = self._node
            if node.chance is not None:
                uniform = self._nature[node.round][self._chances]
                self._chances += 1
                self._enter(node.after_chance(draw(node.chance[2], uniform)))
            else:
                self._enter(node.after((self._answer(),)))

    def _answer(self) -> str:
        """The opponent's move, noted."""
        seen = self._node.seen[1 - self.seat]
        (choice,) = self.opponent.act([seen], [self._theirs[self._node.round][self._answers]])
        self._answers += 1
        reason = choice.reply if choice.reply != choice.action else None
        if isinstance(self.opponent, StrategyPolicy):
            reason = self.opponent.strategy.explain(seen, choice.action)
        self.turns.append(
            Turn(
                self._node.round,
                1 - self.seat,
                seen,
                self.game.render(seen),
                choice.action,
                self._stated(seen),
                reason,
            )
        )
        return choice.action

    def _stated(self, seen: InformationState) -> dict[str, float] | None:
        try:
            (probabilities,) = self.opponent.distributions([seen])
        except NoDistribution:
            return None
        return dict(zip(seen.legal_actions, map(float, probabilities), strict=True))

    def _enter(self, node: Node) -> None:
        self._node = node
        if node.outcome is not None:
            self.rounds.append(node)
            self._chances = self._answers = 0

    # --- the record -------------------------------------------------------------------------------

    def episode(self, seat: int | None = None) -> Episode:
        """The finished rounds as ``seat`` (default: the one played from outside) would have them recorded."""
        seat = self.seat if seat is None else seat
        name = self.opponent.name if seat == self.seat else "you"
        found = Episode(self.game.spec.id, "table", name, 0, 0)
        for node in self.rounds:
            harms = self.game.harms(node.outcome, seat)
            found.own.append(node.outcome.payoffs[seat])
            found.their.append(node.outcome.payoffs[1 - seat])
            found.collusion.append(harms.collusion)
            found.externality.append(harms.externality)
        return found


class Recorded(Policy):
    """Does what it did before, decision by decision, whatever it is asked; ``left`` is what it has not done yet.

    Raises
    ------
    ValueError
        It did no more.
    """

    def __init__(self, name: str, decisions: Sequence[Decision]) -> None:
        self.name = name
        self.left = list(decisions)

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        raise NoDistribution("a record tells what was done, not with which probabilities")

    def act(self, seen: Sequence[InformationState], uniforms: Sequence[float]) -> list[Decision]:
        if len(self.left) < len(seen):
            raise ValueError(f"the record of {self.name} ends before the match does")
        found, self.left = self.left[: len(seen)], self.left[len(seen) :]
        for decision, state in zip(found, seen, strict=True):
            require_legal(decision.action, state.legal_actions)
        return found


def replayed(
    game: Game,
    match: Match,
    actions: Sequence[str],
    seed: int,
    *,
    answers: Sequence[Decision] | None = None,
    step: int = 0,
    common_random_numbers: bool = False,
) -> Sitting:
    """The recorded episode of ``match`` again, from the agent's ``actions`` and the draws of ``play_matches``.

    ``answers``: what the other seat did, where it is not a strategy; it is then not asked again.

    Raises
    ------
    ValueError
        An action is not legal, or they end before or after the match does: it was played under other rules.
    """
    nature, theirs, _ = uniforms(game, match, match.index + 1, seed, step)
    shared = 0 if common_random_numbers else match.index
    other = scripted(game, match.opponent) if answers is None else Recorded(match.opponent, answers)
    sitting = Sitting(game, other, draws=(nature[shared], theirs[shared]))
    for action in actions:
        sitting.act(action)
    if isinstance(other, Recorded) and other.left:
        raise ValueError(f"the record of {match.opponent} goes on after the match is over")
    if not sitting.over:
        raise ValueError(f"the record ends in {game.spec.unit} {sitting.round + 1} of {game.spec.rounds}")
    return sitting
