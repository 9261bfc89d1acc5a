"""Intervals: how often they hold the exact value, over episodes, over seeds, and over both."""

import numpy as np
import pytest
from scipy import stats

import sepo_kit as sk
from sepo_kit.engine.simulate import simulate
from sepo_kit.evaluation.statistics import (
    bootstrap,
    controlled,
    exact,
    over_seeds,
    percentiles,
    reach,
    resampled,
)

REPETITIONS = 200
EPISODES = 20
ENOUGH = int(
    stats.binom.ppf(0.0005, REPETITIONS, 0.95)
)  # 179: an interval that holds 95 % holds fewer once in 2,000


@pytest.mark.parametrize(("strategy", "episodes"), [("nash", 8), ("nash", 20), ("tight-passive", 100)])
def test_intervals_over_episodes_hold_the_exact_terms_of_kuhn_poker(strategy, episodes):
    """Exploit as well, which counts leads where they are above 0: those on nash are 0 exactly."""
    game = sk.get_game("kuhn")
    agent = sk.scripted(game, strategy)
    terms = sk.exact.terms(game, agent)
    weighed = [(pool, name) for pool, name in game.opponents if pool in ("train", "exploit")]
    train = [pool == "train" for pool, _ in weighed]
    played = [simulate(game, agent, name, REPETITIONS * episodes, 3, pool) for pool, name in weighed]
    own, their = (
        np.stack([getattr(p, seat).mean(axis=1).reshape(REPETITIONS, episodes) for p in played], axis=1)
        for seat in ("own", "their")
    )  # (repetitions, opponents, episodes)

    def statistic(counts):  # of all repetitions at once, in the same resamples
        counts = counts.reshape(len(weighed), episodes)
        weights = counts / counts.sum(axis=1, keepdims=True)
        payoffs, theirs = (np.einsum("rge,ge->rg", values, weights) for values in (own, their))
        leads = np.maximum(theirs - payoffs, 0)
        return np.concatenate([payoffs[:, train].mean(axis=1), leads[:, np.logical_not(train)].mean(axis=1)])

    low, high = bootstrap(np.repeat(np.arange(len(weighed)), episodes), statistic, seed=1)
    truth = np.repeat([terms.payoff, terms.exploit], REPETITIONS)
    held = ((low - 1e-9 <= truth) & (truth <= high + 1e-9)).reshape(2, REPETITIONS).sum(axis=1)
    assert (held >= ENOUGH).all() and held.min() < REPETITIONS


@pytest.mark.parametrize("common", [0.0, 0.5, 0.95])
@pytest.mark.parametrize(("seeds", "between"), [(2, 1.0), (3, 0.0), (3, 0.2), (5, 0.2)])
def test_intervals_over_seeds_and_episodes_hold_the_mean(seeds, between, common):
    """Whether seeds differ or not, and whatever the deals that they are all evaluated on have in common: the mean of
    what a seed learned is 0, and so is that of what a deal brings."""
    rng = np.random.default_rng(5)
    learned = rng.normal(scale=between, size=(REPETITIONS, seeds, 1))
    deals = rng.normal(scale=np.sqrt(common), size=(REPETITIONS, 1, EPISODES))
    data = learned + deals + rng.normal(scale=np.sqrt(1 - common), size=(REPETITIONS, seeds, EPISODES))
    drawn = resampled(np.zeros(EPISODES), lambda counts: (data @ counts / counts.sum()).ravel())
    ends = np.reshape(percentiles(drawn, EPISODES), (2, REPETITIONS, seeds))
    means = data.mean(axis=2)
    both = [over_seeds(m, reach(m, low, high)) for m, low, high in zip(means, *ends, strict=True)]
    assert sum(found.low <= 0 <= found.high for found in both) >= ENOUGH
    if (
        between == 0 and common == 0.95
    ):  # why episodes are taken in: the spread of seeds does not show their deals
        assert sum(found.low <= 0 <= found.high for found in map(over_seeds, means)) < 120


def test_a_control_variate_leaves_the_mean_and_takes_the_spread_that_it_explains():
    rng = np.random.default_rng(0)
    luck = rng.random((REPETITIONS, EPISODES))
    values = 2 * luck + rng.normal(scale=0.2, size=luck.shape)  # expected: 1
    left = np.array([controlled(v[:, None], c, 0.5)[:, 0] for v, c in zip(values, luck, strict=True)])
    assert left.mean() == pytest.approx(1, abs=0.01)
    assert left.mean(axis=1).std() == pytest.approx(0.2 / np.sqrt(EPISODES), rel=0.15)
    assert values.mean(axis=1).std() > 2.5 * left.mean(axis=1).std()
    low, high = bootstrap(np.zeros(EPISODES), lambda counts: left @ counts / counts.sum())
    assert ((low <= 1) & (high >= 1)).sum() >= ENOUGH  # the slope was estimated from the same episodes


def test_of_every_opponent_one_episode_fewer_is_drawn():
    """So the variance among resamples is that of the mean, s ** 2 / n, not (n - 1) / n of it."""
    groups = np.array([0, 0, 0, 1, 1])
    counted = resampled(groups, lambda c: (c[:3].sum(), c[3:].sum()), resamples=20)
    assert {tuple(row) for row in counted.tolist()} == {(2.0, 1.0)}
    data = np.array([0.0, 1.0, 5.0, 6.0])
    drawn = resampled(np.zeros(4), lambda c: [c @ data / c.sum()], resamples=20_000)
    assert drawn.var() == pytest.approx(data.var(ddof=1) / 4, rel=0.03)


def test_few_episodes_have_wider_percentiles_and_one_has_none():
    drawn = np.linspace(0.0, 1.0, 1001)[:, None]
    many, few = percentiles(drawn, 10_000), percentiles(drawn, 8)
    assert (many[0][0], many[1][0]) == pytest.approx((0.025, 0.975), abs=2e-4)
    assert (few[0][0], few[1][0]) == pytest.approx((0.009, 0.991), abs=1e-3)
    assert np.isnan(bootstrap([0, 0, 1], lambda c: [c.sum()])).all()


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


def test_the_interval_over_episodes_is_added_in_squares_on_each_side():
    alone, both = over_seeds([1.0, 2.0, 3.0]), over_seeds([1.0, 2.0, 3.0], (3.0, 4.0))
    assert 2 - both.low == pytest.approx(np.hypot(2 - alone.low, 3))
    assert both.high - 2 == pytest.approx(np.hypot(alone.high - 2, 4))
    assert over_seeds([1.0], (0.5, 0.25)).low == 0.5


def test_a_side_that_is_not_known_reaches_as_far_as_the_other():
    nan = float("nan")
    assert reach([1.0, 2.0], [nan, 1.0], [1.5, 3.0]) == (0.75, 0.75)
    assert reach([1.0], [nan], [nan]) == (0.0, 0.0)


def test_one_seed_has_no_interval_and_none_is_an_error():
    assert over_seeds([1.5]).low is None
    with pytest.raises(ValueError, match="no values"):
        over_seeds([])


def test_an_exact_number_is_its_own_interval():
    assert (exact(0.5).low, exact(0.5).high, exact(0.5).n) == (0.5, 0.5, 0)
