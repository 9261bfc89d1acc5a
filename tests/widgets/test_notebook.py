"""How notebooks begin, and their tables: aligned, escaped, without a minus before a zero."""

import numpy as np
import pandas as pd
import pytest

from sepo_kit.cli import main
from sepo_kit.pipeline import reproduce as reproduction
from sepo_kit.widgets.notebook import begin, readable


def test_words_stand_left_and_numbers_right_with_their_heads():
    frame = pd.DataFrame({"agent": ["nash", "uniform"], "payoff": [0.5, -0.25], "n": [3, 20]})
    html = readable(frame, 2).to_html()
    sides = {n: "right" if f".col{n} {{\n  text-align: right" in html else "left" for n in range(3)}
    assert sides == {0: "left", 1: "right", 2: "right"}
    assert "-0.25" in html and ">20<" in html and 'class="row_heading' not in html  # the index only counts


def test_nothing_is_a_raw_nan_or_a_negative_zero():
    frame = pd.DataFrame(
        {"a": [-1e-9, np.nan], "b": [None, np.inf]}, index=pd.Index(["<i>", "y"], name="who")
    )
    html = readable(frame).to_html()
    for text in ("-0.000", "nan", "None", "inf<", "<i>"):
        assert text not in html
    assert "∞" in html and "&lt;i&gt;" in html and 'class="row_heading' in html


def test_a_frame_on_its_side_keeps_its_kinds():
    frame = pd.DataFrame({"x": {"rounds": 8, "title": "dilemma"}, "y": {"rounds": 6, "title": "poker"}}).T
    html = readable(frame).to_html()
    assert ".col0 {\n  text-align: right" in html and ".col1 {\n  text-align: left" in html


def test_settings_are_told_with_the_digits_they_need():
    html = readable(
        pd.Series({"learning_rate": 3e-4, "steps": 20, "limits": {}, "weights": None}, dtype=object), None
    ).to_html()
    assert ">0.0003<" in html and ">20<" in html
    assert "{}" not in html.split("<tbody>")[1] and "None" not in html


@pytest.mark.parametrize(
    "asked, profile",
    [
        (["--profile", "quick", "--seeds", "5"], "quick,seeds=5"),
        (["--profile", "quick,seeds=5"], "quick,seeds=5"),
        (["--profile", "quick,exploiters=pool and worst-case"], "quick,exploiters=pool and worst-case"),
    ],
)
def test_notebooks_look_for_runs_where_reproduce_puts_them(asked, profile, monkeypatch):
    roots = []
    monkeypatch.setattr(reproduction, "reproduce", lambda parts, root, *given, **how: roots.append(root))
    assert main(["reproduce", *asked, "--dry-run"]) == 0
    assert roots == [begin(profile)[1].resolve()]
