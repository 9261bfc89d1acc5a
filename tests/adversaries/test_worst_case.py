"""What is known of a worst case: exact where it can be, bounds where it is looked for, else nothing."""

from __future__ import annotations

import pytest

from sepo_kit import exact
from sepo_kit.adversaries.fitted import explored
from sepo_kit.adversaries.gain import measured_gain
from sepo_kit.adversaries.worst_case import find_worst_case, glimpse
from sepo_kit.engine.policy import scripted, uniform
from sepo_kit.games import get_game


@pytest.mark.parametrize(
    ("game_id", "agent"), [("kuhn", "nash"), ("ipd", "tit-for-tat"), ("leduc", "near-nash")]
)
def test_it_is_exact_where_that_takes_a_moment(game_id, agent):
    game = get_game(game_id)
    agent = scripted(game, agent)
    found = find_worst_case(game, agent, "quick")
    truth = exact.worst_case(game, agent).advantage
    assert (found.value, found.low, found.high, found.how) == (truth, truth, truth, "exact")
    assert exact.against(game, agent, found.adversary).advantage == pytest.approx(truth)


def test_it_is_not_made_up():
    game = get_game("negotiation_v2")
    found = find_worst_case(game, uniform(game), "quick")
    assert (found.value, found.low, found.high, found.adversary, found.how) == (
        None,
        None,
        None,
        None,
        "unknown",
    )
    kuhn = get_game("kuhn")
    assert find_worst_case(kuhn, uniform(kuhn), "none").how == "unknown"


def test_a_search_finds_something_from_below():
    game = get_game("auction")
    found = find_worst_case(game, scripted(game, "conservative"), "search")
    assert found.how == "found" and found.high is None
    assert 0.9 < found.low < found.value < 1.1  # what the fitted adversary gained in fresh episodes


def test_a_search_plays_as_much_as_it_is_told_to():
    game, asked = get_game("negotiation_v2"), []
    agent = scripted(game, "fair")
    act = agent.act
    agent.act = lambda seen, uniforms: asked.extend(seen) or act(seen, uniforms)
    played = {}
    for episodes in (16, 64):
        asked.clear()
        found = find_worst_case(game, agent, "search", search_episodes=episodes)
        assert found.how == "found" and found.low <= found.value
        played[episodes] = len(asked)
    assert 3 < played[64] / played[16] < 4.5
    with pytest.raises(ValueError, match="search_episodes must be a whole number >= 2, got 1"):
        find_worst_case(game, agent, search_episodes=1)


@pytest.mark.parametrize("strategy", ["tit-for-tat", "concede"])
def test_a_search_does_not_fall_short_of_the_exploit_pool(strategy):
    game = get_game("negotiation_v2")
    agent = scripted(game, strategy)
    found = find_worst_case(game, agent, "search")
    pool = [measured_gain(game, agent, scripted(game, name), 400, 7) for name in game.spec.pools.exploit]
    upper = 2 * found.value - found.low
    assert upper >= max(gain.low for gain in pool)


def test_a_glimpse_is_exact_where_states_are_few_and_fitted_elsewhere():
    leduc = get_game("leduc")
    agent = scripted(leduc, "near-nash")
    truth = exact.worst_case(leduc, agent).advantage
    assert [glimpse(leduc, agent, number, 2, []) for number in range(3)] == [truth, None, truth]
    ipd = get_game("ipd")
    agent = scripted(ipd, "generous-tit-for-tat")
    played = explored(ipd, agent, 60)
    seen = [glimpse(ipd, agent, number, 2, played) for number in range(3)]
    assert seen[1] is None
    assert seen[0] == pytest.approx(exact.worst_case(ipd, agent).advantage, abs=0.3)


def test_an_unknown_effort_is_named():
    with pytest.raises(ValueError, match="effort must be one of none, quick, search, bounds, got 'hard'"):
        find_worst_case("kuhn", uniform("kuhn"), "hard")
