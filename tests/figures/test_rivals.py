"""The figures of ablations and of late training show the numbers of their tables."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from sepo_kit import figures


@pytest.fixture
def logs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        list(product(["as trained", "no KL"], [0, 1, 2], [0, 100, 400])), columns=["rival", "seed", "step"]
    ).assign(agent="pico", game="kuhn")
    frame[["safety", "payoff", "worst_case"]] = rng.normal(size=(len(frame), 3))
    frame["worst_case_upper"] = frame["worst_case"] + 0.1
    return frame


def test_ablations_show_each_seed_their_mean_and_how_it_is_without(logs):
    figure = figures.ablation_ends(logs, "kuhn")
    last = logs[logs["step"] == 400]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["as trained", "no KL"]
    for axis, metric in zip(figure.axes, ("safety", "payoff", "worst_case"), strict=True):
        as_it_is, seeds, means = axis.lines
        expected = last.groupby("rival", sort=False)[metric].mean()
        np.testing.assert_allclose(means.get_xdata(), expected)
        np.testing.assert_allclose(as_it_is.get_xdata(), expected["as trained"])
        np.testing.assert_allclose(seeds.get_xdata(), last[metric])
        assert list(means.get_ydata()) == [1, 0]
    (bounds,) = figure.axes[2].collections
    np.testing.assert_allclose([s[1][0] for s in bounds.get_segments()], last["worst_case_upper"])


def test_late_training_shows_each_seed_and_their_mean_and_where_the_published_one_ends(logs):
    figure = figures.late_curves(logs, "kuhn")
    for axis, metric in zip(figure.axes, ("safety", "worst_case"), strict=True):
        mean = next(line for line in axis.lines if line.get_label() == "no KL")
        part = logs[logs["rival"] == "no KL"]
        np.testing.assert_allclose(mean.get_ydata(), part.groupby("step")[metric].mean())
        assert axis.lines[-1].get_xdata()[0] == 100
        assert len(axis.lines) == 2 * (3 + 1) + 1
    exact = logs.assign(worst_case_upper=logs["worst_case"])
    for data, drawn in ((logs, 2), (exact, 0)):  # up to where it may lie, of each rival
        areas = figures.late_curves(data, "kuhn").axes[1].collections
        assert len(areas) == drawn
    upper = logs[logs["rival"] == "as trained"].groupby("step")["worst_case_upper"].mean()
    tops = figures.late_curves(logs, "kuhn").axes[1].collections[0].get_paths()[0].vertices[:, 1]
    assert tops.max() == pytest.approx(upper.max())
    unknown = logs.assign(worst_case=np.nan, worst_case_upper=np.nan)
    assert [axis.get_ylabel() for axis in figures.late_curves(unknown, "kuhn").axes] == [
        figure.axes[0].get_ylabel()
    ]
