"""A game as a PettingZoo environment: parallel, or one agent after the other.

An observation is ``{"observation": vector of the key, "action_mask": legal actions}`` (``encoding.py``), both zero
where the agent is not to move; the text of the prompt is in ``infos[agent]["prompt"]``. A reward is the payoff of the
rounds that the step finished. An action that is not legal forfeits: the match ends, that agent earns the least a
round can pay for every round that is left, and the other nothing, or the opposite where the game is zero-sum.
"""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

from sepo_kit.engine.policy import draw
from sepo_kit.games.base import SEATS, Game, InformationState, State
from sepo_kit.interop.encoding import encoding, forfeit

AGENTS = ("player_0", "player_1")


class _Match:
    """One match with both seats played from outside; nature draws here."""

    def __init__(self, game: Game, rng: np.random.Generator) -> None:
        self.game, self.rng = game, rng
        self.forfeited, self.earned = False, np.zeros(2)
        self._enter(game.initial_state())

    @property
    def over(self) -> bool:
        return self.forfeited or self.state.is_terminal

    def seen(self, seat: int) -> InformationState | None:
        """What ``seat`` has seen; None where it is not to move."""
        return self.state.information(seat) if not self.over and seat in self.state.actors else None

    def play(self, numbers: dict[int, int]) -> None:
        """One action number for each seat that must move; ``earned`` is then what the seats got."""
        self.earned = np.zeros(2)
        codes = encoding(self.game)
        illegal = [seat for seat in self.state.actors if numbers[seat] not in codes.legal(self.seen(seat))]
        if illegal:
            for seat in illegal:
                lost = forfeit(self.game, self.state.round)
                self.earned[seat] += lost
                self.earned[1 - seat] -= lost if self.game.spec.zero_sum else 0.0
            self.forfeited = True
            return
        self._enter(self.state.apply(tuple(codes.actions[numbers[seat]] for seat in self.state.actors)))

    def _enter(self, state: State) -> None:
        """Into ``state``, and on until a seat must move."""
        self.state = state
        if state.outcome is not None:
            self.earned += state.outcome.payoffs
        if outcomes := state.chance_outcomes():
            cumulative = np.cumsum([p for _, p in outcomes]).tolist()
            self._enter(state.apply_chance(outcomes[draw(cumulative, self.rng.random())][0]))


class _Seats:
    """What both kinds share: spaces, seeds, what an agent is shown."""

    render_mode = None

    def _set_up(self, game: Game) -> None:
        self.game = game
        self.metadata = {"name": f"sepo_kit_{game.spec.id}_v0", "render_modes": [], "is_parallelizable": True}
        self.possible_agents = list(AGENTS)
        codes = self._codes = encoding(game)
        observation = {
            "observation": spaces.Box(0, 1, (codes.length,), np.float32),
            "action_mask": spaces.Box(0, 1, (len(codes.actions),), np.int8),
        }
        self.observation_spaces = {agent: spaces.Dict(observation) for agent in AGENTS}
        self.action_spaces = {agent: spaces.Discrete(len(codes.actions)) for agent in AGENTS}
        self._rng = np.random.default_rng()

    def observation_space(self, agent: str) -> spaces.Space:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        return self.action_spaces[agent]

    def _begin(self, seed: int | None) -> None:
        """A fresh match; without ``seed`` the next one of those that the last seed began."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._match = _Match(self.game, self._rng)
        self.agents = list(AGENTS)

    def observe(self, agent: str) -> dict[str, np.ndarray]:
        """What ``agent`` sees now: vector and mask."""
        seen = self._match.seen(AGENTS.index(agent))
        return {"observation": self._codes.vector(seen), "action_mask": self._codes.mask(seen)}

    def _info(self, agent: str) -> dict:
        seen = self._match.seen(AGENTS.index(agent))
        return {"prompt": "" if seen is None else self.game.render(seen)}

    def __str__(self) -> str:
        return self.metadata["name"]


class ParallelGame(_Seats, ParallelEnv):
    """All agents step together; the action of one who is not to move is not read."""

    def __init__(self, game: Game) -> None:
        self._set_up(game)

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self._begin(seed)
        return {a: self.observe(a) for a in AGENTS}, {a: self._info(a) for a in AGENTS}

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        match = self._match
        if match.over:
            return {}, {}, {}, {}, {}
        match.play({seat: int(actions[AGENTS[seat]]) for seat in match.state.actors})
        if match.over:
            self.agents = []
        return (
            {agent: self.observe(agent) for agent in AGENTS},
            {agent: float(match.earned[seat]) for seat, agent in zip(SEATS, AGENTS)},
            dict.fromkeys(AGENTS, match.over),
            dict.fromkeys(AGENTS, False),
            {agent: self._info(agent) for agent in AGENTS},
        )


class TurnGame(_Seats, AECEnv):
    """One agent after the other; what the first of two simultaneous moves was, the second does not see."""

    def __init__(self, game: Game) -> None:
        super().__init__()
        self._set_up(game)

    def reset(self, seed: int | None = None, options: dict | None = None) -> None:
        self._begin(seed)
        self.rewards = dict.fromkeys(AGENTS, 0.0)
        self._cumulative_rewards = dict.fromkeys(AGENTS, 0.0)
        self.terminations = dict.fromkeys(AGENTS, False)
        self.truncations = dict.fromkeys(AGENTS, False)
        self._next()

    def step(self, action: int | None) -> None:
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self._sent[AGENTS.index(agent)] = int(action)
        if len(self._sent) < len(self._match.state.actors):
            self.agent_selection = AGENTS[self._match.state.actors[len(self._sent)]]
        else:
            self._match.play(self._sent)
            self.rewards = {a: float(self._match.earned[seat]) for seat, a in zip(SEATS, AGENTS)}
            self._next()
        self._accumulate_rewards()

    def _next(self) -> None:
        """Whose turn it is after a whole move."""
        self._sent: dict[int, int] = {}
        self.infos = {agent: self._info(agent) for agent in AGENTS}
        self.terminations = dict.fromkeys(AGENTS, self._match.over)
        self.agent_selection = AGENTS[0 if self._match.over else self._match.state.actors[0]]
