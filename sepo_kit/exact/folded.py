"""The best response on a folded tree: positions that look alike are one, and nature's moves are part of the seats'.

The worst case of a long game cannot be computed state by state. Against an agent that goes by a short label it need
not be: positions of a round in which both seats go by the same are one position, the prisoner's dilemma has four a
round then, the auction 36. What a seat goes by is its ``name``: its key where the agent is known there one by one,
else its label. An adversary's replies are grouped by ITS name, so that it sees nothing that is hidden from it.

Where ``spec.label_suffices`` and the agent goes by its label, the value is the worst case itself. Elsewhere, by
backward induction all the same, it is the value of a model, and the adversary one to be measured in play.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from sepo_kit.engine.graph import Node, shared_graph
from sepo_kit.engine.policy import Policy
from sepo_kit.exact.answers import EQUAL
from sepo_kit.exact.tree import AGENT, OPPONENT, Unsolvable, collector_paused, lead_of
from sepo_kit.games.base import Game, GameSpec, InformationState, State

MAX_OUTCOMES = 32  # of nature at once
MAX_MOVES = 20_000  # out of one layer, while positions are told apart by key

Name = tuple[str, Hashable]  # "key" or "label", and that
Rows = Mapping[tuple[int, Name], np.ndarray]


class CannotFold(Unsolvable):
    """The game has moves of one seat alone, several in a round, or too many outcomes of nature."""


def name_of(seen: InformationState, row: str) -> Name:
    """What ``seen`` is called where its key does not count: its label and what is legal there."""
    return "label", (getattr(seen, row), seen.legal_actions)


class _Names:
    """Names of one seat by number, over all layers, with a place in one flat array for each of their actions; number 0
    and place 0 stand for a seat that does not move. ``first``: an information state of each name."""

    def __init__(self) -> None:
        self.first: list[InformationState | None] = [None]
        self.called: list[tuple[int, Name] | None] = [None]
        self.starts, self.counts, self.size = [0], [1], 1
        self._number: dict[tuple[int, Name], int] = {}

    def number(self, depth: int, name: Name, seen: InformationState) -> int:
        found = self._number.get((depth, name))
        if found is None:
            found = self._number[depth, name] = len(self.first)
            self.first.append(seen)
            self.called.append((depth, name))
            self.starts.append(self.size)
            self.counts.append(len(seen.legal_actions))
            self.size += self.counts[-1]
        return found


@dataclass(frozen=True)
class _Sheet:
    """Moves out of one layer's nodes, all shape (M,): from node ``source`` to ``target`` of the next layer (0: the game
    is over), ``choice`` and ``reply`` the places of the seats' actions, ``chance`` nature's part, ``lead`` how much
    more than the agent the adversary earns. ``nodes``: of this layer, number 0 counted."""

    nodes: int
    source: np.ndarray
    choice: np.ndarray
    reply: np.ndarray
    chance: np.ndarray
    lead: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class Response:
    """``lead``: how much more than the agent the adversary earns per round, if the agent plays as it was taken to.
    ``rows``: by depth and name, how it replies."""

    lead: float
    rows: Rows


class FoldedTree:
    """The positions of ``game``, folded by the label ``row``; those whose key is in ``full`` stand alone, as far as
    a layer then has at most ``max_moves`` moves.

    Raises
    ------
    CannotFold
        A seat moves alone somewhere, rounds are not one move of both seats each, or nature's outcomes make too many
        moves.
    """

    def __init__(
        self,
        game: Game,
        row: str,
        full: Collection[str] = (),
        max_moves: int = MAX_MOVES,
        most_moves: int = 400_000,
    ) -> None:
        self.game, self.row, self.full, self.max_moves, self.most_moves = (
            game,
            row,
            full,
            max_moves,
            most_moves,
        )
        self.ours, self.theirs = _Names(), _Names()
        self.sheets: list[_Sheet] = []
        self.where: list[
            dict[tuple[int, int], int]
        ] = []  # by layer, from the numbers of both names to the node
        self.twins: list[
            tuple[int, InformationState]
        ] = []  # what the agent saw where it was given a number before
        with collector_paused():
            moves = [
                (0, 0, 0, p, lead, node) for p, lead, node in self._decisions(shared_graph(game).root, 1.0)
            ]
            nodes, depth = 1, 0
            while moves:
                nodes, moves = self._grow(depth, nodes, moves)
                depth += 1

    def _grow(self, depth: int, nodes: int, moves: list) -> tuple[int, list]:
        """Say where ``moves`` lead, as a sheet; how many nodes that makes, and the moves out of those."""
        known: dict[tuple[int, int], int] = {}
        fresh: list[tuple[Node, int, int]] = []
        views = [m[5] and (m[5].seen[AGENT], m[5].seen[OPPONENT]) for m in moves]
        alone = self._alone([v for v in views if v is not None])
        target = np.zeros(len(moves), dtype=np.intp)
        for i, view in enumerate(views):
            if view is None:
                continue
            ours, theirs = view
            if not ours.round == theirs.round == depth:  # positions are looked up by the round
                raise CannotFold(
                    f"in {self.game.spec.id} a round is more than one move, or the seats cannot tell which it is"
                )
            mine = ("key", ours.key) if ours.key in alone[AGENT] else name_of(ours, self.row)
            other = ("key", theirs.key) if theirs.key in alone[OPPONENT] else name_of(theirs, self.row)
            pair = self.ours.number(depth, mine, ours), self.theirs.number(depth, other, theirs)
            number = known.get(pair)
            if number is None:
                number = known[pair] = len(known) + 1
                fresh.append((moves[i][5], *pair))
            if self.ours.first[pair[0]] is not ours and not self.full:
                self.twins.append((pair[0], ours))
            target[i] = number
        self.where.append(known)
        source, choice, reply, chance, lead, _ = zip(*moves)
        self.sheets.append(
            _Sheet(
                nodes,
                *(np.array(column, dtype=np.intp) for column in (source, choice, reply)),
                np.array(chance, dtype=float),
                np.array(lead, dtype=float),
                target,
            )
        )
        out = []
        for number, (node, ours, theirs) in enumerate(fresh, start=1):
            mine, others = self.ours.first[ours].legal_actions, self.theirs.first[theirs].legal_actions
            for i, own in enumerate(mine, self.ours.starts[ours]):
                for j, their in enumerate(others, self.theirs.starts[theirs]):
                    for rest in self._decisions(node.after((own, their)), 1.0):
                        out.append((number, i, j, *rest))
            if len(out) > self.most_moves:
                raise CannotFold(f"{self.game.spec.id} has too many positions even where they are folded")
        return len(fresh) + 1, out

    def _decisions(
        self, node: Node, p: float, lead: float = 0.0
    ) -> Iterator[tuple[float, float, Node | None]]:
        """Probability, lead so far and node of every decision, or None for an end, that nature takes ``node`` to."""
        lead += lead_of(node.outcome)
        if node.chance is None:
            if node.actors and node.actors != (AGENT, OPPONENT):
                raise CannotFold(f"in {self.game.spec.id} a seat moves alone: it cannot be folded")
            yield p, lead, node if node.actors else None
            return
        outcomes, chances, _ = node.chance
        if len(outcomes) > MAX_OUTCOMES:  # deals by the thousand cannot be listed
            raise CannotFold(f"{self.game.spec.id} has too many outcomes of nature to be folded")
        for i, chance in enumerate(chances):
            yield from self._decisions(node.after_chance(i), p * chance, lead)

    def _alone(self, views: Sequence[tuple[InformationState, InformationState]]) -> tuple[set[str], set[str]]:
        """Keys of either seat that stand alone in a layer: the agent's in ``full``, and the adversary's from which it
        may be looking at one of those."""
        ours = {mine.key for mine, _ in views if mine.key in self.full}
        theirs = {other.key for mine, other in views if mine.key in ours}
        apart = {(mine.key, other.key) for mine, other in views if mine.key in ours or other.key in theirs}
        width = len(views[0][0].legal_actions) * len(views[0][1].legal_actions) if views else 0
        if not apart or len(apart) * width > self.max_moves:
            self.full = ()  # and in no later layer: who does not know where it is cannot tell keys apart again
            return set(), set()
        return ours, theirs

    def respond(self, p: np.ndarray) -> Response:
        """The best response to an agent whose probabilities are ``p``, by place, (P,)."""
        reach, flows = np.ones(1), []
        for number, sheet in enumerate(self.sheets):
            flow = reach[sheet.source] * sheet.chance * p[sheet.choice]
            below = self.sheets[number + 1].nodes if number + 1 < len(self.sheets) else 1
            reach = np.bincount(sheet.target, flow, minlength=below)
            reach[0] = 0.0
            flows.append(flow)
        value = np.zeros(1)  # of the nodes below
        taken = np.zeros(self.theirs.size, dtype=bool)
        taken[0] = True
        most = max(np.abs(sheet.lead).max(initial=0.0) for sheet in self.sheets)
        starts = np.array(self.theirs.starts)
        owners = np.repeat(np.arange(len(starts)), self.theirs.counts)
        for sheet, flow in zip(reversed(self.sheets), reversed(flows)):
            worth = flow * (sheet.lead + value[sheet.target])
            total = np.bincount(sheet.reply, worth, minlength=self.theirs.size)
            slack = EQUAL * most * np.bincount(sheet.reply, flow, minlength=self.theirs.size)
            met = np.unique(owners[sheet.reply])
            for number in met[met > 0].tolist():
                first, count = self.theirs.starts[number], self.theirs.counts[number]
                each = total[first : first + count]
                taken[first + int((each >= each.max() - slack[first]).argmax())] = True
            worth = np.where(taken[sheet.reply], worth, 0.0)
            sums = np.bincount(sheet.source, worth, minlength=sheet.nodes)
            # What flows on under one reply is the node's reach.
            kept = np.bincount(sheet.source, np.where(taken[sheet.reply], flow, 0.0), minlength=sheet.nodes)
            value = np.divide(sums, kept, out=sums, where=kept > 0)
        rows = {
            called: taken[start : start + count].astype(float)
            for called, start, count in zip(
                self.theirs.called[1:], self.theirs.starts[1:], self.theirs.counts[1:]
            )
        }
        return Response(float(value[0]) / self.game.spec.rounds, rows)

    def most(self) -> list[np.ndarray]:
        """The most that any adversary can still lead by from every node, whatever the agent does, by layer: both seats
        play for it, knowing all. Of layer d in element d, shape (N,)."""
        found = [np.zeros(1)]
        for sheet in reversed(self.sheets):
            worth = sheet.chance * (sheet.lead + found[0][sheet.target])
            joint = sheet.choice * self.theirs.size + sheet.reply
            _, pair = np.unique(np.column_stack([sheet.source, joint]), axis=0, return_inverse=True)
            totals = np.bincount(pair.ravel(), worth)
            value = np.full(sheet.nodes, -np.inf)
            np.maximum.at(value, sheet.source, totals[pair.ravel()])
            found.insert(0, np.where(np.isfinite(value), value, 0.0))
        return found

    def node_of(self, state: State) -> int:
        """The number of the node that ``state``, a decision, is in."""
        ours, theirs = state.information(AGENT), state.information(OPPONENT)
        mine = self.ours.number(ours.round, name_of(ours, self.row), ours)
        other = self.theirs.number(theirs.round, name_of(theirs, self.row), theirs)
        return self.where[state.round][mine, other]

    def probabilities(self, row_of: Callable[[tuple[int, Name], InformationState], np.ndarray]) -> np.ndarray:
        """Flat probabilities, (P,), from one row for every name."""
        rows = [row_of(called, seen) for called, seen in zip(self.ours.called[1:], self.ours.first[1:])]
        return np.concatenate([[1.0], *rows])


@lru_cache(maxsize=8)
def _folded(game: Game, spec: GameSpec, row: str) -> FoldedTree:
    return FoldedTree(game, row)


def folded(game: Game, row: str = "label") -> FoldedTree:
    """The tree of ``game`` as its spec is now, folded by ``row`` alone; built once."""
    return _folded(game, game.spec, row)


@dataclass
class Reply(Policy):
    """An adversary from the rows of a ``Response``: by key where it has one, else by label, in that round; where it has
    none either, as in the last round that has the label, and elsewhere at random."""

    name: str
    rows: Rows = field(repr=False)
    row: str = "label"
    _late: dict[Name, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for (_, name), values in sorted(self.rows.items(), key=lambda item: item[0][0]):
            self._late[name] = values

    def identity(self) -> str:
        return f"{self.row} {sorted((repr(name), values.tolist()) for name, values in self.rows.items())}"

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        return [self._row(state) for state in seen]

    def _row(self, seen: InformationState) -> np.ndarray:
        label = name_of(seen, self.row)
        for name in ((seen.round, ("key", seen.key)), (seen.round, label)):
            if name in self.rows:
                return self.rows[name]
        count = len(seen.legal_actions)
        return self._late.get(label, np.full(count, 1 / count))
