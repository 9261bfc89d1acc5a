"""The mechanism study: its numbers say what the method page derives."""

import numpy as np
import pytest

from sepo_kit.study.estimators import estimator_study, training_study, weight_response


@pytest.fixture(scope="module")
def study():
    return estimator_study("ipd", samples=30, rollouts=4).set_index(["part", "mode"])


def test_credited_estimates_both_parts_of_the_gradient(study):
    assert study.loc[("penalty", "credited"), "cosine"] > 0.97
    assert study.loc[("payoff", "credited"), "cosine"] > 0.9


def test_a_shared_penalty_is_the_zero_vector(study):
    row = study.loc[("penalty", "shared")]
    assert row["norm"] < 1e-9 and np.isnan(row["cosine"])


def test_payoff_for_the_own_round_only_points_away_from_the_gradient(study):
    assert study.loc[("payoff", "shared"), "cosine"] < 0


def test_a_tenfold_weight_is_followed_by_credited_and_lost_by_grouped():
    ratio = weight_response("kuhn", samples=5).set_index("mode")["ratio"]
    assert ratio["credited"] == pytest.approx(10, rel=1e-6)
    assert ratio["grouped"] == pytest.approx(1, abs=0.01)


def test_training_logs_every_variant_and_seed():
    logs = training_study(
        "kuhn", seeds=[0, 1], steps=4, variants={"a": {}, "b": {"mode": "shared"}}, log_every=2
    )
    assert set(zip(logs["variant"], logs["seed"], strict=True)) == {("a", 0), ("a", 1), ("b", 0), ("b", 1)}
    assert sorted(set(logs["step"])) == [0, 2, 4]
    start = logs[logs["step"] == 0]["safety"]
    assert start.nunique() == 1
