"""A game's tree as arrays: grown as far as play reaches it, and kept for the next question about the same game.

One layer per move; in a layer, equal positions are one node. Probabilities of the agent are not part of a tree: they
are looked up by place (``Answers``), so that one tree serves every agent. Strategies are pure functions, so a tree
against one of them is built once. Where rounds are independent (``spec.independent_rounds``) every round is a
tree of its own, side by side in the same layers. What is computed on trees is in ``enumeration.py``,
``gradients.py`` and ``best_response.py``.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate, count, takewhile
from math import inf, prod
from typing import NamedTuple

import numpy as np

from sepo_kit.engine.policy import Policy, StrategyPolicy, distributions_of
from sepo_kit.exact.answers import Answers, Seen
from sepo_kit.games.base import Game, GameSpec, InformationState, Outcome, State, Strategy
from sepo_kit.games.check.kit import POSITIONS

AGENT, OPPONENT = 0, 1
MAX_STATES = POSITIONS  # as many as check_game allows where a game's states are called few
MOVES_PER_STATE = 10  # a tree is too large as well where a layer has more moves than this times max_states
KEPT = 400_000  # a tree of more nodes is not kept for the next question
GAINS = ("own", "their", "collusion", "externality")
SAMPLE = "raise max_states, or sample with sk.evaluate"
OVER = 0  # the node in every layer where play has ended


class Unsolvable(ValueError):
    """Enumeration cannot answer this question; the message says why."""


class TooLarge(Unsolvable):
    """The game has more states than enumeration allows."""


class Forgets(Unsolvable):
    """An adversary could not follow the best replies, which are chosen one by one: an information state does not tell
    what its own seat did before, or after how many moves of all it is met."""


class Layer:
    """All positions some number of moves from the start, and the moves out of them.

    Nodes, shape (N,): ``seen`` the number of the agent's information state, 0 where it does not move. Node
    ``OVER`` is the end of play. Moves, shape (M,): from node ``source`` to node ``target`` of the next layer,
    ``choice`` the place of the agent's action, ``reply`` that of an adversary's in ``replies``, ``chance`` the
    probability of what nature and a fixed opponent do, ``gains`` (M, 4) in the order of ``GAINS``. A node has its
    moves once it was ``listed``, a move its target and gains once it was ``played``.
    """

    def __init__(self) -> None:
        self.states: list[State | None] = [None]
        self.twins: list[
            tuple[int, InformationState]
        ] = []  # nodes that others joined; what the agent saw there
        self.last: list[object] = [None]  # the adversary's last decision before each node
        self.joint: list[object] = []  # the actions of each move, or nature's outcome
        self.replies = Seen()
        self.seen = np.zeros(1, dtype=np.intp)
        self.listed = np.ones(1, dtype=bool)
        self.source = self.choice = self.reply = self.target = np.zeros(0, dtype=np.intp)
        self.chance = np.zeros(0)
        self.gains = np.zeros((0, len(GAINS)))
        self.played = np.zeros(0, dtype=bool)
        self.complete = False
        self.where: dict[object, int] = {}

    def __len__(self) -> int:
        return len(self.states)

    def admit(self, name: object, state: State, last: object) -> int:
        """The node called ``name``, a new one for ``state`` if need be; ``settle`` brings the arrays up to date."""
        node = self.where.get(name)
        if node is None:
            node = self.where[name] = len(self.states)
            self.states.append(state)
            self.last.append(last)
        return node

    def settle(self, seen: Seen) -> None:
        """Arrays for the nodes admitted since."""
        new = self.states[len(self.seen) :]
        numbers = [seen.number(s.information(AGENT)) if AGENT in s.actors else 0 for s in new]
        self.seen = np.concatenate([self.seen, np.array(numbers, dtype=np.intp)])
        self.listed = np.concatenate([self.listed, np.zeros(len(new), dtype=bool)])
        self.complete = False

    def extend(self, source: list, choice: list, reply: list, chance: list, joint: list) -> None:
        """Add moves that nobody has played yet."""
        self.joint += joint
        for name, more in (("source", source), ("choice", choice), ("reply", reply)):
            setattr(self, name, np.concatenate([getattr(self, name), np.array(more, dtype=np.intp)]))
        self.chance = np.concatenate([self.chance, np.array(chance, dtype=float)])
        self.target = np.concatenate([self.target, np.zeros(len(joint), dtype=np.intp)])
        self.gains = np.concatenate([self.gains, np.zeros((len(joint), len(GAINS)))])
        self.played = np.concatenate([self.played, np.zeros(len(joint), dtype=bool)])


class Step(NamedTuple):
    """A layer that is reached, with the probability of each node, (N,), and of each move, (M,), an adversary's part
    counting as 1; ``cut`` are nodes that are reached but were left out, their ``reach`` set to 0."""

    layer: Layer
    reach: np.ndarray
    flow: np.ndarray
    cut: np.ndarray | None = None


class Tree:
    """What can happen in ``game`` against ``opponent``, or against any adversary where that is None.

    An adversary's replies are then left open (``Layer.reply``), and nodes are told apart by its own last decision
    as well: it remembers what it did. With ``memory``, an attribute of information states, all positions of a
    layer in which it is the same for both seats are one node.
    """

    def __init__(
        self, game: Game, seen: Seen, opponent: Policy | None = None, memory: str | None = None
    ) -> None:
        self.game = game
        self.seen = seen
        self.opponent = opponent
        self.memory = memory
        self._clear()

    def name(self, state: State, last: object) -> object:
        """What makes ``state`` a node of its own."""
        if self.memory is None:
            return state, last
        if state.actors != (AGENT, OPPONENT):
            raise ValueError(
                f"memory={self.memory!r} needs a game without nature in which both seats always move, and "
                f"{self.game.spec.id} is none"
            )
        turn = state.round if self.game.spec.independent_rounds else None  # every round is a tree of its own
        return turn, *(getattr(state.information(seat), self.memory) for seat in state.actors)

    def starts(self) -> list[State]:
        """Where play begins: where rounds are independent, in every one."""
        return _round_starts(self.game) if self.game.spec.independent_rounds else [self.game.initial_state()]

    def _clear(self) -> None:
        """Begin anew."""
        self.layers = [Layer()]
        # An adversary's that are met after different moves of its own, or after more moves of others or fewer.
        self.forgets: set[InformationState] = set()
        for state in self.starts():
            self.layers[0].admit(self.name(state, None), state, None)
        self.layers[0].settle(self.seen)
        self._joint: dict[object, object] = {}  # equal moves held once
        self._recalled: dict[InformationState, tuple[int, object]] = {}

    def reach(self, answers: Answers, max_states: int, instead: str) -> list[Step]:
        """All that ``answers`` lead to, layer by layer; the tree grows where they lead beyond it.

        Raises
        ------
        TooLarge
            More than ``max_states`` nodes are reached; ``instead`` says what to do then.
        """
        if sum(map(len, self.layers)) > KEPT:
            self._clear()
        steps: list[Step] = []
        reach, left = self._start(), max_states
        for depth in count():
            met = np.count_nonzero(reach)
            if not met:
                return steps
            left -= met
            flow = (
                self._flow(depth, reach, answers, left, MOVES_PER_STATE * max_states) if left >= 0 else None
            )
            if flow is None:
                self._clear()
                against = f" against {self.opponent.name}" if self.opponent else ""
                raise TooLarge(f"{self.game.spec.id} has more than {max_states} states{against}; {instead}")
            steps.append(Step(self.layers[depth], reach, flow))
            reach = self._enter(depth, flow)
        raise AssertionError

    def reach_likely(self, answers: Answers, max_moves: int) -> list[Step]:
        """As ``reach``, but of each layer only the likeliest nodes, as many as have at most ``max_moves`` moves
        together and at least one; ``Step.cut`` has the others."""
        if sum(map(len, self.layers)) > KEPT:
            self._clear()
        steps: list[Step] = []
        reach = self._start()
        for depth in count():
            layer = self.layers[depth]
            alive = reach.nonzero()[0]
            if not len(alive):
                return steps
            order = alive[np.argsort(-reach[alive], kind="stable")][:max_moves].tolist()
            moves = accumulate(count_moves(layer.states[node]) for node in order)
            fit = max(1, sum(1 for _ in takewhile(lambda total: total <= max_moves, moves)))
            cut = np.setdiff1d(alive, order[:fit])
            reach[cut] = 0.0
            flow = self._flow(depth, reach, answers, inf, inf)
            steps.append(Step(layer, reach, flow, cut))
            reach = self._enter(depth, flow)
        raise AssertionError

    def reach_chosen(self, answers: Answers, chosen: Sequence[Sequence[int]]) -> list[Step]:
        """As ``reach``, but of each layer only the nodes in ``chosen``; ``Step.cut`` has what else is reached."""
        steps: list[Step] = []
        reach = self._start()
        for depth in count():
            layer = self.layers[depth]
            alive = reach.nonzero()[0]
            if not len(alive):
                return steps
            cut = np.setdiff1d(alive, chosen[depth] if depth < len(chosen) else [])
            reach[cut] = 0.0
            steps.append(Step(layer, reach, self._flow(depth, reach, answers, inf, inf), cut))
            if len(cut) == len(alive):
                return steps
            reach = self._enter(depth, steps[-1].flow)
        raise AssertionError

    def _start(self) -> np.ndarray:
        reach = np.ones(len(self.layers[0]))
        reach[OVER] = 0.0
        return reach

    def _enter(self, depth: int, flow: np.ndarray) -> np.ndarray:
        """Reach of the nodes below, (N,)."""
        reach = np.bincount(self.layers[depth].target, flow, minlength=len(self.layers[depth + 1]))
        reach[OVER] = 0.0
        return reach

    def _flow(
        self, depth: int, reach: np.ndarray, answers: Answers, room: float, most: float
    ) -> np.ndarray | None:
        """Reach of the moves of a layer, (M,); None where there are more than ``most`` new ones, or they lead to
        more than ``room`` new nodes."""
        layer = self.layers[depth]
        alive = reach.nonzero()[0]
        answers.learn(layer.seen[alive])
        if not layer.complete:
            new = alive[~layer.listed[alive]]
            if len(new):
                with collector_paused():
                    if not self._list(depth, new.tolist(), most):
                        return None
        flow = reach[layer.source] * layer.chance * answers.p[layer.choice]
        if not layer.complete:
            new = (~layer.played & (flow > 0)).nonzero()[0]
            if len(new):
                with collector_paused():
                    if not self._play(depth, new.tolist(), room):
                        return None
            layer.complete = bool(layer.listed.all() and layer.played.all())
        return flow

    def _list(self, depth: int, nodes: list[int], most: float) -> bool:
        """Find the moves out of ``nodes``, without playing them; False where they are more than ``most``."""
        layer = self.layers[depth]
        theirs = self._theirs(depth, [node for node in nodes if OPPONENT in layer.states[node].actors])
        source, choice, reply, chance, joint = [], [], [], [], []
        for node in nodes:
            state = layer.states[node]
            outcomes = state.chance_outcomes()
            if outcomes:
                options = [(0, 0, p, outcome) for outcome, p in outcomes if p > 0]
            elif AGENT not in state.actors:
                options = [(0, r, p, (action,)) for action, r, p in theirs[node]]
            else:
                number = int(layer.seen[node])
                ours = list(enumerate(self.seen.states[number].legal_actions, start=self.seen.starts[number]))
                if OPPONENT in state.actors:
                    options = [(c, r, p, (own, their)) for c, own in ours for their, r, p in theirs[node]]
                else:
                    options = [(c, 0, 1.0, (own,)) for c, own in ours]
            if len(source) + len(options) > most:
                return False
            for c, r, p, what in options:
                source.append(node)
                choice.append(c)
                reply.append(r)
                chance.append(p)
                joint.append(self._joint.setdefault(what, what))
        layer.extend(source, choice, reply, chance, joint)
        layer.listed[nodes] = True
        return True

    def _theirs(self, depth: int, nodes: list[int]) -> dict[int, list[tuple[str, int, float]]]:
        """(action, place of the reply, probability) of everything the other seat may do at each of ``nodes``."""
        layer = self.layers[depth]
        views = [layer.states[node].information(OPPONENT) for node in nodes]
        if self.opponent is not None:
            rows = distributions_of(self.opponent, views) if views else []
            return {
                node: [(a, 0, p) for a, p in zip(view.legal_actions, np.asarray(row).tolist()) if p > 0]
                for node, view, row in zip(nodes, views, rows, strict=True)
            }
        options = {}
        for node, view in zip(nodes, views, strict=True):
            start = layer.replies.starts[layer.replies.number(view)]
            options[node] = [(a, place, 1.0) for place, a in enumerate(view.legal_actions, start)]
            before = depth, layer.last[node]
            if self._recalled.setdefault(view, before) != before:
                self.forgets.add(view)
        return options

    def _play(self, depth: int, moves: list[int], room: float) -> bool:
        """Make the states that ``moves`` lead to; False where they are more than ``room``."""
        if depth + 1 == len(self.layers):
            self.layers.append(Layer())
        layer, below = self.layers[depth], self.layers[depth + 1]
        before = len(below)
        targets, gains = [], []
        for move in moves:
            node, joint = int(layer.source[move]), layer.joint[move]
            state = layer.states[node]
            child = state.apply(joint) if state.actors else state.apply_chance(joint)
            outcome = child.outcome
            if outcome is None:
                gains.append((0.0, 0.0, 0.0, 0.0))
            else:
                harms = self.game.harms(outcome)
                gains.append((*outcome.payoffs, harms.collusion, harms.externality))
            if child.is_terminal or (outcome is not None and self.game.spec.independent_rounds):
                targets.append(OVER)
            else:
                reply = int(layer.reply[move])
                last = (depth, reply) if reply else layer.last[node]
                target = below.admit(self.name(child, last), child, last)
                targets.append(target)
                if self.memory is not None and below.states[target] is not child:
                    below.twins.append((target, child.information(AGENT)))
                if len(below) - before > room:
                    break
        below.settle(self.seen)
        done = moves[: len(targets)]
        layer.target[done], layer.gains[done], layer.played[done] = targets, gains, True
        return done == moves


def means(tree: Tree, answers: Answers, max_states: int, instead: str) -> np.ndarray:
    """Expected means per round in the order of ``GAINS``, shape (4,); errors as of ``Tree.reach``."""
    sweep = tree.reach(answers, max_states, instead)
    return sum(step.flow @ step.layer.gains for step in sweep) / tree.game.spec.rounds


def lead_of(outcome: Outcome | None) -> float:
    """How much more than the agent the adversary earns in a round that has ended; 0 where none has."""
    return 0.0 if outcome is None else float(outcome.payoffs[OPPONENT] - outcome.payoffs[AGENT])


@contextmanager
def collector_paused() -> Iterator[None]:
    """Growing makes many objects and no cycles: looking for some would take a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def count_moves(state: State) -> int:
    outcomes = state.chance_outcomes()
    return len(outcomes) or prod(len(state.information(seat).legal_actions) for seat in state.actors)


def _round_starts(game: Game) -> list[State]:
    """A state at the start of every round."""
    state = game.initial_state()
    starts = [state]
    while True:
        outcomes = state.chance_outcomes()
        if outcomes:
            state = state.apply_chance(outcomes[0][0])
        else:
            state = state.apply(tuple(state.information(seat).legal_actions[0] for seat in state.actors))
        if state.is_terminal:
            return starts
        if state.outcome is not None:
            starts.append(state)


class Arena:
    """The trees of one game that were needed so far."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.seen = Seen()
        self.free = Tree(game, self.seen)
        self._against: dict[Strategy, Tree] = {}

    def against(self, opponent: Strategy | Policy) -> Tree:
        """The tree against ``opponent``; kept where that is one of the game's own strategies."""
        if opponent not in self.game.strategies.values():
            policy = StrategyPolicy(opponent) if isinstance(opponent, Strategy) else opponent
            return Tree(self.game, self.seen, policy)
        if opponent not in self._against:
            self._against[opponent] = Tree(self.game, self.seen, StrategyPolicy(opponent))
        return self._against[opponent]


def arena(game: Game) -> Arena:
    """The arena of ``game`` as its spec is now."""
    found = _arena(game, game.spec)
    if len(found.seen.states) > KEPT:
        _arena.cache_clear()
        found = _arena(game, game.spec)
    return found


@lru_cache(maxsize=8)
def _arena(game: Game, spec: GameSpec) -> Arena:
    return Arena(game)
