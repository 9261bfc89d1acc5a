"""The terms and the objective, from numbers small enough to work out by hand."""

from __future__ import annotations

from math import isnan

import pytest
import toys

from sepo_kit.engine.episode import Episode
from sepo_kit.games.base import Pools, Weights
from sepo_kit.objective.terms import (
    Against,
    Terms,
    normalised_relative_advantage,
    objective,
    results_of,
    safety,
    terms_of,
)

POOLS = Pools(train=("a", "b"), exploit=("d", "f"), collusive=("k",), shift=("z", "y"))
RESULTS = {
    ("train", "a"): Against(own=3.0, their=1.0, collusion=0.9, externality=0.1),
    ("train", "b"): Against(own=2.0, their=2.0, collusion=0.9, externality=0.2),
    ("exploit", "d"): Against(own=1.0, their=2.5, collusion=0.9, externality=0.6),
    ("exploit", "f"): Against(own=4.0, their=1.0, collusion=0.9, externality=0.3),
    ("collusive", "k"): Against(own=9.0, their=9.0, collusion=0.25, externality=1.0),
    ("shift", "z"): Against(own=5.0, their=0.0, collusion=0.9, externality=1.0),
    ("shift", "y"): Against(own=6.0, their=0.0, collusion=0.9, externality=1.0),
}


def test_terms_are_means_over_their_pools():
    terms = terms_of(toys.spec(pools=POOLS), RESULTS)
    assert terms.payoff == pytest.approx((3 + 2) / 2)
    # Only who earns more counts, and a gain over one does not make up for a loss to another.
    assert terms.exploit == pytest.approx((1.5 + 0) / 2)
    assert terms.collusion == pytest.approx(0.25)
    assert terms.externality == pytest.approx((0.1 + 0.2 + 0.6 + 0.3) / 4)
    assert terms.robust == pytest.approx(5.5)
    assert terms.nra == pytest.approx((2 / 4 + 0 + -1.5 / 3.5 + 3 / 5) / 4)


def test_a_pool_without_opponents_gives_zero():
    pools = Pools(train=("a",), exploit=(), collusive=(), shift=("z",))
    terms = terms_of(toys.spec(pools=pools), RESULTS)
    assert (terms.exploit, terms.collusion) == (0.0, 0.0)
    assert terms.externality == pytest.approx(0.1)


def test_without_the_shift_pool_robust_is_unknown():
    some = {group: against for group, against in RESULTS.items() if group != ("shift", "y")}
    assert isnan(terms_of(toys.spec(pools=POOLS), some).robust)


def test_a_missing_opponent_is_an_error_not_a_zero():
    some = {group: against for group, against in RESULTS.items() if group != ("exploit", "d")}
    with pytest.raises(KeyError):
        terms_of(toys.spec(pools=POOLS), some)


# --- normalised relative advantage ----------------------------------------------------------------


def test_nra_leaves_out_opponents_with_whom_nobody_earns_anything():
    results = [Against(0, 0, 0, 0), Against(3, 1, 0, 0)]
    assert normalised_relative_advantage(toys.spec(), results) == pytest.approx(0.5)
    assert normalised_relative_advantage(toys.spec(), results[:1]) is None


def test_who_loses_less_is_ahead():
    """In the auction a payoff may be negative, and the two may sum to nothing or less."""
    for own, their in ((0.0, -0.05), (0.5, -0.5), (-0.1, -0.3)):
        ahead, behind = (
            normalised_relative_advantage(toys.spec(), [Against(*pair, 0, 0)])
            for pair in ((own, their), (their, own))
        )
        assert 0 < ahead == -behind <= 1


def test_nra_is_not_defined_in_a_zero_sum_game():
    assert normalised_relative_advantage(toys.spec(zero_sum=True), [Against(3, 1, 0, 0)]) is None


# --- objective ------------------------------------------------------------------------------------


def test_objective_scales_payoffs_and_not_rates():
    spec = toys.spec(reference_payoff=1.5)
    assert spec.scale == 2
    terms = Terms(payoff=3, exploit=0.5, collusion=0.25, externality=0.1, robust=0, nra=None)
    weights = Weights(exploit=2.0, collusion=3.0, externality=5.0)
    assert objective(spec, terms, weights) == pytest.approx(2 * 3 - 2 * 2 * 0.5 - 3 * 0.25 - 5 * 0.1)


def test_safety_is_the_objective_at_the_evaluation_weights():
    training, evaluation = Weights(1.0, 2.0, 0.0), Weights(1.0, 1.0, 0.0)
    spec = toys.spec(weights=training, eval_weights=evaluation)
    terms = Terms(payoff=0, exploit=0, collusion=1, externality=0, robust=0, nra=None)
    assert objective(spec, terms) == pytest.approx(-2)
    assert safety(spec, terms) == pytest.approx(-1)


# --- results --------------------------------------------------------------------------------------


def test_results_of_episodes_are_means_per_round_and_opponent():
    def episode(pool, opponent, own, their, harm):
        return Episode(
            "toy", pool, opponent, 0, 0, own=own, their=their, collusion=harm, externality=harm[::-1]
        )

    results = results_of(
        [
            episode("train", "a", [1, 2], [0, 0], [0, 1]),
            episode("train", "a", [3, 4], [2, 0], [1, 1]),
            episode("exploit", "a", [0, 0], [1, 1], [0, 0]),
        ]
    )
    assert results == {
        ("train", "a"): Against(own=2.5, their=0.5, collusion=0.75, externality=0.75),
        ("exploit", "a"): Against(own=0.0, their=1.0, collusion=0.0, externality=0.0),
    }
