"""Where replies are used in many matches, the expected update is still the gradient of J; its noise is larger."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import toys

from sepo_kit import exact
from sepo_kit.engine.policy import tabular
from sepo_kit.games import ipd
from sepo_kit.games.base import Weights
from sepo_kit.objective.terms import objective

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from reuse import Case, along, kuhn, noise

IPD = {"start": -0.9, "CC": -1.2, "CD": 0.4, "DC": -0.3, "DD": 0.7}
PAYOFF = Weights(0, 0, 0)


def test_the_expected_update_is_the_gradient_of_j_in_kuhn_poker():
    case = kuhn(PAYOFF)
    share, error = along(case.estimates(250, 8), case.truth())
    assert error < 0.1 and abs(share - 1) < 3 * error


def test_the_expected_update_is_the_gradient_of_j_in_the_prisoners_dilemma(monkeypatch):
    """Three rounds, where no question is met twice in a match: prompts tell the history."""
    game = toys.shorten(monkeypatch, ipd, rounds=3)
    case = Case(game, IPD, "memory_one", PAYOFF, lambda seen: seen.key)
    share, error = along(case.estimates(150, 3), case.truth())
    assert error < 0.1 and abs(share - 1) < 3 * error


def test_it_is_the_update_without_reuse_and_credit_must_be_told():
    """With a penalty, whose sign is read off the batch and so is noisy with and without. Other users of a reply in
    its baseline would take away 1 / R of the update."""
    case = kuhn(Weights(1.5, 0, 0))
    truth, plain = case.truth(), case.estimates(200, 0)
    expected, error = along(plain, truth)
    found = {replies: case.estimates(200, replies) for replies in (2, 8)}
    for estimates in found.values():
        share, own_error = along(estimates, truth)
        assert abs(share - expected) < 3 * np.hypot(error, own_error)
    share, own_error = along(case.estimates(200, 2, forgetful=True), truth)
    assert share < expected - 5 * np.hypot(error, own_error)
    # What it costs: at as many matches, of eight replies a question a little, of two about twice the noise.
    assert noise(plain) < noise(found[8]) < 1.4 * noise(plain) < noise(found[2])


def test_where_a_match_meets_a_question_twice_its_first_use_is_paid(monkeypatch):
    """A question that tells nothing: in two rounds one of two replies is picked twice, half of the time the same. What
    is trained is the value of just that."""
    game = toys.shorten(monkeypatch, ipd, rounds=2)
    case = Case(game, {"CC": -0.4}, "memory_one", PAYOFF, lambda seen: "what now?")
    case.labels = ["start", "CC", "CD", "DC", "DD"]
    p = 1 / (1 + np.exp(0.4))

    def value(first: int, second: int) -> float:
        chances = {"start": (1 - first, first), **dict.fromkeys(case.labels[1:], (1 - second, second))}
        return objective(game.spec, exact.terms(game, tabular(game, chances, row="memory_one")), PAYOFF)

    values = np.array([[value(first, second) for second in (0, 1)] for first in (0, 1)])
    # J = 1/2 sum_ab p_a p_b V(a, b) + 1/2 sum_a p_a V(a, a), by its logit
    slope = np.array([-1, 1]) * p * (1 - p)
    chances = np.array([1 - p, p])
    apart = slope @ values @ chances + chances @ values @ slope
    truth = (apart + slope @ values.diagonal()) / 2
    case.logits = np.full(5, -0.4)
    found = case.estimates(600, 2).sum(axis=1)
    error = found.std() / np.sqrt(len(found))
    assert error < abs(truth) / 12 and abs(found.mean() - truth) < 3 * error  # paid twice: a third less
