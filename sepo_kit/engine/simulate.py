"""Many episodes at once where only payoffs and harms are wanted: all episodes at one node take one NumPy step, and an
agent that meets many opponents is asked once a move for all of them.

The draws are those of ``rollout.py``, so the numbers are the same as those of ``play``; what is left out is the
record of decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sepo_kit.engine.graph import Node, shared_graph
from sepo_kit.engine.policy import Policy, StrategyPolicy, distributions_of, remembering
from sepo_kit.engine.rollout import AGENT, OPPONENT, Match, pool_of, uniforms
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState
from sepo_kit.games.numbers import require_count

THE_AGENT = -1  # among players, where the opponents are 0, 1, ...
Place = tuple[int, int]  # a player, and the id of what it sees


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
    game = get_game(game)
    named = isinstance(opponent, str)
    policy = StrategyPolicy(game.strategy(opponent)) if named else opponent
    (found,) = _simulated(game, agent, [(opponent if named else opponent.name, policy)], episodes, seed, pool)
    return found


def simulate_all(
    game: Game | str,
    agent: Policy,
    opponents: Sequence[Policy],
    episodes: int = 1_000,
    seed: int = 0,
    pool: str | None = None,
) -> list[Simulation]:
    """``simulate`` against each of ``opponents``, the agent asked for all of them at once."""
    named = [(opponent.name, opponent) for opponent in opponents]
    return _simulated(get_game(game), agent, named, episodes, seed, pool)


def _simulated(
    game: Game,
    agent: Policy,
    opponents: Sequence[tuple[str, Policy]],
    episodes: int,
    seed: int,
    pool: str | None,
) -> list[Simulation]:
    require_count("episodes", episodes)
    matches = [Match(pool_of(game, name) if pool is None else pool, name, 0) for name, _ in opponents]
    draws = [uniforms(game, match, episodes, seed) for match in matches]
    together = tuple(np.concatenate(parts) for parts in zip(*draws, strict=True))
    others = [policy for _, policy in opponents]
    with remembering([agent, *others]):
        whole = _Batch(game, agent, others, together).run()
    parts = [np.split(values, len(opponents)) for values in vars(whole).values()]
    return [Simulation(*own) for own in zip(*parts, strict=True)]


class _Batch:
    """As many episodes against each opponent, one opponent's after the other's, each at a node of the state graph."""

    def __init__(
        self, game: Game, agent: Policy, opponents: list[Policy], draws: tuple[np.ndarray, ...]
    ) -> None:
        self.graph = shared_graph(game)
        self.agent = agent
        self.opponents = opponents
        nature, opponent, own = draws  # each (E, T, moves)
        self.draws = {None: nature, OPPONENT: opponent, AGENT: own}
        count = len(nature)
        self.moved = {mover: np.zeros(count, dtype=int) for mover in self.draws}  # moves in this round
        self.result = Simulation(*(np.zeros((count, game.spec.rounds)) for _ in range(4)))
        self.ended = np.zeros(count, dtype=int)  # rounds finished

    def run(self) -> Simulation:
        """Move all episodes to their end."""
        places = np.split(np.arange(len(self.ended)), len(self.opponents))
        groups = {(self.graph.root, who): members for who, members in enumerate(places)}
        while groups:
            self._learn(groups)
            arrived: dict[tuple[Node, int], list[np.ndarray]] = {}
            for (node, who), members in groups.items():
                for child, those in self._split(node, who, members):
                    arrived.setdefault((child, who), []).append(those)
            groups = {place: np.concatenate(parts) for place, parts in arrived.items()}
            for (node, _), members in groups.items():
                if node.outcome is not None:
                    self._finish_round(node, members)
        return self.result

    def _learn(self, groups: dict[tuple[Node, int], np.ndarray]) -> None:
        """Ask each policy for all states at which it must move: what to play where a single episode stands and it
        draws for less, else how it plays there."""
        self.cumulative, self.alone = {}, {}
        asked: dict[int, dict[int, InformationState]] = {}  # by the number of the player
        for node, who in groups:
            for seat in node.actors:
                asked.setdefault(_player(seat, who), {})[id(node.seen[seat])] = node.seen[seat]
        for player, states in asked.items():
            policy = self.agent if player == THE_AGENT else self.opponents[player]
            if policy.draws_for_less(list(states.values())):
                states = self._draw_alone(policy, player, states, groups)
            for key, p in zip(states, distributions_of(policy, list(states.values())), strict=True):
                self.cumulative[player, key] = np.cumsum(p)

    def _draw_alone(
        self,
        policy: Policy,
        player: int,
        states: dict[int, InformationState],
        groups: dict[tuple[Node, int], np.ndarray],
    ) -> dict[int, InformationState]:
        """Draw one action for each of ``states`` where a single episode stands; the others."""
        mover = AGENT if player == THE_AGENT else OPPONENT
        there: dict[int, list[int]] = {key: [] for key in states}  # the episodes that stand at a state
        for (node, who), members in groups.items():
            for seat in node.actors:
                if _player(seat, who) == player:
                    there[id(node.seen[seat])] += members.tolist()
        alone = {key: episodes[0] for key, episodes in there.items() if len(episodes) == 1}
        numbers = [
            float(self.draws[mover][one, self.ended[one], self.moved[mover][one]]) for one in alone.values()
        ]
        for key, decision in zip(alone, policy.act([states[key] for key in alone], numbers), strict=True):
            self.alone[player, key] = states[key].legal_actions.index(decision.action)
        return {key: state for key, state in states.items() if key not in alone}

    def _split(self, node: Node, who: int, members: np.ndarray):
        """The children of ``node`` with the members, all of opponent ``who``, that go there."""
        if node.chance is not None:
            chosen = self._draw(None, np.asarray(node.chance[2]), members)
            for index in np.unique(chosen):
                yield node.after_chance(int(index)), members[chosen == index]
        elif node.actors:
            chosen = [
                self._chosen(seat, (_player(seat, who), id(node.seen[seat])), members) for seat in node.actors
            ]
            legal = [node.seen[seat].legal_actions for seat in node.actors]
            shape = [len(actions) for actions in legal]
            joint = np.ravel_multi_index(chosen, shape)
            for index in np.unique(joint):
                places = np.unravel_index(index, shape)
                actions = tuple(options[int(i)] for options, i in zip(legal, places, strict=True))
                yield node.after(actions), members[joint == index]

    def _chosen(self, seat: int, place: Place, members: np.ndarray) -> np.ndarray:
        """The number of the action that is played in each of ``members``."""
        if place in self.alone:
            self.moved[seat][members] += 1
            return np.full(1, self.alone[place])
        return self._draw(seat, self.cumulative[place], members)

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


def _player(seat: int, who: int) -> int:
    """Who moves in ``seat`` of a match against opponent number ``who``."""
    return THE_AGENT if seat == AGENT else who
