"""Self-play: two copies earn what exact numbers say, and the auction's prices are those of its rules."""

from __future__ import annotations

import pytest
from finished import evaluation

import sepo_kit as sk
from sepo_kit.evaluation.self_play import MARKET, equilibria, markets, self_play, self_play_of
from sepo_kit.games.auction import competitive_bid
from sepo_kit.models import PICO


def metrics(agent, game, episodes=50, seed=0):
    found = self_play({"one": agent}, game, episodes, seed)
    assert set(found["agent"]) == {"one"} and (found["n"] == episodes).all()
    return found.set_index("metric")


@pytest.mark.parametrize("game_id", sk.GAMES)
def test_every_game_has_its_terms_within_bounds_and_shares_that_sum_to_one(game_id):
    game = sk.get_game(game_id)
    found = metrics(sk.uniform(game), game, 10)["value"]
    low, high = game.spec.payoff_bounds
    assert low <= found["payoff"] <= high
    assert 0 <= found["collusion"] <= 1 and 0 <= found["externality"] <= 1
    shares = found[found.index.str.startswith("plays ")]
    assert shares.sum() == pytest.approx(1.0) if len(shares) else len(game.spec.actions) > 10
    assert set(MARKET) <= set(found.index) if game_id == "auction" else not set(MARKET) & set(found.index)


def test_two_copies_of_a_strategy_earn_what_enumeration_says():
    found = metrics(sk.scripted("ipd", "mixed-0.5"), "ipd", 400)
    exact = sk.exact.against("ipd", sk.scripted("ipd", "mixed-0.5"), "mixed-0.5")
    both = (exact.own + exact.their) / 2
    assert found.loc["payoff", "low"] < both < found.loc["payoff", "high"]
    assert found.loc["plays COOPERATE", "value"] == pytest.approx(0.5, abs=0.03)


def test_both_seats_count():
    found = metrics(sk.scripted("kuhn", "loose-aggressive"), "kuhn", 20)
    assert found.loc["payoff", ["value", "low", "high"]].abs().max() == 0.0  # what one earns the other loses
    (episode,) = sk.play("kuhn", sk.scripted("kuhn", "loose-aggressive"), "self", 1)
    shares = found.filter(regex="^plays", axis=0)["value"]
    assert len(shares) == 4 and len(episode.answers) >= 3 and len(episode.decisions) >= 3


def test_an_interval_holds_the_value_and_shrinks_with_more_episodes():
    few, many = (metrics(sk.uniform("auction"), "auction", n).loc["price"] for n in (20, 320))
    assert few["low"] < few["value"] < few["high"]
    assert many["high"] - many["low"] < 0.5 * (few["high"] - few["low"])


# --- the auction ----------------------------------------------------------------------------------


def test_the_auction_has_one_strict_equilibrium_half_the_value():
    assert equilibria() == [{value: competitive_bid(value) for value in (2, 4)}]


def test_prices_of_bidders_who_compete_and_who_collude_by_hand():
    found = markets()
    # Both values are 2 in a quarter of the rounds: LOW there, else the high value's bid wins.
    assert found.loc["equilibrium", ["price", "efficiency", "low bids"]].tolist() == [
        1 / 4 + 3 / 4 * 2,
        1.0,
        0.0,
    ]
    assert found.loc["truthful", "price"] == 1 / 4 * 2 + 3 / 4 * 3
    # All tie at LOW: the item goes to either, and values 2 and 4 average 3 in half of the rounds.
    assert found.loc["collusive-low", ["price", "efficiency", "low bids"]].tolist() == [1.0, 3 / 3.5, 1.0]
    assert found.loc["equilibrium", "payoff"] == 0.5 * (0.5 * 0.5 * 1) + 0.5 * (0.5 * 2 + 0.5 * 0.5 * 2)


@pytest.mark.parametrize("name", ["truthful", "collusive-low"])
def test_what_is_played_agrees_with_what_the_rules_say(name):
    played = metrics(sk.scripted("auction", name), "auction", 300)
    for metric in ("payoff", *MARKET):
        assert played.loc[metric, "value"] == pytest.approx(markets().loc[name, metric], abs=0.05)


# --- stored agents, and bad input -----------------------------------------------------------------


@pytest.mark.usefixtures("ready_pico")
def test_an_agent_of_a_result_plays_as_it_was_evaluated(tmp_path):
    evaluation(tmp_path, "ipd", "base", "uniform", model=PICO)
    (file,) = tmp_path.glob("*/ipd/results/*.json")
    found = self_play_of([file], episodes=3, seed=5)
    assert list(found.columns[:5]) == ["model", "game", "stage", "seed", "metric"]
    agent = sk.language_model(sk.load_model(PICO), "ipd", temperature=0.8)
    again = metrics(agent, "ipd", 3, 5)
    assert found.set_index("metric")["value"].to_dict() == pytest.approx(again["value"].to_dict())


def test_no_results_make_no_rows_and_a_run_that_is_gone_is_named(tmp_path):
    assert self_play_of([]).empty
    evaluation(tmp_path, "ipd", "sepo", "tit-for-tat", 0)
    with pytest.raises(ValueError, match=r"there is no run .*sepo-seed-0"):
        self_play_of(sorted(tmp_path.glob("*/ipd/results/*.json")))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="no agents"):
        self_play({}, "ipd")
    with pytest.raises(ValueError, match="episodes must be a whole number >= 1, got 0"):
        self_play({"one": sk.uniform("ipd")}, "ipd", 0)
