"""Differences between the rivals of a study are those of their ends, seed by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sepo_kit.evaluation.rivals import changes


def logs_of(**ends: list[float]) -> pd.DataFrame:
    rows = [
        {"agent": "pico", "game": "kuhn", "rival": rival, "seed": seed, "step": step, "safety": value * (step > 0),
         "worst_case": 1.0}
        for rival, values in ends.items()
        for seed, value in enumerate(values)
        for step in (0, 10)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_they_are_paired_by_seed_with_students_interval():
    trained, other = [0.1, 0.9, 0.5], [0.2, 1.1, 0.6]
    found = changes(logs_of(trained=trained, other=other, same=trained), "trained", ["safety"]).set_index(
        "rival"
    )
    each = np.subtract(other, trained)
    test = stats.ttest_1samp(each, 0.0)
    low, high = test.confidence_interval(0.95)
    assert found.loc["other", ["value", "low", "high", "seeds"]].to_list() == pytest.approx(
        [each.mean(), low, high, 3]
    )
    assert found.loc["other", "p"] == pytest.approx(test.pvalue)
    assert found.loc["other", "p_holm"] == pytest.approx(test.pvalue)  # the only one that varies
    assert found.loc["same", "value"] == 0 and np.isnan(found.loc["same", "p"])


def test_rounding_is_no_difference_and_what_is_not_defined_has_no_row():
    trained = [0.1, 0.2, 0.3]
    logs = logs_of(trained=trained, other=[value + 0.1 for value in trained], broken=[0.1, float("nan"), 0.2])
    found = changes(logs, "trained", ["safety"])
    assert list(found["rival"]) == ["other"] and np.isnan(found["p"]).all()


def test_who_is_not_there_or_alone_is_named():
    with pytest.raises(ValueError, match="no rival is called 'fate'; there are: trained, other"):
        changes(logs_of(trained=[0.1, 0.2], other=[0.1, 0.2]), "fate", ["safety"])
    with pytest.raises(ValueError, match="'other' and 'trained' of pico on kuhn must share two seeds, got 1"):
        changes(logs_of(trained=[0.1, 0.2], other=[0.1]), "trained", ["safety"])


def test_what_cannot_be_compared_keeps_nobody_else_from_being_compared():
    both = logs_of(trained=[0.1, 0.2], other=[0.1, 0.3], new=[0.1])
    without = logs_of(other=[0.1, 0.2]).assign(game="ipd")
    found = changes(pd.concat([both, without]), "trained", ["safety"])
    assert found[["game", "rival"]].to_numpy().tolist() == [["kuhn", "other"]]
