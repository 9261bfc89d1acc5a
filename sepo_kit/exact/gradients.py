"""The gradient of J for a tabular softmax policy, exactly and part by part.

One sweep forward gives the reach of every move, one backward what follows it; their product, summed by the
row and action a move was made with, is the gradient. ``Problem`` holds all pools' trees in one set of arrays, with
positions merged that a policy of the given rows cannot tell apart and that lead to the same, so that a short table
costs next to nothing. Going uphill is in ``ascent.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sepo_kit.engine.policy import tabular
from sepo_kit.exact.answers import Everything
from sepo_kit.exact.tree import MAX_STATES, OVER, Layer, Tree, arena
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, GameSpec, Weights
from sepo_kit.objective.terms import TERMS, coefficients, divisors

POOLS = ("train", "exploit", "collusive")
INSTEAD = "raise max_states, or estimate the gradient from sampled play: sepo_kit.objective.credit"

Rows = dict[str, np.ndarray]


@dataclass(frozen=True)
class GradientParts:
    """dJ/dlogits by the four parts of J, each with its weight and sign, so that they add up to ``total``.

    Every field maps a row label to an array over the row's legal actions, shape (A,), in units of J per unit of
    logit (nats).
    """

    payoff: Rows
    exploit: Rows
    collusion: Rows
    externality: Rows

    @property
    def penalty(self) -> Rows:
        """All but the payoff: what the penalties add to the gradient."""
        return _sum(self.exploit, self.collusion, self.externality)

    @property
    def total(self) -> Rows:
        """The gradient of J."""
        return _sum(self.payoff, self.exploit, self.collusion, self.externality)


def _sum(*parts: Rows) -> Rows:
    return {label: sum(part[label] for part in parts) for label in parts[0]}


def gradient(
    game: Game | str,
    table: Mapping[str, Sequence[float]],
    weights: Weights | None = None,
    *,
    row: str = "key",
    max_states: int = MAX_STATES,
) -> Rows:
    """dJ/dlogits of the softmax policy whose probabilities are ``table``.

    J as in ``terms.objective``. max(0, .) of the exploit term is differentiated per opponent: one that earns
    more than the agent counts with slope 1, any other with 0, also where the advantage is exactly 0.

    Parameters
    ----------
    table
        Row label -> probabilities over the legal actions in their order, as in ``sk.tabular``; one row for
        every state that play against the train, exploit and collusive pools can meet.
    weights
        Penalty weights (default: the game's training weights).
    row
        Attribute of the game's information state that labels the row, as in ``sk.tabular``.

    Returns
    -------
    dict
        Row label -> array over the legal actions, shape (A,); each sums to 0. A logit whose action has probability
        0 has derivative 0.

    Raises
    ------
    TooLarge
        More than ``max_states`` states can be reached against one opponent.
    ValueError
        A row is missing or is not a distribution.

    >>> rows = {"start": [0.9, 0.1], "CC": [0.9, 0.1], "CD": [0.1, 0.9], "DC": [0.9, 0.1], "DD": [0.1, 0.9]}
    >>> found = gradient("ipd", rows, row="memory_one")
    >>> [label for label, slope in found.items() if slope[0] > 0]  # where to cooperate more
    ['start', 'CC', 'DC']
    """
    return gradient_parts(game, table, weights, row=row, max_states=max_states).total


def gradient_parts(
    game: Game | str,
    table: Mapping[str, Sequence[float]],
    weights: Weights | None = None,
    *,
    row: str = "key",
    max_states: int = MAX_STATES,
) -> GradientParts:
    """``gradient`` by its parts: payoff, exploit, collusion and externality. Parameters and errors are the same."""
    game = get_game(game)
    found = problem(game, row, max_states)
    p = found.probabilities(table)
    flow, totals = found.forward(p)
    slopes = found.slopes(totals, game.spec.weights if weights is None else weights)
    columns = found.backward(p, flow, (found.pay * slopes[found.owner])[found.kind])
    unmet = {label: np.zeros(len(values)) for label, values in table.items()}
    return GradientParts(*(unmet | found.rows(column) for column in columns.T))


# --- J as arrays ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sheet:
    """One layer of all trees: M moves out of N nodes, ``OVER`` without any.

    ``source``, ``target``: nodes here and in the next layer, (M,). ``first``: the first move of each other
    node, (N - 1,). ``part``: where the moves stand among those of all layers. ``below``: nodes of the next layer.
    """

    source: np.ndarray
    target: np.ndarray
    first: np.ndarray
    part: slice
    below: int


class Problem:
    """J of a table with given rows as array operations, and its gradient.

    Rows are numbered from 1; row 0 has one action, certain, and stands for moves that are not the agent's.
    ``starts``: the place of each row's first action in flat arrays over all actions, shape (P,). Over all moves, (M,):
    ``place`` of the agent's action, ``chance`` of the rest, and the ``kind`` of move. A kind, (K,), has an opponent,
    ``owner``, and adds ``pay``, (K, 4), to own payoff, opponent's lead, collusion and externality per round.
    """

    def __init__(self, game: Game, row: str, max_states: int) -> None:
        tabular(game, {}, row=row)  # refuses an unknown row
        self.game, self.spec, self.row, self.max_states = game, game.spec, row, max_states
        members = [(pool, o) for pool in POOLS for o in game.spec.pools[pool]]
        self.opponents = list(dict.fromkeys(o for _, o in members))
        self.trees = trees = [arena(game).against(game.strategy(o)) for o in self.opponents]
        for tree in trees:
            tree.reach(Everything(tree.seen), max_states, INSTEAD)
        self.seen = trees[0].seen
        self.labels, self.actions, self._row_of_seen = _rows(trees, row)
        self.counts = np.array([len(actions) for actions in self.actions])
        self.starts = np.cumsum(self.counts) - self.counts
        self.row_of_place = np.repeat(np.arange(len(self.counts)), self.counts)
        self._join([_fold(tree, self) for tree in trees])
        factors = np.zeros((len(self.opponents), len(TERMS)))
        for pool, opponent in members:
            factors[self.opponents.index(opponent)] += 1 / divisors(game.spec, pool)
        self.factors = factors

    def _join(self, trees: list[list[Fold]]) -> None:
        """Lay the trees side by side, layer by layer."""
        depth = max(map(len, trees))
        trees = [folds + [Fold.empty()] * (depth + 1 - len(folds)) for folds in trees]
        shifts = [np.cumsum([0] + [tree[d].nodes - 1 for tree in trees]) for d in range(depth + 1)]
        self.roots = np.concatenate([[0.0], *(tree[0].weight for tree in trees)])
        self.sheets: list[Sheet] = []
        begin = 0
        for d in range(depth):
            folds = [tree[d] for tree in trees]
            source = np.concatenate([f.source + shift for f, shift in zip(folds, shifts[d])])
            target = np.concatenate(
                [np.where(f.target == OVER, OVER, f.target + shift) for f, shift in zip(folds, shifts[d + 1])]
            )
            first = source.searchsorted(np.arange(1, shifts[d][-1] + 1))
            part = slice(begin, begin + len(source))
            self.sheets.append(Sheet(source, target, first, part, int(shifts[d + 1][-1]) + 1))
            begin = part.stop
        layers = [[tree[d] for tree in trees] for d in range(depth)]
        self.place = np.concatenate([f.place for folds in layers for f in folds])
        self.chance = np.concatenate([f.chance for folds in layers for f in folds])
        pay = np.concatenate([f.pay for folds in layers for f in folds]) / self.game.spec.rounds
        owner = np.concatenate([np.full(len(f.place), o) for folds in layers for o, f in enumerate(folds)])
        kinds, self.kind = np.unique(np.column_stack([owner, pay]), axis=0, return_inverse=True)
        self.owner, self.pay = kinds[:, 0].astype(np.intp), kinds[:, 1:]
        self._by_owner = (np.arange(len(self.opponents))[:, None] == self.owner).astype(float)  # (O, K)

    def places(self, layer: Layer) -> np.ndarray:
        """The place of the agent's action in every move of ``layer``, shape (M,)."""
        seen = layer.seen[layer.source]
        return self.starts[self._row_of_seen[seen]] + layer.choice - self.seen.arrays()[0][seen]

    def probabilities(self, table: Mapping[str, Sequence[float]]) -> np.ndarray:
        """The flat form of ``table``, shape (P,); ValueError for a missing row or one that is no distribution."""
        rows = tabular(self.game, table, row=self.row).table
        p = np.ones(len(self.row_of_place))
        needed = dict(zip(self.labels, self.actions[1:], strict=True))
        if missing := needed.keys() - rows.keys():
            first = min(missing)  # whatever was met first in this process
            raise ValueError(
                f"the table has no row for state {first!r}, which play against the pools can meet; add it with one "
                f"probability for each of {', '.join(needed[first])}"
            )
        for start, label, actions in zip(self.starts[1:], self.labels, self.actions[1:], strict=True):
            if len(rows[label]) != len(actions):
                raise ValueError(
                    f"row {label!r} has {len(rows[label])} probabilities; it needs one for each of "
                    f"{', '.join(actions)}"
                )
            p[start : start + len(actions)] = rows[label]
        return p

    def rows(self, flat: np.ndarray) -> Rows:
        """The table form of ``flat``, shape (P,)."""
        return dict(zip(self.labels, np.split(flat, self.starts[1:])[1:], strict=True))

    def forward(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reach of every move, (M,), and per opponent the means per round of own payoff, opponent's lead,
        collusion and externality, (O, 4), for the policy ``p``, (P,)."""
        odds = self.chance * p[self.place]
        flow = np.empty_like(odds)
        reach = self.roots
        for sheet in self.sheets:
            flow[sheet.part] = reach[sheet.source] * odds[sheet.part]
            reach = np.bincount(sheet.target, flow[sheet.part], minlength=sheet.below)
        mass = np.bincount(self.kind, flow, minlength=len(self.pay))
        return flow, self._by_owner @ (mass[:, None] * self.pay)

    def backward(self, p: np.ndarray, flow: np.ndarray, pay: np.ndarray) -> np.ndarray:
        """Derivatives by the logits, (P, K), of the expected sums of ``pay``, (M, K)."""
        odds = (self.chance * p[self.place])[:, None]
        worth = np.empty_like(pay)  # what the move and all after it pay
        value = np.zeros((1, pay.shape[1]))
        for sheet in reversed(self.sheets):
            worth[sheet.part] = pay[sheet.part] + value[sheet.target]
            value = np.zeros((len(sheet.first) + 1, pay.shape[1]))
            value[1:] = np.add.reduceat(odds[sheet.part] * worth[sheet.part], sheet.first)
        worth *= flow[:, None]
        earned = np.stack([np.bincount(self.place, column, minlength=len(p)) for column in worth.T], axis=1)
        earned[0] = 0.0
        return earned - p[:, None] * np.add.reduceat(earned, self.starts)[self.row_of_place]

    def objective(self, totals: np.ndarray, weights: Weights) -> float:
        """J from every opponent's means, (O, 4)."""
        return float((totals * self.slopes(totals, weights)).sum())

    def slopes(self, totals: np.ndarray, weights: Weights) -> np.ndarray:
        """dJ by the four means of every opponent, (O, 4): an exploiter counts only while it leads."""
        slopes = self.factors * coefficients(self.spec, weights)
        slopes[:, 1] *= totals[:, 1] > 0
        return slopes


@lru_cache(maxsize=8)
def _problem(game: Game, spec: GameSpec, row: str, max_states: int) -> Problem:
    return Problem(game, row, max_states)


def problem(game: Game, row: str, max_states: int = MAX_STATES) -> Problem:
    """The ``Problem`` of ``game`` as its spec is now, built once."""
    return _problem(game, game.spec, row, max_states)


def _rows(trees: list[Tree], row: str) -> tuple[list[str], list[tuple[str, ...]], np.ndarray]:
    """Labels of the rows, the actions of row 0 and of each, and the row of every information state's number."""
    seen = trees[0].seen
    row_of = np.zeros(len(seen.states), dtype=np.intp)
    actions: dict[str, tuple[str, ...]] = {}
    number: dict[str, int] = {}
    for i in np.unique(np.concatenate([layer.seen for tree in trees for layer in tree.layers])).tolist():
        if i == 0:
            continue
        state = seen.states[i]
        label = getattr(state, row)
        row_of[i] = number.setdefault(label, len(number) + 1)
        if actions.setdefault(label, state.legal_actions) != state.legal_actions:
            raise ValueError(
                f"row {label!r} stands for states with different legal actions, {', '.join(actions[label])} and "
                f"{', '.join(state.legal_actions)}; take row='key'"
            )
    return list(number), [("",), *actions.values()], row_of


@dataclass(frozen=True)
class Fold:
    """One layer of one tree, positions merged; arrays as in ``Problem``. ``weight``: how many positions each node
    but ``OVER`` stands for."""

    nodes: int
    weight: np.ndarray
    source: np.ndarray
    target: np.ndarray
    place: np.ndarray
    chance: np.ndarray
    pay: np.ndarray

    @classmethod
    def empty(cls) -> Fold:
        none = np.zeros(0, dtype=np.intp)
        return cls(1, np.zeros(0), none, none, none, np.zeros(0), np.zeros((0, len(TERMS))))


def _fold(tree: Tree, found: Problem) -> list[Fold]:
    """The layers of a complete tree, those positions merged whose rows, moves and futures are the same."""
    folds, merged = [], np.zeros(1, dtype=np.intp)  # the layer below: node -> merged node
    for layer in reversed(tree.layers):
        order = np.argsort(layer.source, kind="stable")
        source, gains = layer.source[order], layer.gains[order]
        pay = np.column_stack([gains[:, 0], gains[:, 1] - gains[:, 0], gains[:, 2:]])
        columns = (merged[layer.target[order]], found.places(layer)[order], layer.chance[order], *pay.T)
        moves = list(zip(*(column.tolist() for column in columns)))
        bounds = source.searchsorted(np.arange(1, len(layer) + 1)).tolist()
        known: dict[tuple, int] = {}
        merged = np.zeros(len(layer), dtype=np.intp)
        for node in range(1, len(layer)):
            future = tuple(moves[bounds[node - 1] : bounds[node]])
            merged[node] = known.setdefault(future, len(known) + 1)
        kept = [(node, *move) for future, node in known.items() for move in future]
        if not kept:
            folds.append(Fold.empty())
            continue
        source, target, place, chance, *pay = map(np.array, zip(*kept))
        weight = np.bincount(merged)[1:].astype(float)
        folds.append(Fold(len(known) + 1, weight, source, target, place, chance, np.column_stack(pay)))
    return folds[::-1]
