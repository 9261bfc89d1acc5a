"""An agent that is asked in other words than those it was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from sepo_kit.engine.episode import Decision
from sepo_kit.engine.policy import Policy
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState, Wording
from sepo_kit.games.wordings import WordedGame, WordedInformation


class Reworded(Policy):
    """``agent`` at the table of its game, asked as ``wording`` says the game; its replies are read back into the game's
    own actions."""

    def __init__(self, agent: Policy, game: WordedGame, wording: str) -> None:
        self.name = f"{agent.name} in {wording} words"
        self.game = game
        self.agent = agent.asked_by(game)
        if hasattr(agent, "style"):  # whether it states distributions, or answers in free text
            self.style = agent.style
        self._said: dict[InformationState, WordedInformation] = {}

    def identity(self) -> str:
        return f"{self.agent.identity()} {self.game.wording}"

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        return self.agent.distributions(self._reworded(seen))

    def roughly(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        return self.agent.roughly(self._reworded(seen))

    def draws_for_less(self, seen: Sequence[InformationState]) -> bool:
        return self.agent.draws_for_less(self._reworded(seen))

    def act(self, seen: Sequence[InformationState], uniforms: Sequence[float]) -> list[Decision]:
        said = self._reworded(seen)
        return [
            replace(decision, action=state.legal_actions[worded.legal_actions.index(decision.action)])
            for state, worded, decision in zip(seen, said, self.agent.act(said, uniforms), strict=True)
        ]

    def remember(self) -> AbstractContextManager[None]:
        return self.agent.remember()

    def _reworded(self, seen: Sequence[InformationState]) -> list[WordedInformation]:
        for state in seen:
            if state not in self._said:
                self._said[state] = self.game.reword(state)
        return [self._said[state] for state in seen]


def reworded(agent: Policy, game: Game | str, wording: str) -> Policy:
    """``agent``, asked in another wording of ``game``.

    Raises
    ------
    ValueError
        The game has no such wording, or the agent reads no prompts.
    """
    game = get_game(game)
    known = require_wordings(game)
    if wording not in known:
        raise ValueError(f"{game.spec.id} has no wording {wording!r}; known: {', '.join(known)}")
    return Reworded(agent, WordedGame(game, known[wording]), wording)


def require_wordings(game: Game) -> Mapping[str, Wording]:
    """The wordings of ``game`` by name; ValueError where it has none."""
    if not game.wordings:
        raise ValueError(f"{game.spec.id} has no wordings; give the game `wordings` (games/wordings.py)")
    return game.wordings
