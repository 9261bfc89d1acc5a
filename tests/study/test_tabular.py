"""Tabular training: the credit modes do what the method page says."""

from dataclasses import replace

import numpy as np
import pytest

import sepo_kit as sk
from sepo_kit.objective.step import TrainingStep
from sepo_kit.study.tabular import Logits, TabularSettings, sampled_gradient, train_tabular

COOPERATIVE = {"start": [0.9, 0.1], "CC": [0.9, 0.1], "CD": [0.5, 0.5], "DC": [0.7, 0.3], "DD": [0.4, 0.6]}


def run(mode, steps=200):
    settings = TabularSettings(mode=mode, row="memory_one", steps=steps, log_every=steps, learning_rate=0.1)
    return train_tabular("ipd", settings, seed=0, start=COOPERATIVE).log


def test_credited_reaches_tit_for_tat_and_payoff_only_modes_do_not():
    assert run("credited")["safety"].iloc[-1] > 1.6
    assert run("shared")["safety"].iloc[-1] < 0.5
    assert run("shared")["collusion"].iloc[-1] > 0.9


def test_the_same_seed_gives_the_same_table():
    settings = TabularSettings(steps=5, rollouts=4)
    first, second = (train_tabular("kuhn", settings, seed=3) for _ in range(2))
    for label, row in first.table.items():
        np.testing.assert_array_equal(row, second.table[label])
    assert first.log.equals(second.log)


def test_shared_gradients_do_not_depend_on_the_weights():
    game = sk.get_game("ipd")
    settings = TabularSettings(mode="shared", row="memory_one")
    made = [
        sampled_gradient(
            TrainingStep(game, replace(settings, weights=weights)), Logits(game, "memory_one"), 0, 0
        )
        for weights in (sk.Weights(0, 0, 0), sk.Weights(24, 10, 18))
    ]
    for label, row in made[0].items():
        np.testing.assert_allclose(row, made[1][label], atol=1e-12)


def test_a_start_is_where_it_starts():
    game = sk.get_game("ipd")
    logits = Logits(game, "memory_one", COOPERATIVE)
    found = sk.exact.terms(game, logits.policy())
    named = sk.exact.terms(game, sk.tabular(game, COOPERATIVE, row="memory_one"))
    assert found.payoff == pytest.approx(named.payoff)


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("rollouts", 1), ("learning_rate", 0.0), ("mode", "ppo"), ("horizon", "all")],
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=r"must be"):
        TabularSettings(**{field: value})
