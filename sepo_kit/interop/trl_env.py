"""One seat of a game as an environment for TRL's ``GRPOTrainer(environment_factory=...)``: one tool, ``act``.

The match is one conversation here, with a tool call a decision; the kit's own training asks for each decision in a
fresh chat and credits it by itself (``training/``), which this interface has no place for. ``get_reward`` is the
seat's mean payoff per round on the scale of the prisoner's dilemma. A call that is not legal changes nothing and says
what is; a match that was not played to its end counts its missing rounds at the least a round can pay.
"""

from __future__ import annotations

import numpy as np

from sepo_kit.engine.policy import Policy
from sepo_kit.engine.sitting import Sitting
from sepo_kit.games.base import Game
from sepo_kit.interop.encoding import forfeit

HOW = "Call the tool act with your action, once for every decision, until the match is over."


class TrlEnv:
    """One match at a time. Public methods other than ``reset`` and ``get_reward`` are tools to TRL."""

    def __init__(self, game: Game, opponents: tuple[Policy, ...], seat: int) -> None:
        self._game, self._opponents, self._seat = game, opponents, seat
        self._sitting: Sitting | None = None

    def reset(self, seed: int | None = None, **row) -> str:
        """Begin the match of ``seed``, a column of the data set that makes the rollouts of a prompt face the same
        opponent and draws (without it, any match); returns the rules and the first prompt."""
        rng = np.random.default_rng(seed)
        opponent = self._opponents[rng.integers(len(self._opponents))]
        self._sitting = Sitting(self._game, opponent, self._seat, seed=int(rng.integers(2**32)))
        return f"{self._game.system_prompt('direct')}\n{HOW}\n\n{self._sitting.prompt}"

    def act(self, action: str) -> str:
        """
        Play your action in the game.

        Args:
            action: One of the allowed actions.

        Returns:
            What you see next.
        """
        sitting = self._sitting
        if sitting.over:
            return "The match is over."
        word = self._game.parse(action, sitting.legal_actions)
        if word is None:
            return f"That is not one of the allowed actions: {', '.join(sitting.legal_actions)}."
        sitting.act(word)
        return "The match is over." if sitting.over else sitting.prompt

    def get_reward(self) -> float:
        """Mean payoff per round, times the game's scale."""
        spec, rounds = self._game.spec, self._sitting.rounds
        earned = sum(node.outcome.payoffs[self._seat] for node in rounds)
        return spec.scale * (earned + forfeit(self._game, len(rounds))) / spec.rounds
