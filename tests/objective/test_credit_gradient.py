"""The expected ``credited`` update of a softmax table is the gradient of J; that of the other modes is not.

No language model and no trainer: sampled estimates against numerical derivatives of the enumerated J.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import toys

from sepo_kit import exact
from sepo_kit.engine.policy import TabularPolicy, tabular
from sepo_kit.engine.rollout import play_matches
from sepo_kit.games import get_game, ipd
from sepo_kit.games.base import Game, Weights
from sepo_kit.objective.credit import MODES, assign_credit, training_matches
from sepo_kit.objective.terms import objective

ROLLOUTS = 8
# All logits differ, and nobody's advantage is near 0, where J has a kink.
KUHN = {
    "J": -0.6, "Q": 0.3, "K": 0.8, "Jp": 0.4, "Qp": -0.5, "Kp": 0.7,
    "Jb": -0.3, "Qb": -0.8, "Kb": 0.9, "Jpb": -0.7, "Qpb": 0.2, "Kpb": 0.6,
}  # fmt: skip
IPD = {"start": -0.9, "CC": -1.2, "CD": 0.4, "DC": -0.3, "DD": 0.7}

Agent = Callable[[np.ndarray], TabularPolicy]


def softmax_agent(game: Game, labels: list[str], row: str) -> Agent:
    """Logits of each row's second action -> the policy."""

    def agent(logits: np.ndarray) -> TabularPolicy:
        second = 1 / (1 + np.exp(-logits))
        return tabular(game, {label: (1 - p, p) for label, p in zip(labels, second)}, row=row)

    return agent


def exact_gradient(game: Game, agent: Agent, logits: np.ndarray, weights: Weights) -> np.ndarray:
    """dJ / dlogits by central differences of the enumeration."""

    def j(shifted: np.ndarray) -> float:
        return objective(game.spec, exact.terms(game, agent(shifted)), weights)

    step = 1e-4
    return np.array([(j(logits + d) - j(logits - d)) / (2 * step) for d in step * np.eye(len(logits))])


def estimates(game, agent, logits, labels, label_of, weights, mode, groups, horizon=None) -> np.ndarray:
    """The update of one large batch: advantage * grad log pi summed over decisions, per rollout."""
    episodes = play_matches(game, agent(logits), training_matches(game, mode, ROLLOUTS, groups), seed=0)
    credit = assign_credit(game.spec, episodes, weights, mode, horizon)
    second = 1 / (1 + np.exp(-logits))
    number = {label: i for i, label in enumerate(labels)}
    total = np.zeros(len(labels))
    decisions = [d for e in episodes for d in e.decisions]
    for decision, advantage in zip(decisions, credit.advantage * credit.scale, strict=True):
        i = number[label_of(decision.information)]
        chip = decision.action in ("BET", "CALL", "DEFECT")
        total[i] += advantage * (chip - second[i])
    return total / (ROLLOUTS * groups)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.fixture
def kuhn_case():
    game, labels = get_game("kuhn"), list(KUHN)
    agent, logits = softmax_agent(game, labels, "key"), np.array(list(KUHN.values()))
    return game, agent, logits, labels, lambda information: information


@pytest.fixture
def ipd_case(monkeypatch):
    """Four rounds, so that the enumeration takes milliseconds."""
    game, labels = toys.shorten(monkeypatch, ipd, rounds=4), list(IPD)
    agent, logits = softmax_agent(game, labels, "memory_one"), np.array(list(IPD.values()))
    return game, agent, logits, labels, lambda information: information.split(" ")[-1]


@pytest.mark.parametrize("weights", [Weights(1.5, 0, 0), Weights(8, 0, 0)], ids=["paper", "heavy"])
def test_credited_is_the_gradient_of_j_in_kuhn_poker(kuhn_case, weights):
    game, agent, logits, labels, label_of = kuhn_case
    truth = exact_gradient(game, agent, logits, weights)
    found = estimates(game, agent, logits, labels, label_of, weights, "credited", groups=120)
    assert cosine(found, truth) > 0.98
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(truth), rel=0.1)


@pytest.mark.parametrize(
    "weights", [Weights(2.4, 1.0, 1.8), Weights(0, 0, 0), Weights(0, 0, 20)], ids=["paper", "payoff", "harm"]
)
def test_credited_is_the_gradient_of_j_in_the_prisoners_dilemma(ipd_case, weights):
    game, agent, logits, labels, label_of = ipd_case
    truth = exact_gradient(game, agent, logits, weights)
    found = estimates(game, agent, logits, labels, label_of, weights, "credited", groups=120)
    assert cosine(found, truth) > 0.98
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(truth), rel=0.1)


def test_every_penalty_has_its_own_gradient(ipd_case):
    """What one more unit of each weight adds, on the same episodes, against the derivative of that term."""
    game, agent, logits, labels, label_of = ipd_case

    def found(weights):
        return estimates(game, agent, logits, labels, label_of, weights, "credited", groups=120)

    zero = Weights(0, 0, 0)
    for weights in (Weights(1, 0, 0), Weights(0, 1, 0), Weights(0, 0, 1)):
        truth = exact_gradient(game, agent, logits, weights) - exact_gradient(game, agent, logits, zero)
        difference = found(weights) - found(zero)
        assert cosine(difference, truth) > 0.98, weights
        assert np.linalg.norm(difference) == pytest.approx(np.linalg.norm(truth), rel=0.1), weights


def test_an_opponent_that_earns_less_has_no_gradient(kuhn_case):
    """Where no exploiter gains, the penalty and its gradient are 0 and the estimate says so exactly."""
    game, agent, _, labels, _ = kuhn_case
    # Never bluffs, calls with the better cards: always-bet earns less; nash is taken out of the pool.
    tight = np.array([9.0 if label[0] == "K" else 1.0 if label[0] == "Q" else -9.0 for label in labels])
    assert exact.advantages_over(game, agent(tight))["always-bet"] < -0.05
    episodes = play_matches(game, agent(tight), training_matches(game, "credited", 8, 40), seed=0)
    kept = [e for e in episodes if e.pool == "exploit" and e.opponent == "always-bet"]
    np.testing.assert_array_equal(assign_credit(game.spec, kept, Weights(1.5, 0, 0)).advantage, 0)


def test_shared_leaves_the_penalties_out_of_the_gradient(kuhn_case):
    game, agent, logits, labels, label_of = kuhn_case
    with_penalty, without = (
        estimates(game, agent, logits, labels, label_of, weights, "shared", groups=5)
        for weights in (Weights(8, 0, 0), Weights(0, 0, 0))
    )
    np.testing.assert_allclose(with_penalty, without, atol=1e-9)
    assert np.linalg.norm(without) > 0.01


def test_the_other_modes_miss_the_gradient_that_credited_finds(kuhn_case):
    """At a weight where the penalty leads, the published modes still follow other things."""
    game, agent, logits, labels, label_of = kuhn_case
    weights = Weights(8, 0, 0)
    truth = exact_gradient(game, agent, logits, weights)
    found = {
        mode: cosine(estimates(game, agent, logits, labels, label_of, weights, mode, groups=60), truth)
        for mode in MODES
    }
    assert found.pop("credited") > 0.98
    assert found.pop("alignment") > 0.98  # what it adds has no mean where no hand depends on another
    assert max(found.values()) < 0.85, found


def test_paying_for_the_round_alone_teaches_defection(ipd_case):
    """DESIGN.md, section 5: only with what follows does cooperation pay."""
    game, agent, logits, labels, label_of = ipd_case
    zero = Weights(0, 0, 0)
    told = (game, agent, logits, labels, label_of, zero, "credited", 120)
    assert (estimates(*told, horizon="round") > 0).all()
    truth = exact_gradient(game, agent, logits, zero)
    to_go = estimates(*told)
    assert (truth < -0.01).any()
    np.testing.assert_array_equal(np.sign(to_go[np.abs(truth) > 0.01]), np.sign(truth[np.abs(truth) > 0.01]))
