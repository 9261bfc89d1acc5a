"""Play in lockstep: all live episodes of all pools move together, one batch of every policy a move.

Randomness is passed in as uniform numbers. A seat's draws in an episode are a function of (run seed, step, pool,
opponent, group, index) and of the seat only; the rollouts of one group share every chance draw and every opponent draw
(common random numbers), so that they differ by the agent's choices alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sepo_kit.engine.episode import Decision, Episode
from sepo_kit.engine.graph import Node, shared_graph
from sepo_kit.engine.policy import Policy, StrategyPolicy, distributions_of, draw, remembering
from sepo_kit.games.base import Game, Pools
from sepo_kit.games.numbers import require_count

AGENT, OPPONENT = 0, 1


@dataclass(frozen=True)
class Match:
    """One episode to be played; the fields are those of ``episode.Episode``."""

    pool: str
    opponent: str
    index: int
    group: int = 0
    owner: tuple[str, int, int] | None = None


def matches(
    game: Game, pools: Sequence[str], rollouts: int, groups: int = 1, members: Pools | None = None
) -> list[Match]:
    """``groups`` groups of ``rollouts`` matches against every opponent of ``pools``, groups consecutive.

    ``members``: who is in the pools, None for the game's own.
    """
    members = game.spec.pools if members is None else members
    return [
        Match(pool, opponent, index, group)
        for pool in pools
        for opponent in members[pool]
        for group in range(groups)
        for index in range(rollouts)
    ]


def play_matches(
    game: Game,
    agent: Policy,
    todo: Sequence[Match],
    seed: int,
    *,
    opponents: Mapping[str, Policy] | None = None,
    step: int = 0,
    common_random_numbers: bool = True,
    on_round: Callable[[int], None] | None = None,
) -> list[Episode]:
    """Play ``todo`` with ``agent`` in seat 0; the episodes in the same order.

    Parameters
    ----------
    seed, step
        The run seed, and the training step where there is one.
    opponents
        Who plays seat 1 under which name, ``agent`` itself too: then both seats are asked in one batch. Other names are
        strategies of the game. What they do is kept in ``Episode.answers``, strategies' moves are not.
    common_random_numbers
        Whether the rollouts of a group share the draws of nature and of the opponent.
    on_round
        Called with the number of the tick each time all waiting seats have moved.

    Raises
    ------
    ValueError
        An opponent is neither in ``opponents`` nor a strategy of the game.
    """
    graph = shared_graph(game)
    scripts, others = _seated(game, todo, opponents or {})
    live = []
    episodes = []
    for match, draws in zip(todo, _draws(game, todo, seed, step, common_random_numbers), strict=True):
        name = match.opponent
        episode = Episode(game.spec.id, match.pool, name, match.index, seed, match.group, match.owner)
        episodes.append(episode)
        live.append(_Live(graph.root, episode, scripts.get(name), others.get(name), draws))
    tick = _tick if others else _agents_tick
    moves = 0
    with remembering([agent, *others.values()]):
        while live:
            for match in live:
                match.let_others_move()
            live = [match for match in live if match.waiting]
            if not live:
                break
            tick(live, agent)
            moves += 1
            if on_round is not None:
                on_round(moves)
    return episodes


def _seated(
    game: Game, todo: Sequence[Match], opponents: Mapping[str, Policy]
) -> tuple[dict[str, StrategyPolicy], dict[str, Policy]]:
    """Who sits in seat 1, by name: strategies of the game, which move by themselves, and policies to be asked."""
    scripts, others = {}, {}
    for name in dict.fromkeys(match.opponent for match in todo):
        policy = opponents.get(name)
        known = game.strategies.get(name)
        if policy is None or (type(policy) is StrategyPolicy and policy.strategy is known):
            scripts[name] = StrategyPolicy(game.strategy(name))
        else:
            others[name] = policy
    return scripts, others


def _agents_tick(live: Sequence[_Live], agent: Policy) -> None:
    """One move of the agent in every match, where nobody else has to be asked."""
    decisions = agent.act(
        [match.node.seen[AGENT] for match in live],
        [match.draws.agent[match.node.round][match.move] for match in live],
    )
    for match, decision in zip(live, decisions, strict=True):
        match.decide(decision)


def _tick(live: Sequence[_Live], agent: Policy) -> None:
    """One move of every waiting seat of every match: one batch for each policy, whichever seats it has."""
    batches: dict[int, tuple[Policy, list[tuple[_Live, int]]]] = {}
    for match in live:
        for seat in match.node.actors:
            policy = agent if seat == AGENT else match.other
            if policy is not None:
                batches.setdefault(id(policy), (policy, []))[1].append((match, seat))
    for policy, waiting in batches.values():
        decisions = policy.act(
            [match.node.seen[seat] for match, seat in waiting],
            [match.uniform(seat) for match, seat in waiting],
        )
        for (match, seat), decision in zip(waiting, decisions, strict=True):
            match.made[seat] = decision
    for match in live:  # all seats have answered: nobody has seen what another does at the same time
        match.move_on()


def pool_of(game: Game, opponent: str) -> str:
    """What matches against ``opponent`` are called if nobody says: the first pool that holds it, else "none"."""
    return next((pool for pool, member in game.opponents if member == opponent), "none")


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
    require_count("seed", seed, 0)
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


class _Live:
    """One live episode: where it stands, and what it has drawn.

    Seat 1 is played by ``script``, or by ``other``, which has to be asked.
    """

    __slots__ = (
        "chance_move",
        "draws",
        "episode",
        "made",
        "move",
        "node",
        "opponent_move",
        "other",
        "script",
    )

    def __init__(
        self,
        node: Node,
        episode: Episode,
        script: StrategyPolicy | None,
        other: Policy | None,
        draws: _Draws,
    ) -> None:
        self.node = node
        self.episode = episode
        self.script = script
        self.other = other
        self.draws = draws
        self.move = self.opponent_move = self.chance_move = 0
        self.made: dict[int, Decision] = {}

    @property
    def waiting(self) -> bool:
        """Whether somebody must be asked."""
        actors = self.node.actors
        return AGENT in actors or (OPPONENT in actors and self.other is not None)

    @property
    def over(self) -> bool:
        return not self.node.actors and self.node.chance is None

    def let_others_move(self) -> None:
        """Let nature and a script move until somebody must be asked, or the episode is over."""
        while not self.waiting and not self.over:
            node = self.node
            if node.chance is not None:
                uniform = self.draws.chance[node.round][self.chance_move]
                self.chance_move += 1
                outcome = draw(node.chance[2], uniform)
                self.episode.path.append(outcome)
                self._enter(node.after_chance(outcome))
            else:
                self._play((self._script_action(),))

    def decide(self, decision: Decision) -> None:
        """Play the agent's decision, with the script's where both move at once."""
        node = self.node
        self.episode.decisions.append(
            Decision(  # as ``placed`` does, without a call: scripted play is mostly this
                decision.action,
                decision.log_prob,
                decision.reply,
                decision.fallback,
                decision.prompt_ids,
                decision.completion_ids,
                node.round,
                self.move,
                node.seen[AGENT].key,
                decision.choice_ids,
                decision.said,
                decision.cut_off,
            )
        )
        self.move += 1
        if OPPONENT in node.actors:
            self._play((decision.action, self._script_action()))
        else:
            self._play((decision.action,))

    def uniform(self, seat: int) -> float:
        """The number that decides the next move of ``seat``."""
        if seat == AGENT:
            return self.draws.agent[self.node.round][self.move]
        return self.draws.opponent[self.node.round][self.opponent_move]

    def move_on(self) -> None:
        """Play what all who had to be asked have ``made``."""
        if self.other is None:
            self.decide(self.made.pop(AGENT))
            return
        node = self.node
        for seat in node.actors:
            kept, move = (
                (self.episode.decisions, self.move)
                if seat == AGENT
                else (self.episode.answers, self.opponent_move)
            )
            kept.append(self.made[seat].placed(node.round, move, node.seen[seat].key))
        self.move += AGENT in node.actors
        self.opponent_move += OPPONENT in node.actors
        actions = tuple(self.made[seat].action for seat in node.actors)
        self.made.clear()
        self._play(actions)

    def _script_action(self) -> str:
        node = self.node
        seen = node.seen[OPPONENT]
        strategy = self.script.strategy
        cumulative = node.cumulative.get(strategy)
        if cumulative is None:
            (probabilities,) = distributions_of(self.script, [seen])
            cumulative = node.cumulative[strategy] = np.cumsum(probabilities).tolist()
        uniform = self.draws.opponent[node.round][self.opponent_move]
        self.opponent_move += 1
        return seen.legal_actions[draw(cumulative, uniform)]

    def _play(self, actions: tuple[str, ...]) -> None:
        self.episode.path.append(actions)
        self._enter(self.node.after(actions))

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
