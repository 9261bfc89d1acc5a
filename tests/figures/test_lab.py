"""The penalty lab's figures: they show what the arithmetic says, with names as they are written."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sepo_kit as sk
from sepo_kit.evaluation.contenders import scripted
from sepo_kit.evaluation.reweigh import TERMS, Contender, front, leaders, ranking
from sepo_kit.figures import lab

SPEC = sk.get_game("ipd").spec
WEIGHTS = SPEC.weights


def named(name, *terms):
    return Contender(name, "sepo", np.array(terms, dtype=float), np.zeros((0, 4)))


def texts(figure):
    return [t.get_text() for axis in figure.axes for t in axis.texts if t.get_text()]


def test_the_ranking_has_a_bar_for_each_agent_and_the_best_on_top():
    figure = lab.safety_ranking(SPEC, scripted("ipd"), WEIGHTS)
    ranked = ranking(SPEC, scripted("ipd"), WEIGHTS)
    bars = figure.axes[0].patches
    np.testing.assert_allclose([bar.get_width() for bar in bars], ranked["safety"])
    assert texts(figure)[0] == "1  grim-trigger"
    assert figure.axes[0].get_xlabel() == "Safety (scaled payoff)"


def test_a_diamond_stands_where_safety_is_guaranteed():
    figure = lab.safety_ranking(SPEC, scripted("ipd"), WEIGHTS)
    ranked = ranking(SPEC, scripted("ipd"), WEIGHTS)
    (diamonds,) = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    shown = dict(zip(diamonds.get_ydata(), diamonds.get_xdata(), strict=True))
    low = figure.axes[0].get_xlim()[0]
    assert shown == {y: g for y, g in enumerate(ranked["guaranteed"]) if g >= low}
    assert ranked.loc[1, "agent"] == "tit-for-tat" and shown[1] == pytest.approx(ranked.loc[1, "guaranteed"])


def test_a_bar_that_leaves_the_picture_says_where_it_ends():
    figure = lab.safety_ranking(SPEC, scripted("ipd"), sk.Weights(10, 1, 1.8))
    assert "◂ -35.0" in texts(figure)  # always-cooperate: 2.625 - 10 * 3.75 - 1.8 / 18


def test_the_front_joins_those_that_none_beats_and_rings_the_safest():
    figure = lab.payoff_and_penalty(SPEC, scripted("ipd"), WEIGHTS)
    ranked = ranking(SPEC, scripted("ipd"), WEIGHTS)
    joined, equal, ring = figure.axes[0].lines
    np.testing.assert_allclose(joined.get_xdata(), front(ranked)["penalty"])
    assert ring.get_xydata()[0] == pytest.approx(ranked.loc[0, ["penalty", "gain"]].astype(float))
    x, y = equal.get_data()
    assert y - x == pytest.approx(np.full(2, ranked["safety"][0]))


@pytest.mark.parametrize("log", [False, True])
def test_the_upper_rim_is_the_leader_and_has_a_dot_where_that_changes(log):
    figure = lab.safety_over_weights(SPEC, scripted("ipd"), WEIGHTS, log)
    ahead = leaders(SPEC, scripted("ipd"), WEIGHTS).query("weight == 'exploit'")
    rim, dots, chosen = figure.axes[0].lines
    inside = ahead["low"][(ahead["low"] > rim.get_xdata()[0]) & (ahead["low"] < rim.get_xdata()[-1])]
    np.testing.assert_allclose(dots.get_xdata(), inside)
    assert chosen.get_xdata()[0] == WEIGHTS.exploit
    for x, y in zip(*rim.get_data(), strict=True):
        best = ranking(SPEC, scripted("ipd"), sk.Weights(x, WEIGHTS.collusion, WEIGHTS.externality))[
            "safety"
        ][0]
        assert y == pytest.approx(best)
    assert "suspicious" in " ".join(texts(figure))


def test_a_repaint_leaves_nothing_of_the_one_before():
    picture = lab.FrontPicture(SPEC, scripted("ipd"))
    first = picture.show(ranking(SPEC, scripted("ipd"), WEIGHTS)).png()
    other = picture.show(ranking(SPEC, scripted("ipd"), sk.Weights(0, 5, 0))).png()
    again = picture.show(ranking(SPEC, scripted("ipd"), WEIGHTS)).png()
    assert first == again != other


@pytest.mark.parametrize("name", ["$\\frac{1}{", "a\nb", "x" * 500, "<b>"])
def test_names_are_drawn_as_they_are_written(name):
    contenders = [named(name, 2, 0.5, 0, 0), named("other", 1, 0, 0, 0)]
    for draw in (lab.safety_ranking, lab.payoff_and_penalty, lab.safety_over_weights):
        figure = draw(SPEC, contenders, WEIGHTS)
        figure.canvas.draw()
        assert all("\n" not in text and len(text) < 40 for text in texts(figure))


def test_nobody_is_an_empty_picture():
    for draw in (lab.safety_ranking, lab.payoff_and_penalty, lab.safety_over_weights):
        draw(SPEC, [], WEIGHTS).canvas.draw()


def test_what_weights_buy_is_drawn_on_one_scale():
    auction = sk.get_game("negotiation_v1").spec
    rows = [
        {"weight": weight, "value": value, **dict.fromkeys(TERMS, 1.0), "worst_case": None}
        for weight in ("exploit", "collusion", "externality")
        for value in (0.0, 1.0)
    ]
    figure = lab.terms_over_weights(auction, pd.DataFrame(rows))
    heights = [line.get_ydata()[0] for line in figure.axes[0].lines[:4]]
    assert heights == pytest.approx([0.6, 0.6, 1.0, 1.0])
