"""Intervals: coverage of the bootstrap, and means over seeds."""

import numpy as np
import pytest

from sepo_kit.evaluation.statistics import bootstrap, exact, over_seeds


def test_the_bootstrap_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    groups = np.zeros(40, dtype=int)
    covered = 0
    for trial in range(100):
        data = rng.normal(size=40)
        low, high = bootstrap(groups, lambda c, data=data: [c @ data / c.sum()], seed=trial, resamples=200)
        covered += low[0] <= 0.0 <= high[0]
    assert 85 <= covered <= 100


def test_every_opponent_keeps_its_number_of_episodes_in_every_resample():
    groups = np.array([0, 0, 0, 1, 1])
    seen = []
    bootstrap(groups, lambda c: seen.append((c[:3].sum(), c[3:].sum())) or [0.0], resamples=20)
    assert set(seen) == {(3.0, 2.0)}


def test_the_bootstrap_is_the_same_for_the_same_seed():
    groups, data = np.zeros(10, dtype=int), np.arange(10.0)
    first, second = (bootstrap(groups, lambda c: [c @ data], seed=3, resamples=50) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_seeds_are_averaged_with_a_t_interval():
    estimate = over_seeds([1.0, 2.0, 3.0])
    half = 4.302652729911275 / np.sqrt(3)  # t quantile at 0.975, 2 degrees of freedom; std 1
    assert (estimate.value, estimate.n) == (2.0, 3)
    assert estimate.low == pytest.approx(2 - half)
    assert estimate.high == pytest.approx(2 + half)


def test_one_seed_has_no_interval_and_none_is_an_error():
    assert over_seeds([1.5]).low is None
    with pytest.raises(ValueError, match="no values"):
        over_seeds([])


def test_an_exact_number_is_its_own_interval():
    assert (exact(0.5).low, exact(0.5).high, exact(0.5).n) == (0.5, 0.5, 0)
