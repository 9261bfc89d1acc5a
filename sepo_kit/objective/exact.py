"""The terms without sampling, by enumerating the game's own states.

Works for any agent that can state a distribution. Reach probabilities flow forward through the state graph;
states that are the same position, however reached, are visited once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from sepo_kit.games import get_game
from sepo_kit.games.base import POOLS, Game, InformationState
from sepo_kit.objective.terms import Against, Results, Terms, terms_of
from sepo_kit.play.graph import Node, StateGraph
from sepo_kit.play.policy import Policy, StrategyPolicy

AGENT, OPPONENT = 0, 1
MAX_STATES = 200_000


class TooLarge(ValueError):
    """The game has more states than enumeration allows."""


def terms(game: Game | str, agent: Policy, max_states: int = MAX_STATES) -> Terms:
    """The exact terms of ``agent`` over the game's four pools.

    Raises
    ------
    NoDistribution
        The agent cannot state a distribution over actions.
    TooLarge
        More than ``max_states`` states are reached against one opponent.

    >>> from sepo_kit.play.policy import scripted
    >>> ipd = get_game("ipd")
    >>> round(terms(ipd, scripted(ipd, "tit-for-tat")).utility, 5)
    2.78906
    """
    game = get_game(game)
    return terms_of(game.spec, results(game, agent, game.opponents, max_states))


def results(
    game: Game,
    agent: Policy,
    opponents: Sequence[tuple[str, str]],
    max_states: int = MAX_STATES,
) -> Results:
    """Expected means per round against each (pool, opponent) of ``opponents``."""
    graph = StateGraph(game)
    agent = _Remembered(agent)
    once = {o: _against(graph, agent, StrategyPolicy(game.strategy(o)), max_states) for _, o in opponents}
    return {(pool, o): once[o] for pool, o in opponents}


def advantages_over(game: Game, agent: Policy, pool: str = "exploit") -> dict[str, float]:
    """How much more each opponent of ``pool`` earns than ``agent``, per round, exactly."""
    if pool not in POOLS:
        raise ValueError(f"pool must be one of {', '.join(POOLS)}, got {pool!r}")
    found = results(game, agent, [(pool, o) for o in game.spec.pools[pool]])
    return {opponent: against.advantage for (_, opponent), against in found.items()}


def policy_table(
    game: Game | str, agent: Policy, max_states: int = MAX_STATES
) -> dict[str, dict[str, float]]:
    """Probability of every legal action at every information state the agent's seat can meet.

    Raises
    ------
    NoDistribution, TooLarge
        As ``terms``.
    """
    graph = StateGraph(get_game(game))
    met: dict[str, InformationState] = {}
    frontier, visited = [graph.root], {graph.root}
    while frontier:
        node = frontier.pop()
        if AGENT in node.actors:
            met.setdefault(node.seen[AGENT].key, node.seen[AGENT])
        for child in _children(node):
            if child not in visited:
                visited.add(child)
                frontier.append(child)
        if len(graph) > max_states:
            raise TooLarge(f"{graph.game.spec.id} has more than {max_states} states; raise max_states")
    states = [met[key] for key in sorted(met)]
    return {
        seen.key: dict(zip(seen.legal_actions, map(float, p), strict=True))
        for seen, p in zip(states, agent.distributions(states), strict=True)
    }


def _children(node: Node) -> Iterator[Node]:
    """Every node that can follow, whoever plays."""
    if node.chance is not None:
        yield from (node.after_chance(index) for index in range(len(node.chance[0])))
    elif node.actors:
        for actions in product(*(node.seen[seat].legal_actions for seat in node.actors)):
            yield node.after(actions)


class _Remembered:
    """An agent that is asked once per information state."""

    def __init__(self, agent: Policy) -> None:
        self.agent = agent
        self.known: dict[InformationState, np.ndarray] = {}

    def learn(self, seen: Sequence[InformationState]) -> None:
        unknown = list(dict.fromkeys(s for s in seen if s not in self.known))
        self.known.update(zip(unknown, self.agent.distributions(unknown), strict=True))


def _against(graph: StateGraph, agent: _Remembered, opponent: StrategyPolicy, max_states: int) -> Against:
    """Sweep the graph move by move: each layer maps nodes to their reach probability."""
    totals = np.zeros(4)
    layer: dict[Node, float] = {graph.root: 1.0}
    while layer:
        agent.learn([node.seen[AGENT] for node in layer if AGENT in node.actors])
        following: dict[Node, float] = {}
        for node, reach in layer.items():
            for child, probability in _steps(node, agent, opponent):
                if probability == 0.0:
                    continue
                weight = reach * probability
                if child.outcome is not None:
                    own, their = child.outcome.payoffs
                    totals += weight * np.array([own, their, child.harms.collusion, child.harms.externality])
                following[child] = following.get(child, 0.0) + weight
        if len(graph) > max_states:
            raise TooLarge(
                f"{graph.game.spec.id} has more than {max_states} states against {opponent.name}; "
                "raise max_states, or sample with sk.evaluate"
            )
        layer = following
    return Against(*(float(total) for total in totals / graph.game.spec.rounds))


def _steps(node: Node, agent: _Remembered, opponent: StrategyPolicy) -> Iterator[tuple[Node, float]]:
    """The nodes that can follow, with their probabilities."""
    if node.chance is not None:
        for index, probability in enumerate(node.chance[1]):
            yield node.after_chance(index), probability
        return
    if not node.actors:
        return
    joint: list[tuple[tuple[str, ...], float]] = [((), 1.0)]
    for seat in node.actors:
        seen = node.seen[seat]
        p = agent.known[seen] if seat == AGENT else opponent.distribution(seen)
        joint = [
            ((*actions, action), weight * float(q))
            for actions, weight in joint
            for action, q in zip(seen.legal_actions, p, strict=True)
            if q > 0
        ]
    for actions, weight in joint:
        yield node.after(actions), weight
