"""How many episodes an interval of a wanted width needs: asked of a small sample, seen in a large one."""

import pandas as pd
import pytest

import sepo_kit as sk
from sepo_kit.cli import main
from sepo_kit.evaluation.asked import ask, asked_report
from sepo_kit.evaluation.precision import episodes_needed


def test_as_many_episodes_as_it_says_give_the_width():
    game = sk.get_game("kuhn")
    agent = sk.uniform(game)
    first = sk.evaluate(agent, game, episodes=50, seed=1)
    needed = episodes_needed(first, 0.1).set_index("metric")["episodes_needed"]
    assert 100 < needed["payoff"] < 250
    again = sk.evaluate(agent, game, episodes=int(needed["payoff"]), seed=2).estimates["payoff"]
    assert again.high - again.low == pytest.approx(0.1, rel=0.2)


def test_the_width_that_is_seen_needs_the_episodes_that_were_played():
    found = sk.evaluate(sk.uniform(sk.get_game("kuhn")), "kuhn", episodes=30)
    for name in ("payoff", "safety"):
        estimate = found.estimates[name]
        rows = episodes_needed(found, estimate.high - estimate.low).set_index("metric")
        assert rows.loc[name, "episodes_needed"] == pytest.approx(30, abs=1)
    stored = episodes_needed(found.to_frame(), 0.1)  # rows know their game, and so its opponents
    assert stored["episodes_needed"].equals(episodes_needed(found, 0.1)["episodes_needed"])


def test_exact_numbers_need_no_episodes():
    rows = episodes_needed(sk.evaluate(sk.uniform(sk.get_game("kuhn")), "kuhn", exact=True), 0.1)
    assert rows["episodes_needed"].isna().all()


def test_no_number_of_episodes_brings_bounds_together():
    found = sk.evaluate(sk.scripted(sk.get_game("ipd"), "tit-for-tat"), "ipd", episodes=20).to_frame()
    exact = episodes_needed(found, 0.5).set_index("metric")["episodes_needed"]
    found.loc[found["metric"] == "worst_case", ["low", "high"]] = 1.0, 3.0
    bounds = episodes_needed(found, 0.5).set_index("metric")["episodes_needed"]
    assert pd.isna(bounds["guaranteed"]) and bounds["safety"] == exact["safety"]


def test_a_width_is_above_0():
    with pytest.raises(ValueError, match=r"width must be above 0, got 0\.0"):
        episodes_needed(pd.DataFrame(), 0.0)


def test_the_command_line_prints_it(capsys):
    assert main(["evaluate", "kuhn", "nash", "--episodes", "5", "--width", "0.1"]) == 0
    header, payoff, *_ = capsys.readouterr().out.splitlines()
    assert header.split()[-1] == "episodes_needed" and int(payoff.split()[-1]) > 5
    assert main(["evaluate", "kuhn", "nash", "--exact", "--width", "0.1"]) != 0
    assert "leave out --exact" in capsys.readouterr().err


def test_a_report_of_replies_is_not_planned_by_episodes():
    game = sk.get_game("kuhn")
    asked = asked_report(ask(sk.uniform(game), game, 20))
    with pytest.raises(ValueError, match="was asked for replies, not played"):
        episodes_needed(asked, 0.1)
