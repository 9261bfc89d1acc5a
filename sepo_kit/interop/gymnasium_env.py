"""One seat of a game as a Gymnasium environment: the opponent and nature move inside, as they do in ``play``.

An observation is the vector of the seat's key (``encoding.py``). ``info`` has "action_mask" (int8, 1 where legal),
"prompt" (what a model would be told) and "legal_actions" (words); once the match is over, "match": its payoffs and
harms by round, as an ``Episode`` ("episode" is Gymnasium's own word there). The reward is the seat's payoff in the
rounds that the step finished. An action that is not legal forfeits: the match ends, and every round that is left pays
the least that a round can pay.
"""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces

from sepo_kit.engine.policy import Policy
from sepo_kit.engine.sitting import Sitting
from sepo_kit.games.base import Game
from sepo_kit.interop.encoding import encoding, forfeit
from sepo_kit.interop.opponents import opponents_of


class SeatEnv(gymnasium.Env):
    """``action_masks()`` gives the mask to libraries that ask the environment for it."""

    metadata = {"render_modes": []}

    def __init__(self, game: Game, opponent: str | Policy, seat: int) -> None:
        self.game, self.seat = game, seat
        self.opponents = opponents_of(game, opponent, seat)
        self._codes = encoding(game)
        self.observation_space = spaces.Box(0, 1, (self._codes.length,), np.float32)
        self.action_space = spaces.Discrete(len(self._codes.actions))
        self._sitting: Sitting | None = None

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        opponent = self.opponents[self.np_random.integers(len(self.opponents))]
        self._sitting = Sitting(self.game, opponent, self.seat, seed=int(self.np_random.integers(2**32)))
        self._paid = len(self._sitting.rounds)
        return self._shown()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        sitting = self._sitting
        if sitting is None or sitting.over:
            raise ValueError("no match is at play; call reset() first")
        if int(action) not in self._codes.legal(sitting.seen):
            reward = forfeit(self.game, sitting.round)
            self._sitting = None
            seen, info = self._shown()
            return seen, reward, True, False, info | {"illegal_action": int(action)}
        sitting.act(self._codes.actions[int(action)])
        reward = sum(node.outcome.payoffs[self.seat] for node in sitting.rounds[self._paid :])
        self._paid = len(sitting.rounds)
        seen, info = self._shown()
        return seen, float(reward), sitting.over, False, info

    def action_masks(self) -> np.ndarray:
        """1 for each legal action: int8, shape (A,)."""
        return self._codes.mask(self._sitting and self._sitting.seen)

    def _shown(self) -> tuple[np.ndarray, dict]:
        """Observation and info."""
        sitting = self._sitting
        info = {"action_mask": self.action_masks(), "prompt": "", "legal_actions": ()}
        if sitting is not None:
            info |= {"prompt": sitting.prompt, "legal_actions": sitting.legal_actions}
            info |= {"match": sitting.episode()} if sitting.over else {}
        return self._codes.vector(sitting and sitting.seen), info
