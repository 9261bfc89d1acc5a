"""Dual ascent: weights follow limits."""

from dataclasses import replace

import pytest

import sepo_kit as sk
from sepo_kit.objective.limits import DualAscent
from sepo_kit.objective.terms import Terms
from sepo_kit.study.tabular import TabularSettings, train_tabular


def terms(exploit=0.0, collusion=0.0):
    return Terms(2.0, exploit, collusion, 0.0, 0.0, None)


def test_a_weight_rises_above_its_limit_falls_below_it_and_never_under_zero():
    dual = DualAscent({"exploit": 0.1}, sk.Weights(1, 1, 1), rate=2.0)
    assert dual.update(terms(exploit=0.6)).exploit == pytest.approx(2.0)
    assert dual.update(terms(exploit=0.0)).exploit == pytest.approx(1.8)
    for _ in range(20):
        dual.update(terms(exploit=0.0))
    assert dual.weights == sk.Weights(0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("limits", "rate", "message"),
    [
        (
            {"exploits": 0.1},
            1.0,
            "limits must be on exploit, collusion, externality, worst_case, got 'exploits'",
        ),
        ({"exploit": -0.1}, 1.0, "must be >= 0"),
        ({"exploit": float("nan")}, 1.0, "finite number"),
        ({"exploit": 0.1}, 0.0, "dual rate must be > 0"),
    ],
)
def test_bad_limits_are_named(limits, rate, message):
    with pytest.raises(ValueError, match=message):
        DualAscent(limits, sk.Weights(1, 1, 1), rate)


def test_a_constrained_run_meets_its_limit_where_fixed_weights_do_not():
    """Paid for its own round only, a policy learns to defect against everyone; a limit on taking from a trusting
    partner holds it back."""
    settings = TabularSettings(
        weights=sk.Weights(0, 0, 0),
        row="memory_one",
        horizon="round",
        steps=200,
        log_every=50,
        learning_rate=0.1,
    )
    free = train_tabular("ipd", settings, seed=0).log["collusion"]
    held = train_tabular("ipd", replace(settings, limits={"collusion": 0.1}), seed=0).log["collusion"]
    assert free.iloc[-1] > 0.9
    assert held.iloc[1:].mean() < 0.2
