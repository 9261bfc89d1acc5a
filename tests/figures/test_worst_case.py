"""The figures of notebook 10: they show what the tables say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sepo_kit as sk
from sepo_kit import figures
from sepo_kit.evaluation import worst_cases
from sepo_kit.evaluation.self_play import markets


def points(*bounds):
    """The prisoner's dilemma's strategies and one trained agent per (low, high)."""
    base = worst_cases.landscape([], "ipd")
    more = [
        {"agent": "pico SEPO", "kind": "sepo", "seed": float(seed), "payoff": 2.7, "exploit": 0.1, "worst_case": low,
         "worst_case_low": low, "worst_case_high": high}
        for seed, (low, high) in enumerate(bounds)
    ]  # fmt: skip
    return pd.concat([base, pd.DataFrame(more)], ignore_index=True)


def test_every_agent_stands_at_its_payoff_and_worst_case():
    shown = points((0.65, 0.65))
    axis = figures.payoff_and_worst_case(shown, "ipd").axes[0]
    scripted, sepo = axis.lines
    np.testing.assert_allclose(scripted.get_xdata(), shown["worst_case"][:-1])
    assert sepo.get_xydata().tolist() == [[0.65, 2.7]]
    assert axis.get_xlabel() == "worst case per round (points)" and axis.get_xlim()[0] < 0
    assert "tit-for-tat" in [text.get_text() for text in axis.texts]


def test_bounds_are_a_line_and_an_arrow_where_there_is_none_from_above():
    axis = figures.payoff_and_worst_case(points((0.6, 1.5), (0.7, np.nan)), "ipd").axes[0]
    assert [0.6, 1.5] in [list(line.get_xdata()) for line in axis.lines]
    arrows = [text for text in axis.texts if text.get_text() == "" and text.xy == (0.7, 2.7)]
    assert len(arrows) == 1


def test_the_equilibria_are_a_line_at_no_worst_case():
    family = worst_cases.equilibria()
    axis = figures.payoff_and_worst_case(worst_cases.landscape([], "kuhn"), "kuhn", family).axes[0]
    (line,) = [line for line in axis.lines if line.get_label().startswith("equilibria")]
    np.testing.assert_allclose(line.get_ydata(), family["payoff"])
    assert np.abs(line.get_xdata()).max() < 1e-12


def test_the_lead_ends_where_the_moves_end():
    agent = sk.scripted("kuhn", "tight-passive")
    worst = sk.exact.worst_case("kuhn", agent)
    moves = worst_cases.moves("kuhn", agent, worst.adversary, 2)
    axis = figures.adversarys_lead(moves, "kuhn", worst.advantage).axes[0]
    played, expected = axis.lines[:2]
    assert played.get_ydata()[-1] == moves["lead"].dropna().iloc[-1] and len(played.get_xdata()) == 13
    assert expected.get_ydata()[-1] == pytest.approx(12 * worst.advantage)
    assert axis.get_ylabel() == "the adversary's lead (chips)"


def test_agents_stand_beside_the_range_of_the_equilibria():
    agents = {"pico SEPO, seed 0": sk.scripted("kuhn", "always-bet"), "pico SEPO, seed 1": sk.uniform("kuhn")}
    chips = worst_cases.chips(agents)
    figure = figures.beside_equilibria(chips, worst_cases.equilibrium_chips(), dict.fromkeys(agents, "sepo"))
    first, _, _, late = figure.axes
    assert [line.get_ydata().tolist() for line in first.lines] == [[1.0] * 3, [0.5] * 3]
    king = first.patches[2]
    assert king.get_height() == pytest.approx(1.024) and late.patches[1].get_y() == pytest.approx(
        1 / 3 - 0.012
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pico SEPO", "equilibria"]


def test_bounds_of_two_copies_are_marked_and_zeros_stand_on_a_scale_of_their_own():
    twins = means("ipd", "payoff").assign(bound=["at least", ""])
    axis = figures.self_play(twins).axes[0]
    assert [text.get_text() for text in axis.texts] == ["≥"]
    nothing = means("ipd", "payoff").assign(value=0.0, low=0.0, high=0.0)
    assert figures.self_play(nothing).axes[0].get_ylim() == (-0.05, 1.0)


def means(game, *metrics):
    return pd.DataFrame(
        [
            {"model": "pico", "game": game, "stage": stage, "metric": metric, "value": value, "low": value - 0.1,
             "high": value + 0.1, "n": 3}
            for metric in metrics for stage, value in (("base", 1.0), ("sepo", 2.0))
        ]
    )  # fmt: skip


def test_self_play_has_a_panel_for_each_game_that_is_not_zero_sum():
    shown = pd.concat([means("ipd", "payoff"), means("kuhn", "payoff")])
    (axis,) = figures.self_play(shown).axes
    assert [bar.get_height() for bar in axis.patches] == [1.0, 2.0]
    assert axis.get_title() == "pico, Iterated prisoner's dilemma"


def test_the_market_stands_beside_bidders_who_compete_and_collude():
    figure = figures.market(means("auction", "price", "efficiency", "low bids"), markets())
    price = figure.axes[0]
    assert [bar.get_height() for bar in price.patches] == [1.0, 2.0]
    lines = {
        line.get_label(): line.get_ydata()[0] for line in price.lines if not line.get_label().startswith("_")
    }
    assert lines == {"equilibrium": 1.75, "truthful": 2.75, "collusive-low": 1.0}
