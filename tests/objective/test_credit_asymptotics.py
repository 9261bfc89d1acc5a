"""What each credit mode estimates in the long run, against the exact gradient and its penalty part.

Sampled as in training, on tables; an estimate is the sum over decisions of advantage * grad log pi per rollout, as
``training.tabular.sampled_gradient`` has it. Penalty parts come from the same episodes, credited with and without
penalties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from sepo_kit import exact
from sepo_kit.engine.policy import tabular
from sepo_kit.engine.rollout import play_matches
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, Weights
from sepo_kit.objective.credit import assign_credit, training_matches
from sepo_kit.objective.step import TrainingStep
from sepo_kit.study.tabular import Logits, TabularSettings, sampled_gradient

ROLLOUTS = 8
FREE = Weights(0, 0, 0)
# Probability of each row's second action. No two are alike, and every exploiter leads clearly: where one hardly
# does, a small batch does not know whether to charge for it.
KUHN = {
    "J": 0.35, "Q": 0.57, "K": 0.69, "Jp": 0.60, "Qp": 0.38, "Kp": 0.67,
    "Jb": 0.43, "Qb": 0.31, "Kb": 0.71, "Jpb": 0.33, "Qpb": 0.55, "Kpb": 0.65,
}  # fmt: skip
IPD = {"start": 0.29, "CC": 0.12, "CD": 0.35, "DC": 0.2, "DD": 0.33}


@dataclass(frozen=True)
class Case:
    game: Game
    row: str
    second: dict[str, float]

    @property
    def table(self) -> dict[str, tuple[float, float]]:
        return {label: (1 - p, p) for label, p in self.second.items()}

    def exact(self, weights: Weights, part: str = "total") -> np.ndarray:
        """One number a row, that of its second action; the first has its negative."""
        found = getattr(exact.gradient_parts(self.game, self.table, weights, row=self.row), part)
        return np.array([found[label][1] for label in self.second])

    def estimates(self, mode: str, weights: list[Weights], steps: int, groups: int = 1) -> np.ndarray:
        """Estimates of the gradient at each of ``weights`` from the same play, shape (steps, W, rows)."""
        agent = tabular(self.game, self.table, row=self.row)
        number = {label: i for i, label in enumerate(self.second)}
        p = np.array(list(self.second.values()))
        todo = training_matches(self.game, mode, ROLLOUTS, groups)
        found = np.zeros((steps, len(weights), len(number)))
        for step in range(steps):
            episodes = play_matches(self.game, agent, todo, seed=0, step=step)
            decisions = [d for episode in episodes for d in episode.decisions]
            labels = [
                d.information.split(" ")[-1] if self.row == "memory_one" else d.information for d in decisions
            ]
            place = np.array([number[label] for label in labels])
            score = np.array([d.action in ("BET", "CALL", "DEFECT") for d in decisions]) - p[place]
            for w, each in enumerate(weights):
                credit = assign_credit(self.game.spec, episodes, each, mode)
                pulls = score * credit.advantage * credit.scale / (ROLLOUTS * groups)
                found[step, w] = np.bincount(place, pulls, minlength=len(p))
        return found


@pytest.fixture(params=["ipd", "kuhn"])
def case(request) -> Case:
    if request.param == "ipd":
        return Case(get_game("ipd"), "memory_one", IPD)
    return Case(get_game("kuhn"), "key", KUHN)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def surprise(samples: np.ndarray) -> float:
    """Probability of a mean as far from zero as that of ``samples``, (N, P), if the truth is zero: chi-square over
    the components that vary (Hotelling's statistic)."""
    mean = samples.mean(axis=0)
    covariance = np.cov(samples.T) / len(samples)
    return float(stats.chi2.sf(mean @ np.linalg.solve(covariance, mean), df=len(mean)))


def test_estimates_here_are_those_of_training(case):
    settings = TabularSettings(row=case.row, mode="credited", rollouts=ROLLOUTS, groups=2)
    weights = case.game.spec.weights
    taken = TrainingStep(case.game, settings)
    theirs = sampled_gradient(taken, Logits(case.game, case.row, case.table), 0, 1)
    ours = case.estimates("credited", [weights], steps=2, groups=2)[1, 0]
    found = [theirs[label][1] if label in theirs else 0.0 for label in case.second]
    np.testing.assert_allclose(found, ours, atol=1e-9)


def test_credited_is_the_gradient_and_its_penalty_part_that_of_the_penalties(case):
    weights = case.game.spec.weights
    assert min(exact.advantages_over(case.game, tabular(case.game, case.table, row=case.row)).values()) > 0.1
    whole, payoff = case.estimates("credited", [weights, FREE], steps=2, groups=80).mean(axis=0)
    assert cosine(whole, case.exact(weights)) >= 0.98
    assert cosine(whole - payoff, case.exact(weights, "penalty")) >= 0.98
    assert np.linalg.norm(whole) == pytest.approx(np.linalg.norm(case.exact(weights)), rel=0.15)


def test_shared_has_no_penalty_part_at_all(case):
    """One number for the whole group, and the group's mean takes it away again."""
    for weights in (case.game.spec.weights, Weights(100, 100, 100)):
        whole, payoff = case.estimates("shared", [weights, FREE], steps=1, groups=4)[0]
        np.testing.assert_allclose(whole, payoff, atol=1e-9)
        assert np.linalg.norm(payoff) > 0.01
        assert np.linalg.norm(case.exact(weights, "penalty")) > 0.1


def only(exploit: float, collusion: float, externality: float) -> Weights:
    """Weights so large that payoffs do not matter: the penalty part alone, whatever it is divided by."""
    return Weights(1e6 * exploit, 1e6 * collusion, 1e6 * externality)


def test_auxiliary_has_no_penalty_part_but_noise(case):
    """Fresh episodes say nothing of the decisions that are charged for them."""
    w = case.game.spec.weights
    samples = case.estimates("auxiliary", [only(w.exploit, w.collusion, 0)], steps=80)[:, 0]
    assert np.linalg.norm(samples, axis=1).min() > 0.1  # it moves every step, to no avail
    assert surprise(samples) > 0.001
    direction = case.exact(Weights(w.exploit, w.collusion, 0), "penalty")
    along = samples @ direction / np.linalg.norm(direction)
    assert abs(along.mean()) < 3.3 * along.std(ddof=1) / np.sqrt(len(along))
    # As many batches of the same size tell at once that credited has one.
    assert surprise(np.diff(case.estimates("credited", [FREE, w], steps=80), axis=1)[:, 0]) < 1e-9


def test_auxiliary_does_train_on_the_harm_of_the_episode_itself():
    """The one penalty that needs no fresh episodes: externality is counted in the train episode too."""
    case = Case(get_game("ipd"), "memory_one", IPD)
    samples = case.estimates("auxiliary", [only(0, 0, 1)], steps=40)[:, 0]
    assert surprise(samples) < 1e-9
    assert cosine(samples.mean(axis=0), case.exact(Weights(0, 0, 1), "externality")) > 0.5


def test_grouped_ignores_a_weight_that_credited_follows_in_proportion(case):
    """Each opponent's group is divided by its own std, so a weight that belongs to one pool only drops out."""
    if case.game.spec.id == "ipd":
        off, once, tenfold = Weights(2.4, 0, 0), Weights(2.4, 1, 0), Weights(2.4, 10, 0)
    else:
        off, once, tenfold = Weights(0, 0, 0), Weights(1.5, 0, 0), Weights(15, 0, 0)
    without, one, ten = case.estimates("grouped", [off, once, tenfold], steps=1, groups=10)[0]
    np.testing.assert_allclose(ten, one, atol=0.01 * np.linalg.norm(one))
    assert np.linalg.norm(one - without) > 0.05 * np.linalg.norm(
        one
    )  # it is not that the pool does not matter
    without, one, ten = case.estimates("credited", [off, once, tenfold], steps=1, groups=10)[0]
    np.testing.assert_allclose(ten - without, 10 * (one - without), atol=1e-9)
    assert np.linalg.norm(one - without) > 0.01
    part = "collusion" if case.game.spec.id == "ipd" else "exploit"
    np.testing.assert_allclose(case.exact(tenfold, part), 10 * case.exact(once, part), atol=1e-12)
