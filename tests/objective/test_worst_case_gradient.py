"""The expected update with the best response opposite is the gradient of J with the worst case in it (Danskin), and
what is left of that where two best responses gain the same.

Sampled as in training, on tables of Kuhn poker, against finite differences of the exact worst case.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sepo_kit import exact
from sepo_kit.engine.policy import tabular
from sepo_kit.games import get_game
from sepo_kit.games.base import Weights
from sepo_kit.objective.step import TrainingStep
from sepo_kit.objective.terms import guaranteed, objective
from sepo_kit.study.tabular import Logits, TabularSettings, sampled_gradient, train_tabular

GAME = get_game("kuhn")
# Probability of each row's second action. No two are alike, so no two of the adversary's replies gain the same.
TABLE = {
    "J": 0.35, "Q": 0.57, "K": 0.69, "Jp": 0.60, "Qp": 0.38, "Kp": 0.67,
    "Jb": 0.43, "Qb": 0.31, "Kb": 0.71, "Jpb": 0.33, "Qpb": 0.55, "Kpb": 0.65,
}  # fmt: skip
# A jack bets a third as often as a king: whoever faces that bet with a queen gains as much by calling as by passing.
TIED = {**TABLE, "J": 0.2, "Q": 0.0001, "K": 0.6}
BOTH = "pool and worst-case"


def rows(second: dict[str, float]) -> dict[str, tuple[float, float]]:
    return {label: (1 - p, p) for label, p in second.items()}


def moved(second: dict[str, float], along: np.ndarray) -> dict[str, float]:
    """``second`` with its logits moved by ``along``."""
    p = np.array(list(second.values()))
    logits = np.log(p / (1 - p)) + along
    return dict(zip(second, (1 / (1 + np.exp(-logits))).tolist(), strict=True))


def worst_case(second: dict[str, float]) -> float:
    return exact.worst_case(GAME, tabular(GAME, rows(second))).advantage


def j(second: dict[str, float], exploiters: str, weights: Weights) -> float:
    """J at ``weights`` with the worst case as the exploit, or as one of the exploit pool."""
    agent = tabular(GAME, rows(second))
    terms = replace(exact.terms(GAME, agent), worst_case=worst_case(second))
    if exploiters == "worst-case":
        return guaranteed(GAME.spec, terms, weights)
    over = exact.advantages_over(GAME, agent)
    gains = [max(0.0, over[name]) for name in GAME.spec.pools.exploit] + [terms.worst_case]
    return objective(GAME.spec, replace(terms, exploit=float(np.mean(gains))), weights)


def update(second: dict[str, float], settings: TabularSettings, steps: int = 2) -> np.ndarray:
    """The mean update by logit of the second action, over a few large batches."""
    total = np.zeros(len(second))
    for number in range(steps):
        found = sampled_gradient(TrainingStep(GAME, settings), Logits(GAME, "key", rows(second)), 0, number)
        # Two logits a row, the update of one minus that of the other: what one logit of both moves by.
        total += [found[label][1] if label in found else 0.0 for label in second]
    return total / steps


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize("exploiters", ["worst-case", BOTH])
@pytest.mark.parametrize("weights", [Weights(1.5, 0, 0), Weights(20, 0, 0)], ids=["own", "penalty alone"])
def test_the_expected_update_is_the_gradient_of_j_with_the_worst_case_in_it(exploiters, weights):
    step = 1e-4
    around = [
        (j(moved(TABLE, d), exploiters, weights), j(moved(TABLE, -d), exploiters, weights))
        for d in step * np.eye(len(TABLE))
    ]
    here = j(TABLE, exploiters, weights)
    truth = np.array([(up - down) / (2 * step) for up, down in around])
    bend = [abs(up + down - 2 * here) / step for up, down in around]
    assert max(bend) < 0.01 * np.linalg.norm(truth)  # no kink: one best response
    settings = TabularSettings(exploiters=exploiters, weights=weights, groups=80)
    found = update(TABLE, settings)
    assert cosine(found, truth) >= 0.98
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(truth), rel=0.15)


def test_at_a_kink_the_worst_case_rises_on_both_sides_and_the_update_follows_one_of_them():
    """No gradient exists there: the one-sided slopes have opposite signs, the update is that of the reply that the
    adversary happened to take, and a step along it makes the other reply the better one. So a constant step circles
    about the kink, and only a step that shrinks comes to rest on it."""
    step, jack = 1e-4, np.eye(len(TIED))[0]
    here = worst_case(TIED)
    up, down = ((worst_case(moved(TIED, sign * step * jack)) - here) / step for sign in (1, -1))
    assert up > 0.01 and down > 0.01
    weights = Weights(1e6, 0, 0)  # nothing but the penalty
    found = update(TIED, TabularSettings(exploiters="worst-case", weights=weights, groups=80))
    slope = -found[0] / (weights.exploit * GAME.spec.scale)  # of the worst case, along the jack's logit
    assert -down - 0.005 <= slope <= up + 0.005
    assert min(abs(slope - up), abs(slope + down)) < 0.01  # one side's, not their mean
    for length in (0.02, 0.2):
        assert worst_case(moved(TIED, length * np.sign(found[0]) * jack)) > here


def test_the_weight_follows_the_limit_on_the_worst_case():
    """Up while more can be gained than allowed, by rate times the excess, down while less."""
    settings = TabularSettings(
        exploiters="worst-case", limits={"worst_case": 0.05}, weights=Weights(1, 2, 0), dual_rate=0.5
    )
    taken = TrainingStep(GAME, settings)
    logits = Logits(GAME, "key", rows(TABLE))
    sampled_gradient(taken, logits, 0, 0)
    assert taken.charged == Weights(1, 2, 0)
    assert taken.terms.worst_case == pytest.approx(worst_case(TABLE))
    assert taken.weights.exploit == pytest.approx(1 + 0.5 * (worst_case(TABLE) - 0.05))
    assert taken.weights.collusion == 2
    taken.learn(taken.episodes, worst_case=0.01)
    assert taken.weights.exploit == pytest.approx(1 + 0.5 * (worst_case(TABLE) - 0.05) + 0.5 * (0.01 - 0.05))


def test_a_table_that_may_lose_no_more_than_a_limit_ends_near_it():
    """From a weight of 0, at which payoff is had at whatever risk."""
    settings = TabularSettings(
        steps=300, exploiters="worst-case", weights=Weights(0, 0, 0), schedule="linear"
    )
    free = train_tabular(GAME, replace(settings, steps=200)).log
    log = train_tabular(GAME, replace(settings, limits={"worst_case": 0.05}, dual_rate=0.1)).log
    assert free["worst_case"].iloc[-1] > 0.2
    assert log["weight_exploit"].iloc[-1] > 1
    assert log["worst_case"].iloc[-5:].mean() == pytest.approx(0.05, abs=0.03)
