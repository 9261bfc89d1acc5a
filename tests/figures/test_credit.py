"""The figures of the mechanism study show the numbers of its tables."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from sepo_kit import figures
from sepo_kit.evaluation.statistics import over_seeds
from sepo_kit.study.estimators import settings_for
from sepo_kit.study.tabular import train_tabular

SEEDS = (0, 1, 2)


@pytest.fixture
def logs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    combinations = product(
        ["tabular", "pico"], ["grouped", "credited"], ["round", "return-to-go"], [True, False], SEEDS, [0, 10]
    )
    columns = ["agent", "mode", "horizon", "common_random_numbers", "seed", "step"]
    frame = pd.DataFrame(list(combinations), columns=columns).assign(game="ipd")
    return frame.assign(safety=rng.normal(size=len(frame)), exploit=rng.random(len(frame)), collusion=0.0)


def test_ends_are_means_over_seeds_at_the_last_step(logs):
    figure = figures.credit_ends(logs, "ipd")
    assert [axis.get_title() for axis in figure.axes] == ["tabular", "pico"]
    assert figure.axes[0].get_ylabel() == "Safety after 10 steps"
    shown = sorted(line.get_ydata()[0] for line in figure.axes[1].lines)
    last = logs[(logs["agent"] == "pico") & (logs["step"] == 10)]
    means = last.groupby(["mode", "horizon", "common_random_numbers"])["safety"].mean()
    np.testing.assert_allclose(shown, sorted(means))
    assert len(figure.axes[1].collections) == 8  # an interval each


def test_curves_have_a_band_where_three_seeds_allow_one(logs):
    part = logs[(logs["agent"] == "pico") & logs["common_random_numbers"] & (logs["horizon"] == "round")]
    part = part.assign(variant=part["mode"])
    figure = figures.credit_curves(part, "ipd", about="pico, training episodes")
    assert len(figure.axes) == 2, "collusion is 0 throughout and left out"
    assert figure.get_suptitle() == "Iterated prisoner's dilemma: pico, training episodes, 3 seeds"
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    expected = over_seeds(part[(part["mode"] == "grouped") & (part["step"] == 10)]["safety"].to_list())
    assert np.isclose(band, expected.low).any() and np.isclose(band, expected.high).any()
    one = figures.credit_curves(part[part["seed"] == 0], "ipd")
    assert not one.axes[0].collections


def test_a_limit_on_the_worst_case_is_drawn_with_the_weight_that_follows_it():
    settings = settings_for("kuhn", steps=2, limits={"worst_case": 0.05}, exploiters="worst-case")
    log = train_tabular("kuhn", settings).log
    figure = figures.dual_ascent(log, "kuhn", {"worst_case": 0.05})
    (weight,) = figure.axes[1].lines
    np.testing.assert_allclose(weight.get_ydata(), log["weight_exploit"])
