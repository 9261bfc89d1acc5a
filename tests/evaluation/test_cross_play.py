"""Cross-play: every pair is there, in both seats, and the numbers are those of the exact solver."""

import numpy as np
import pytest

import sepo_kit as sk
from sepo_kit.evaluation.cross_play import against, strategy_cross_play


@pytest.mark.parametrize("game", sk.GAMES)
def test_every_pair_is_played_within_the_bounds(game):
    pairs, spec = strategy_cross_play(game, episodes=20), sk.get_game(game).spec
    names = list(sk.get_game(game).strategies)
    assert list(zip(pairs["agent"], pairs["opponent"], strict=True)) == [(a, o) for a in names for o in names]
    low, high = spec.payoff_bounds
    assert pairs[["own", "their"]].stack().between(low, high).all()
    if spec.zero_sum:
        np.testing.assert_allclose(pairs["own"], -pairs["their"], atol=1e-12)


def test_cells_agree_with_enumeration():
    game = sk.get_game("kuhn")
    pairs = strategy_cross_play(game, episodes=2_000)
    for row in pairs.itertuples():
        exact = sk.exact.results(game, sk.scripted(game, row.agent), [("train", row.opponent)])
        assert abs(row.own - exact["train", row.opponent].own) <= 5 * row.error + 1e-9


def test_deterministic_pairs_have_no_error():
    pairs = strategy_cross_play("ipd", episodes=5).set_index(["agent", "opponent"])
    cell = pairs.loc[("tit-for-tat", "always-defect")]
    assert (cell["own"], cell["their"], cell["error"]) == (0.875, 1.5, 0.0)


def test_one_episode_is_an_error():
    with pytest.raises(ValueError, match="episodes must be a whole number >= 2"):
        strategy_cross_play("ipd", episodes=1)


# --- named agents ---------------------------------------------------------------------------------


def test_agents_meet_each_other_in_both_seats_and_themselves():
    agents = {name: sk.scripted("ipd", strategy) for name, strategy in
              {"t": "tit-for-tat", "d": "always-defect", "c": "always-cooperate"}.items()}  # fmt: skip
    found = sk.cross_play(agents, "ipd", episodes=3)
    assert list(zip(found["agent"], found["opponent"], strict=True)) == [
        (a, o) for a in agents for o in agents
    ]
    cells = found.set_index(["agent", "opponent"])
    assert cells["payoff"].to_list() == [3, 0.875, 3, 1.5, 1, 5, 3, 0, 3]
    assert cells["exploit"].to_list() == [0, 0.625, 0, 0, 0, 0, 0, 5, 0]
    for term in ("payoff", "their", "exploit", "collusion", "externality"):
        assert (found[f"{term}_low"] == found[term]).all() and (found[f"{term}_high"] == found[term]).all()
    assert (cells["payoff"] == cells["their"].swaplevel().reindex(cells.index)).all()


def test_intervals_hold_the_exact_numbers_in_either_seat():
    agents = {"nash": sk.scripted("kuhn", "nash"), "uniform": sk.uniform("kuhn")}
    found = sk.cross_play(agents, "kuhn", episodes=400, seed=2)
    exact = {
        (a, o): sk.exact.against("kuhn", agents[a], agents[o].strategy).own for a in agents for o in agents
    }
    inside = [r.payoff_low <= exact[r.agent, r.opponent] <= r.payoff_high for r in found.itertuples()]
    assert sum(inside) >= 3 and (found["payoff_low"] < found["payoff_high"]).all()
    np.testing.assert_allclose(found["payoff"], -found["their"], atol=1e-12)


def test_an_agent_meets_the_same_cards_whoever_plays_the_first_seat():
    agents = {"a": sk.scripted("kuhn", "always-pass"), "b": sk.scripted("kuhn", "always-pass")}
    found = sk.cross_play(agents, "kuhn", episodes=5).set_index(["agent", "opponent"])
    assert found.loc[("a", "a"), "payoff"] == found.loc[("b", "a"), "payoff"]
    assert found.loc[("a", "a"), "payoff"] != found.loc[("a", "b"), "payoff"]


def test_one_agent_against_some_is_the_row_of_cross_play():
    agents = {"nash": sk.scripted("kuhn", "nash"), "uniform": sk.uniform("kuhn")}
    row = against(agents["nash"], agents, "kuhn", episodes=7, seed=1)
    both = sk.cross_play(agents, "kuhn", episodes=7, seed=1)
    assert row.equals(both[both["agent"] == "nash"])


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (({}, "kuhn"), "there are no agents"),
        (({"a": sk.uniform("kuhn")}, "chess"), "unknown game 'chess'"),
        (({"a": sk.uniform("kuhn")}, "kuhn", 0), "episodes must be a whole number >= 1"),
    ],
)
def test_what_cannot_be_played_is_one_line(told, says):
    with pytest.raises(ValueError, match=says):
        sk.cross_play(*told)
