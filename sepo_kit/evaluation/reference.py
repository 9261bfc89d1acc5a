"""What equilibrium given weights buy: the exact tabular policy they lead to, at the press of a button."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sepo_kit import exact
from sepo_kit.adversaries.worst_case import QUICK_STATES
from sepo_kit.evaluation.reweigh import WEIGHTS, Contender
from sepo_kit.evaluation.statistics import exact as exactly
from sepo_kit.exact.ascent import OpenTable
from sepo_kit.exact.gradients import problem
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, Weights
from sepo_kit.objective.terms import TERMS


@dataclass(frozen=True)
class Reference:
    """The best tabular policy an ascent of J found, the reference policy.

    Attributes
    ----------
    contender
        The policy as one to be weighed, its terms exact.
    weights, objective
        What it was trained for, and its J there.
    rows
        How it plays: one row per state label its play against the pools meets, with ``met`` (times per episode, mean
        over opponents) and one column per action, its probability; NaN where the action is not legal.
    worst_case
        The most any adversary gains on it per round (per hand in Kuhn poker), rows it never meets played uniformly;
        None where that is too large to tell.
    """

    contender: Contender
    weights: Weights
    objective: float
    rows: pd.DataFrame
    worst_case: float | None


def reference(game: Game | str, weights: Weights | None = None, steps: int = 300) -> Reference:
    """Train a tabular policy on the exact J at ``weights`` (default: the game's own).

    Rows go by the game's ``spec.reference_row``.

    Raises
    ------
    ValueError
        The game is too large to be enumerated in a moment, or ``steps`` is not a whole number >= 1.
    """
    game = get_game(game)
    weights = game.spec.weights if weights is None else weights
    row = game.spec.reference_row or "label"
    try:
        found = exact.optimise(game, weights, row=row, steps=steps, max_states=QUICK_STATES)
    except exact.TooLarge:
        raise ValueError(
            f"{game.spec.title} is too large to be enumerated in a moment; train a model on it instead, or a table by "
            "sampling with sepo_kit.study.tabular"
        ) from None
    name = "exact at " + "/".join(f"{value:g}" for value in vars(weights).values())
    worst = _worst_case(game, row, found)
    contender = Contender.exactly(name, "reference", found.terms)
    if worst is not None:
        contender = replace(contender, worst_case=exactly(worst))
    return Reference(contender, weights, found.objective, _rows(game, row, found), worst)


def weight_sweep(game: Game | str, values: Sequence[float], steps: int = 300) -> pd.DataFrame:
    """What each weight buys: the reference policy's terms at each of its ``values``, the other two the game's own.

    Returns
    -------
    DataFrame
        One row per weight and value: ``weight``, ``value``, the terms (unscaled) and the worst case.

    Raises
    ------
    ValueError
        As ``reference``.
    """
    game = get_game(game)
    rows = []
    for name in WEIGHTS:
        for value in values:
            found = reference(game, replace(game.spec.weights, **{name: float(value)}), steps)
            terms = dict(zip(TERMS, found.contender.terms.tolist(), strict=True))
            rows.append({"weight": name, "value": float(value), **terms, "worst_case": found.worst_case})
    return pd.DataFrame(rows)


def _rows(game: Game, row: str, found: exact.Optimum) -> pd.DataFrame:
    sums = problem(game, row, QUICK_STATES)
    flow, _ = sums.forward(sums.probabilities(found.policy.table))
    met = np.bincount(sums.row_of_place[sums.place], flow)[1:] / len(sums.opponents)
    return pd.DataFrame(
        [
            {"state": label, "met": times, **dict(zip(actions, found.policy.table[label], strict=True))}
            for label, actions, times in zip(sums.labels, sums.actions[1:], met.tolist(), strict=True)
            if times > 1e-9
        ]
    )


def _worst_case(game: Game, row: str, found: exact.Optimum) -> float | None:
    agent = OpenTable(found.policy.name, dict(found.policy.table), lambda seen: getattr(seen, row))
    # By memory where the tree is too large: a round of such a game pays the same whatever was played before.
    for memory in (None, row) if row != "key" else (None,):
        try:
            return exact.worst_case(game, agent, memory=memory, max_states=QUICK_STATES).advantage
        except ValueError:
            continue
    return None
