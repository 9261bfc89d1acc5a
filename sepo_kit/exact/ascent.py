"""Gradient ascent on the exact J of a tabular policy: what there was to win.

The best policy found is called the reference policy. J has local maxima (defecting for good is one in the prisoner's
dilemma) and kinks where an exploiter starts to lead, so ascent is tried from several starts and no claim is made that
the best of them is the best of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from sepo_kit.engine.policy import Policy, TabularPolicy, scripted, tabular
from sepo_kit.exact.answers import Answers
from sepo_kit.exact.gradients import INSTEAD, Problem, problem
from sepo_kit.exact.tree import MAX_STATES, SAMPLE, arena, means
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState, UniformStrategy, Weights
from sepo_kit.games.numbers import require_count
from sepo_kit.objective.terms import Against, Terms, terms_of

FLOOR = 1e-3  # the least share of uniform play in a start: a logit of minus infinity cannot be moved
FINALISTS = 3
NEARLY = 0.99  # from here on a row counts as almost pure
GAIN = 1e-12  # in units of J; less is rounding
SMALL = 1_000  # up to this many probabilities a table is polished row by row


@dataclass(frozen=True)
class Optimum:
    """The best tabular policy an ascent found.

    Attributes
    ----------
    policy
        The reference policy; ``policy.table`` holds its rows.
    objective
        Its J at the weights of the ascent.
    terms
        Its exact terms, over all four pools.
    start
        The start it came from: "uniform", the id of a strategy of the game, or the name of the given one.
    trajectory
        J and its terms before every step and after the last of the ascent that led to it: name -> array, shape
        (steps + 1,). J may end below ``objective``: the best policy on the way counts, and it is polished.
    """

    policy: TabularPolicy
    objective: float
    terms: Terms
    start: str
    trajectory: dict[str, np.ndarray] = field(repr=False)


def optimise(
    game: Game | str,
    weights: Weights | None = None,
    *,
    row: str = "key",
    start: Mapping[str, Sequence[float]] | Policy | None = None,
    steps: int = 300,
    learning_rate: float = 0.1,
    max_states: int = MAX_STATES,
) -> Optimum:
    """Climb J from ``start`` to the best tabular policy found, the reference policy.

    Adam (Kingma and Ba 2015) on the logits with the exact gradient, its step size falling linearly to 0. The best
    policy on the way is then polished: rows are made pure where that raises J, those that almost are also where it
    does not lower it.

    Parameters
    ----------
    weights
        Penalty weights (default: the game's training weights).
    row
        Attribute of the game's information state that labels a row, as in ``sk.tabular``. "key" allows any
        policy and can be slow (seconds in the prisoner's dilemma, which has 21,845 of them); a shorter one, such as
        "memory_one" there, takes a fraction of a second.
    start
        A table with these rows, or a policy: a row is then its mean play where the row applies. Without it, uniform
        play and every strategy of the game start, and after a fifth of the steps the best three go on.
    steps, learning_rate
        Steps of the ascent, at least 1; size of the first one, in nats.

    Raises
    ------
    TooLarge
        More than ``max_states`` states can be reached against one opponent.
    ValueError
        ``steps`` or ``learning_rate`` is out of range, or ``start`` misses a row or is no distribution.

    >>> found = optimise(
    ...     "ipd",
    ...     row="memory_one",
    ...     start={label: [0.5, 0.5] for label in ("start", "CC", "CD", "DC", "DD")},
    ...     steps=100,
    ... )
    >>> found.objective > -1.73  # that of uniform play
    True
    """
    require_count("steps", steps)
    if not 0 < learning_rate < np.inf:
        raise ValueError(f"learning_rate must be a number > 0, got {learning_rate!r}")
    game = get_game(game)
    weights = game.spec.weights if weights is None else weights
    found = problem(game, row, max_states)
    runs = [_Ascent(found, weights, name, p, learning_rate, steps) for name, p in _starts(found, start)]
    if len(runs) > 1:
        for run in runs:
            run.climb(steps // 5)
        runs = sorted(runs, key=lambda run: -run.best)[:FINALISTS]
    for run in runs:
        run.climb(steps - run.step)
    run = max(runs, key=lambda run: run.best)
    p, best = _polished(found, weights, run.best_p, run.best)
    given = start if isinstance(start, Mapping) else {}
    policy, terms = _completed(found, {**given, **found.rows(p)}, max_states)
    return Optimum(policy, best, terms, run.name, run.trajectory())


class _Ascent:
    """One run of Adam from the probabilities ``p``, shape (P,); ``best_p`` is the best it came across."""

    def __init__(
        self, found: Problem, weights: Weights, name: str, p: np.ndarray, rate: float, steps: int
    ) -> None:
        self.found, self.weights, self.name, self.rate, self.steps = found, weights, name, rate, steps
        self.logits = np.log((1 - FLOOR) * p + FLOOR / found.counts[found.row_of_place])
        self.mean, self.square = np.zeros_like(p), np.zeros_like(p)
        self.step = 0
        self.totals: list[np.ndarray] = []  # (O, 4) each
        self.best, self.best_p = found.objective(found.forward(p)[1], weights), p
        self._gradient = self._look()

    def climb(self, steps: int) -> None:
        """Take ``steps`` more steps."""
        for _ in range(steps):
            slope, t = self._gradient, self.step + 1
            self.mean = 0.9 * self.mean + 0.1 * slope
            self.square = 0.999 * self.square + 0.001 * slope**2
            size = np.sqrt(self.square / (1 - 0.999**t)) + 1e-8
            rate = self.rate * (1 - self.step / self.steps)
            self.logits = self.logits + rate * self.mean / (1 - 0.9**t) / size
            self.step = t
            self._gradient = self._look()

    def _look(self) -> np.ndarray:
        """Note where the run stands; the gradient there, shape (P,)."""
        found = self.found
        raised = np.exp(self.logits - np.maximum.reduceat(self.logits, found.starts)[found.row_of_place])
        p = raised / np.add.reduceat(raised, found.starts)[found.row_of_place]
        flow, totals = found.forward(p)
        self.totals.append(totals)
        objective = found.objective(totals, self.weights)
        if objective > self.best:
            self.best, self.best_p = objective, p
        pay = (found.pay * found.slopes(totals, self.weights)[found.owner]).sum(axis=1)
        return found.backward(p, flow, pay[found.kind, None])[:, 0]

    def trajectory(self) -> dict[str, np.ndarray]:
        """As in ``Optimum``."""
        totals = np.array(self.totals)  # (steps + 1, O, 4)
        pools, number = self.found.game.spec.pools, self.found.opponents.index

        def mean(members: Sequence[str], column: np.ndarray) -> np.ndarray:
            return column[:, [number(o) for o in members]].mean(axis=1) if members else np.zeros(len(column))

        return {
            "objective": np.array([self.found.objective(t, self.weights) for t in totals]),
            "payoff": mean(pools.train, totals[:, :, 0]),
            "exploit": mean(pools.exploit, np.maximum(totals[:, :, 1], 0.0)),
            "collusion": mean(pools.collusive, totals[:, :, 2]),
            "externality": mean(pools.train + pools.exploit, totals[:, :, 3]),
        }


def _starts(
    found: Problem, start: Mapping[str, Sequence[float]] | Policy | None
) -> list[tuple[str, np.ndarray]]:
    """Names and flat probabilities of the starts; those that are the same as an earlier one left out."""
    if isinstance(start, Mapping):
        return [("given", found.probabilities(start))]
    if start is not None:
        return [(start.name, _projected(found, start))]
    return _scripted(found)


@lru_cache(maxsize=8)
def _scripted(found: Problem) -> list[tuple[str, np.ndarray]]:
    starts = [("uniform", 1 / found.counts[found.row_of_place])]
    for name, strategy in found.game.strategies.items():
        if not isinstance(strategy, UniformStrategy):
            starts.append((name, _projected(found, scripted(found.game, name))))
    different: dict[bytes, tuple[str, np.ndarray]] = {}
    for name, p in starts:
        different.setdefault(p.round(6).tobytes(), (name, p))
    return list(different.values())


def _projected(found: Problem, agent: Policy) -> np.ndarray:
    """The mean play of ``agent`` where each row applies, weighted by how often it gets there against the pools;
    uniform where it never does. Shape (P,)."""
    answers = Answers(found.seen, agent)
    played = np.zeros(len(found.row_of_place))
    for tree in found.trees:
        for step in tree.reach(answers, found.max_states, INSTEAD):
            played += np.bincount(found.places(step.layer), step.flow, minlength=len(played))
    met = np.add.reduceat(played, found.starts)[found.row_of_place]
    return np.where(met > 0, played / np.where(met > 0, met, 1.0), 1 / found.counts[found.row_of_place])


def _polished(found: Problem, weights: Weights, p: np.ndarray, best: float) -> tuple[np.ndarray, float]:
    """``p`` with rows made pure where that raises J (or, for rows that almost are, leaves it), and its J."""

    def consider(candidate: np.ndarray, needed: float) -> bool:
        nonlocal p, best
        objective = found.objective(found.forward(candidate)[1], weights)
        if objective < needed:
            return False
        p, best = candidate, objective
        return True

    top = np.maximum.reduceat(p, found.starts)[found.row_of_place]
    consider(np.where(top > NEARLY, p == top, p).astype(float), best)
    improved = len(p) <= SMALL
    while improved:
        improved = False
        for place in range(1, len(p)):
            row = found.row_of_place == found.row_of_place[place]
            pure = np.where(row, 0.0, p)
            pure[place] = 1.0
            improved |= p[place] < 1.0 and consider(pure, best + GAIN)
    return p, best


def _completed(
    found: Problem, table: Mapping[str, Sequence[float]], max_states: int
) -> tuple[TabularPolicy, Terms]:
    """The policy of ``table``, with uniform rows where only the shift pool can lead; and its terms."""
    policy = OpenTable(f"reference policy ({found.row})", table, lambda seen: getattr(seen, found.row))
    game, known = found.game, arena(found.game)
    answers = Answers(known.seen, policy)
    results = {
        (pool, o): Against(*means(known.against(game.strategy(o)), answers, max_states, SAMPLE).tolist())
        for pool, o in game.opponents
    }
    return tabular(game, policy.table, row=found.row, name=policy.name), terms_of(game.spec, results)


class OpenTable(TabularPolicy):
    """A table that takes in a uniform row where it has none."""

    def identity(self) -> str:
        rows = {label: values for label, values in self.table.items() if np.ptp(values) > 0}
        return TabularPolicy(self.name, rows, self.row, self.goes_by).identity()

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        for state in seen:
            count = len(state.legal_actions)
            self.table.setdefault(self.row(state), np.full(count, 1 / count))
        return super().distributions(seen)
