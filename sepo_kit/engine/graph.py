"""The states of a game as a graph that is built once, as far as play or enumeration reaches it.

Sampling and exact solving walk this graph instead of making states again: a step is one look-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from sepo_kit.games.base import Game, Harms, InformationState, Outcome, State

Event = int | tuple[str, ...]  # the number of nature's outcome, or what those who had to move did


class Node:
    """A state and what follows from it. Fields are those of ``State``, computed once.

    ``chance`` is (outcomes, probabilities, cumulative probabilities) or None; ``seen[seat]`` the information
    state of a seat that must move; ``cumulative`` where the engine keeps the running sums of strategies here.
    """

    __slots__ = (
        "actors",
        "chance",
        "children",
        "cumulative",
        "graph",
        "harms",
        "outcome",
        "round",
        "seen",
        "state",
    )

    def __init__(self, graph: StateGraph, state: State) -> None:
        self.graph = graph
        self.state = state
        self.round = state.round
        self.actors = state.actors
        self.outcome: Outcome | None = state.outcome
        self.harms: Harms | None = graph.game.harms(self.outcome) if self.outcome else None
        self.seen: dict[int, InformationState] = {
            seat: graph.intern(state.information(seat)) for seat in self.actors
        }
        self.children: dict = {}
        self.cumulative: dict[object, list[float]] = {}
        outcomes = state.chance_outcomes()
        self.chance = None
        if outcomes:
            probabilities = [p for _, p in outcomes]
            self.chance = ([o for o, _ in outcomes], probabilities, list(accumulate(probabilities)))

    def after(self, actions: tuple[str, ...]) -> Node:
        """The node after the actors' ``actions``."""
        child = self.children.get(actions)
        if child is None:
            child = self.children[actions] = self.graph.node(self.state.apply(actions))
        return child

    def after_chance(self, index: int) -> Node:
        """The node after nature's outcome number ``index``."""
        child = self.children.get(index)
        if child is None:
            child = self.children[index] = self.graph.node(self.state.apply_chance(self.chance[0][index]))
        return child


MOST_NODES = 100_000  # a shared graph that has grown beyond this is started anew
MOST_GRAPHS = 8  # games that were not played for a while are forgotten, with whoever sits in them
_shared: dict[int, StateGraph] = {}  # the one last asked for at the end


def shared_graph(game: Game) -> StateGraph:
    """The graph of ``game`` that play goes on building, so that training does not make the same states every step."""
    graph = _shared.pop(id(game), None)
    if graph is None or graph.game is not game or graph.spec is not game.spec or len(graph) > MOST_NODES:
        graph = StateGraph(game)
    _shared[id(game)] = graph
    if len(_shared) > MOST_GRAPHS:
        del _shared[next(iter(_shared))]
    return graph


class StateGraph:
    """All nodes reached so far, equal states and equal information states held once."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.spec = game.spec
        self._nodes: dict[State, Node] = {}
        self._seen: dict[InformationState, InformationState] = {}
        self.root = self.node(game.initial_state())

    def __len__(self) -> int:
        return len(self._nodes)

    def walk(self, path: Iterable[Event]) -> Iterator[tuple[Node, Event]]:
        """Every node that ``path`` comes through from the start, with what happened there."""
        node = self.root
        for event in path:
            yield node, event
            node = node.after_chance(event) if isinstance(event, int) else node.after(tuple(event))

    def node(self, state: State) -> Node:
        """The node of ``state``."""
        found = self._nodes.get(state)
        if found is None:
            found = self._nodes[state] = Node(self, state)
        return found

    def intern(self, seen: InformationState) -> InformationState:
        return self._seen.setdefault(seen, seen)
