"""Play in lockstep: all live episodes of all pools move together, one batch of the agent a round.

Randomness is passed in as uniform numbers. An episode's draws are a function of (run seed, step, pool,
opponent, group, index) only; the rollouts of one group share every chance draw and every opponent draw (common random
numbers), so that they differ by the agent's choices alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sepo_kit.engine.episode import Decision, Episode
from sepo_kit.engine.graph import Node, shared_graph
from sepo_kit.engine.policy import Policy, StrategyPolicy, draw
from sepo_kit.games.base import Game

AGENT, OPPONENT = 0, 1


@dataclass(frozen=True)
class Match:
    """One episode to be played; the fields are those of ``episode.Episode``."""

    pool: str
    opponent: str
    index: int
    group: int = 0
    owner: tuple[str, int, int] | None = None


def matches(game: Game, pools: Sequence[str], rollouts: int, groups: int = 1) -> list[Match]:
    """``groups`` groups of ``rollouts`` matches against every opponent of ``pools``, groups consecutive."""
    return [
        Match(pool, opponent, index, group)
        for pool in pools
        for opponent in game.spec.pools[pool]
        for group in range(groups)
        for index in range(rollouts)
    ]


def play_matches(
    game: Game,
    agent: Policy,
    todo: Sequence[Match],
    seed: int,
    *,
    step: int = 0,
    common_random_numbers: bool = True,
    on_round: Callable[[int], None] | None = None,
) -> list[Episode]:
    """Play ``todo`` with ``agent`` in seat 0; the episodes in the same order.

    Parameters
    ----------
    seed, step
        The run seed, and the training step where there is one.
    common_random_numbers
        Whether the rollouts of a group share the draws of nature and of the opponent.
    on_round
        Called with the round number each time all live episodes have moved.
    """
    graph = shared_graph(game)
    opponents = {o: StrategyPolicy(game.strategy(o)) for o in dict.fromkeys(m.opponent for m in todo)}
    episodes = [Episode(game.spec.id, m.pool, m.opponent, m.index, seed, m.group, m.owner) for m in todo]
    live = [
        _Seat(graph.root, episode, opponents[episode.opponent], draws)
        for episode, draws in zip(
            episodes, _draws(game, todo, seed, step, common_random_numbers), strict=True
        )
    ]
    moves = 0
    with agent.remember():
        while live:
            for seat in live:
                seat.let_others_move()
            live = [seat for seat in live if seat.waiting]
            if not live:
                break
            decisions = agent.act(
                [seat.node.seen[AGENT] for seat in live],
                [seat.draws.agent[seat.node.round][seat.move] for seat in live],
            )
            for seat, decision in zip(live, decisions, strict=True):
                seat.decide(decision)
            moves += 1
            if on_round is not None:
                on_round(moves)
    return episodes


def play(
    game: Game, agent: Policy, opponent: str, episodes: int = 20, seed: int = 0, pool: str | None = None
) -> list[Episode]:
    """Play ``episodes`` independent episodes against one opponent.

    ``pool`` labels them; without it, the first pool that holds the opponent, else "none".
    """
    game.strategy(opponent)
    if episodes < 1:
        raise ValueError(f"episodes must be >= 1, got {episodes}")
    if pool is None:
        pool = next((p for p, o in game.opponents if o == opponent), "none")
    todo = [Match(pool, opponent, index) for index in range(episodes)]
    return play_matches(game, agent, todo, seed, common_random_numbers=False)


@dataclass(slots=True)
class _Draws:
    """Uniform numbers of one episode, by round: chance (T, C), opponent and agent (T, M)."""

    chance: list[list[float]]
    opponent: list[list[float]]
    agent: list[list[float]]


def uniforms(game: Game, match: Match, count: int, seed: int, step: int = 0) -> tuple[np.ndarray, ...]:
    """The uniform numbers of the first ``count`` episodes of the match's group, by index.

    Returns
    -------
    nature, opponent, agent
        Shape (count, T, C), (count, T, M), (count, T, M): draws by episode, round and move within the round.
    """
    spec = game.spec
    chances, moves = spec.chance_per_round, spec.moves_per_round
    # int: the repr of a NumPy integer, as tables hold them, is another
    label = zlib.crc32(repr((match.pool, match.opponent, int(match.group), match.owner)).encode())
    rng = np.random.default_rng([seed, step, label])
    block = rng.random((count, spec.rounds, chances + 2 * moves))
    return block[..., :chances], block[..., chances : chances + moves], block[..., chances + moves :]


def _draws(game: Game, todo: Sequence[Match], seed: int, step: int, common: bool) -> list[_Draws]:
    groups = [replace(match, index=0) for match in todo]
    counts: dict[Match, int] = {}
    for group, match in zip(groups, todo, strict=True):
        counts[group] = max(counts.get(group, 0), match.index + 1)
    streams = {group: uniforms(game, group, count, seed, step) for group, count in counts.items()}
    result = []
    for group, match in zip(groups, todo, strict=True):
        nature, opponent, agent = streams[group]
        shared = 0 if common else match.index
        # Lists are read faster than arrays, but only what is played is worth turning into lists.
        result.append(_Draws(nature[shared].tolist(), opponent[shared].tolist(), agent[match.index].tolist()))
    return result


class _Seat:
    """One live episode: where it stands, and what it has drawn."""

    __slots__ = ("chance_move", "draws", "episode", "move", "node", "opponent", "opponent_move")

    def __init__(self, node: Node, episode: Episode, opponent: StrategyPolicy, draws: _Draws) -> None:
        self.node = node
        self.episode = episode
        self.opponent = opponent
        self.draws = draws
        self.move = self.opponent_move = self.chance_move = 0

    @property
    def waiting(self) -> bool:
        """Whether the agent must move."""
        return AGENT in self.node.actors

    @property
    def over(self) -> bool:
        return not self.node.actors and self.node.chance is None

    def let_others_move(self) -> None:
        """Let nature and the opponent move until the agent must, or the episode is over."""
        while not self.waiting and not self.over:
            node = self.node
            if node.chance is not None:
                uniform = self.draws.chance[node.round][self.chance_move]
                self.chance_move += 1
                self._enter(node.after_chance(draw(node.chance[2], uniform)))
            else:
                self._enter(node.after((self._opponent_action(),)))

    def decide(self, decision: Decision) -> None:
        """Play the agent's decision, with the opponent's where both move at once."""
        node = self.node
        self.episode.decisions.append(decision.placed(node.round, self.move, node.seen[AGENT].key))
        self.move += 1
        if OPPONENT in node.actors:
            self._enter(node.after((decision.action, self._opponent_action())))
        else:
            self._enter(node.after((decision.action,)))

    def _opponent_action(self) -> str:
        node = self.node
        seen = node.seen[OPPONENT]
        strategy = self.opponent.strategy
        cumulative = node.cumulative.get(strategy)
        if cumulative is None:
            cumulative = node.cumulative[strategy] = np.cumsum(self.opponent.distribution(seen)).tolist()
        uniform = self.draws.opponent[node.round][self.opponent_move]
        self.opponent_move += 1
        return seen.legal_actions[draw(cumulative, uniform)]

    def _enter(self, node: Node) -> None:
        self.node = node
        if node.outcome is not None:
            episode = self.episode
            own, their = node.outcome.payoffs
            episode.own.append(own)
            episode.their.append(their)
            episode.collusion.append(node.harms.collusion)
            episode.externality.append(node.harms.externality)
            self.move = self.opponent_move = self.chance_move = 0
