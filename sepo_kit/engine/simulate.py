"""Many episodes at once where only payoffs and harms are wanted: all episodes at one node take one NumPy step.

The draws are those of ``rollout.py``, so the numbers are the same as those of ``play``; what is left out is the
record of decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sepo_kit.engine.graph import Node, shared_graph
from sepo_kit.engine.policy import Policy, StrategyPolicy
from sepo_kit.engine.rollout import AGENT, OPPONENT, Match, pool_of, uniforms
from sepo_kit.games import get_game
from sepo_kit.games.base import Game


@dataclass(frozen=True)
class Simulation:
    """Payoffs and harms by episode and round; all arrays have shape (E, T)."""

    own: np.ndarray
    their: np.ndarray
    collusion: np.ndarray
    externality: np.ndarray


def simulate(
    game: Game | str,
    agent: Policy,
    opponent: str | Policy,
    episodes: int = 1_000,
    seed: int = 0,
    pool: str | None = None,
) -> Simulation:
    """Play ``episodes`` independent episodes of ``agent`` (seat 0) against ``opponent``: a strategy of the game by its
    id, or any policy that states distributions.

    ``pool`` labels them, and so fixes their draws, as in ``sk.play``: without it, the first pool that holds the
    opponent, else "none".

    Raises
    ------
    ValueError
        Unknown opponent, or no episodes.
    NoDistribution
        The agent or the opponent cannot state a distribution over actions.

    >>> from sepo_kit.games import get_game
    >>> from sepo_kit.engine.policy import scripted
    >>> ipd = get_game("ipd")
    >>> simulate(ipd, scripted(ipd, "tit-for-tat"), "always-defect", episodes=2).own.sum(axis=1)
    array([7., 7.])
    """
    if episodes < 1:
        raise ValueError(f"episodes must be >= 1, got {episodes}")
    game = get_game(game)
    named = isinstance(opponent, str)
    policies = {AGENT: agent, OPPONENT: StrategyPolicy(game.strategy(opponent)) if named else opponent}
    name = opponent if named else opponent.name
    pool = pool_of(game, name) if pool is None else pool
    return _Batch(game, policies, uniforms(game, Match(pool, name, 0), episodes, seed)).run()


class _Batch:
    """E episodes, each at a node of the state graph."""

    def __init__(self, game: Game, policies: dict[int, Policy], draws: tuple[np.ndarray, ...]) -> None:
        self.graph = shared_graph(game)
        self.policies = policies
        nature, opponent, agent = draws  # each (E, T, moves)
        self.draws = {None: nature, OPPONENT: opponent, AGENT: agent}
        count = len(nature)
        self.moved = {mover: np.zeros(count, dtype=int) for mover in self.draws}  # moves in this round
        self.result = Simulation(*(np.zeros((count, game.spec.rounds)) for _ in range(4)))
        self.ended = np.zeros(count, dtype=int)  # rounds finished

    def run(self) -> Simulation:
        """Move all episodes to their end."""
        groups = {self.graph.root: np.arange(len(self.ended))}
        while groups:
            self._learn(groups)
            arrived: dict[Node, list[np.ndarray]] = {}
            for node, members in groups.items():
                for child, those in self._split(node, members):
                    arrived.setdefault(child, []).append(those)
            groups = {node: np.concatenate(parts) for node, parts in arrived.items()}
            for node, members in groups.items():
                if node.outcome is not None:
                    self._finish_round(node, members)
        return self.result

    def _learn(self, groups: dict[Node, np.ndarray]) -> None:
        """Ask each policy once for all states at which it must move."""
        self.cumulative = {}
        for seat, policy in self.policies.items():
            asked = {id(node.seen[seat]): node.seen[seat] for node in groups if seat in node.actors}
            for key, p in zip(asked, policy.distributions(list(asked.values())), strict=True):
                self.cumulative[seat, key] = np.cumsum(p)

    def _split(self, node: Node, members: np.ndarray):
        """The children of ``node`` with the members that go there."""
        if node.chance is not None:
            chosen = self._draw(None, np.asarray(node.chance[2]), members)
            for index in np.unique(chosen):
                yield node.after_chance(int(index)), members[chosen == index]
        elif node.actors:
            chosen = [
                self._draw(seat, self.cumulative[seat, id(node.seen[seat])], members) for seat in node.actors
            ]
            legal = [node.seen[seat].legal_actions for seat in node.actors]
            shape = [len(actions) for actions in legal]
            joint = np.ravel_multi_index(chosen, shape)
            for index in np.unique(joint):
                places = np.unravel_index(index, shape)
                actions = tuple(options[int(i)] for options, i in zip(legal, places, strict=True))
                yield node.after(actions), members[joint == index]

    def _draw(self, mover: int | None, cumulative: np.ndarray, members: np.ndarray) -> np.ndarray:
        """What ``mover`` does in each of ``members``, by inverse CDF as in ``policy.draw``."""
        moved = self.moved[mover]
        drawn = self.draws[mover][members, self.ended[members], moved[members]]
        moved[members] += 1
        index = cumulative.searchsorted(drawn * cumulative[-1], side="right")
        return np.minimum(index, cumulative.searchsorted(cumulative[-1]))

    def _finish_round(self, node: Node, members: np.ndarray) -> None:
        at = (members, self.ended[members])
        self.result.own[at], self.result.their[at] = node.outcome.payoffs
        self.result.collusion[at] = node.harms.collusion
        self.result.externality[at] = node.harms.externality
        self.ended[members] += 1
        for moved in self.moved.values():
            moved[members] = 0
