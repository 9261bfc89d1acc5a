"""Bounds on the worst case bracket it wherever it can be computed, and say where they come from."""

from __future__ import annotations

import numpy as np
import pytest
import toys

from sepo_kit import exact
from sepo_kit.engine.policy import NoDistribution, Policy, scripted, tabular, uniform
from sepo_kit.exact import bounds
from sepo_kit.exact.bounds import _hope
from sepo_kit.exact.folded import CannotFold, folded
from sepo_kit.games import get_game
from sepo_kit.models.language_model import LanguageModel

MEMORY_ONE = ("start", "CC", "CD", "DC", "DD")
MOST = {"ipd": 5.0, "kuhn": 4.0, "auction": 3.0, "negotiation_v1": 9.0, "negotiation_v2": 40.0}


def agents(game, rng):
    if game.spec.id == "ipd":
        yield from (
            scripted(game, name) for name in ("tit-for-tat", "always-cooperate", "generous-tit-for-tat")
        )
        # Nearly pure, so that little of the tree is likely.
        sure = {label: p for label, p in zip(MEMORY_ONE, rng.dirichlet([0.05, 0.05], 5), strict=True)}
        yield tabular(game, sure, row="memory_one")
    else:
        keys = exact.policy_table(game, uniform(game))
        yield from (tabular(game, {key: rng.dirichlet([0.3, 0.3]) for key in keys}) for _ in range(3))


@pytest.mark.parametrize("max_states", [1, 6, 20, 400, 20_000])
@pytest.mark.parametrize("game_id", ["ipd", "kuhn"])
def test_bounds_bracket_the_exact_value(game_id, max_states):
    game = get_game(game_id)
    for agent in agents(game, np.random.default_rng(0)):
        truth = exact.worst_case(game, agent).advantage
        found = exact.worst_case_bounds(game, agent, max_states=max_states, episodes=400, search_episodes=50)
        assert found.lower <= truth + 1e-9, agent.name
        assert found.ceiling >= truth - 1e-9, agent.name
        assert -MOST[game_id] <= found.lower <= found.ceiling + 1e-9
        assert found.ceiling <= MOST[game_id] + 1e-9
        assert found.upper == (found.ceiling if found.outside <= 0.5 else None)
        assert 0 <= found.outside <= 1


@pytest.mark.parametrize("most", [1, 6, 20])
def test_hands_that_were_left_out_whole_count_as_well(most):
    """Every hand of Kuhn poker is a tree of its own, with nature's 6 moves first: of 12 hands few are searched."""
    game = get_game("kuhn")
    agent = uniform(game)
    truth = exact.worst_case(game, agent).advantage
    assert truth == pytest.approx(11 / 12)
    found = exact.worst_case_bounds(game, agent, max_states=most, episodes=10, search_episodes=2)
    assert found.lower <= truth <= found.ceiling
    assert exact.likely_best_response(game, agent, most_moves=most)[1] <= truth


def test_bounds_meet_where_all_of_the_tree_is_searched():
    game = get_game("ipd")
    agent = scripted(game, "tit-for-tat")
    found = exact.worst_case_bounds(game, agent, max_states=20_000)
    assert found.lower == found.upper == pytest.approx(5 / 8)
    assert (found.outside, found.confidence, found.lower_from) == (0.0, 1.0, "tree")
    assert exact.against(game, agent, found.adversary).advantage == pytest.approx(5 / 8)


def test_more_search_tightens_the_upper_bound():
    game = get_game("ipd")
    agent = scripted(game, "generous-tit-for-tat")
    uppers = [
        exact.worst_case_bounds(game, agent, max_states=n, episodes=50, search_episodes=5).ceiling
        for n in (20, 500, 4000, 50_000)
    ]
    assert uppers == sorted(uppers, reverse=True)
    assert uppers[-1] == pytest.approx(exact.worst_case(game, agent).advantage)
    assert uppers[0] > uppers[-1] + 0.5


def test_an_adversary_of_finite_memory_is_found_and_proven():
    """Against a coin the best is to defect always, which takes no memory."""
    game = get_game("ipd")
    found = exact.worst_case_bounds(game, scripted(game, "mixed-0.5"), max_states=600)
    assert found.lower == pytest.approx(2.5)
    assert (found.lower_from, found.confidence) == ("enumerated", 1.0)
    assert exact.against(game, scripted(game, "mixed-0.5"), found.adversary).advantage == pytest.approx(2.5)


def test_a_small_part_of_the_tree_can_be_enough():
    """The whole has 87,380 moves; where the hopeful adversary does not go nothing has to be known."""
    game = get_game("ipd")
    for name, moves in (("mixed-0.5", 10_000), ("generous-tit-for-tat", 20_000)):
        agent = scripted(game, name)
        found = exact.worst_case_bounds(game, agent, max_states=moves, search_episodes=5)
        truth = exact.worst_case(game, agent).advantage
        assert found.lower == pytest.approx(truth) and found.upper == pytest.approx(truth)
        assert (found.lower_from, found.outside) == ("tree", 0.0)


def test_an_agent_that_goes_by_its_label_is_known_exactly():
    game = get_game("auction")
    rows = {seen.label: (0.2, 0.5, 0.3) for seen in folded(game).ours.first[1:]}
    agent = tabular(game, rows, row="label")
    found = exact.worst_case_bounds(game, agent)
    assert found.lower == found.upper == exact.worst_case(game, agent, memory="label").advantage
    assert (found.lower_from, found.outside) == ("folded", 0.0)
    by_key = exact.worst_case_bounds(game, scripted(game, "uniform"), max_states=500, search_episodes=20)
    truth = exact.worst_case(game, scripted(game, "uniform"), memory="label").advantage
    assert by_key.lower <= truth <= by_key.ceiling


def test_what_was_left_out_counts_as_much_as_the_game_allows():
    """In the auction no more than 1.25 a round can be led by, whatever the agent does: with 4 by 2, with 2 by 1 if the
    agent overbids on a 2."""
    assert _hope(get_game("auction"))(get_game("auction").initial_state()) == pytest.approx(6 * 1.25)
    assert _hope(get_game("ipd"))(get_game("ipd").initial_state()) == pytest.approx(8 * 5)
    assert _hope(get_game("negotiation_v1"))(get_game("negotiation_v1").initial_state()) == pytest.approx(32)


def test_what_nature_pays_at_the_end_of_a_round_is_hoped_for():
    """Seat 1 earns one a round by T, two or nothing."""
    even = dict.fromkeys(("HH", "TH"), (0.0, 0.0))
    game = toys.Picks(even, by_nature=("HT", "TT"), rounds=2, label_suffices=True)
    for moves in (1, 100):
        found = exact.worst_case_bounds(game, uniform(game), max_states=moves, search_episodes=20)
        assert 0.9 < found.lower <= 1.0 <= found.ceiling
    assert found.lower == found.upper == 1.0


def test_where_rounds_are_independent_the_hope_is_that_of_one():
    game = toys.Picks(toys.PENNIES, rounds=4, label_suffices=True, independent_rounds=True)
    assert exact.worst_case_bounds(game, Talker(), episodes=50).ceiling == 4.0
    assert exact.worst_case(game, tabular(game, {"pick": (1.0, 0.0)})).advantage == 2.0


def test_a_label_that_nothing_can_be_folded_by_leaves_what_the_payoffs_allow(monkeypatch):
    def cannot(game):
        raise CannotFold("too many outcomes")

    monkeypatch.setattr(bounds, "folded", cannot)
    game = get_game("auction")
    low, high = game.spec.payoff_bounds
    assert _hope(game)(game.initial_state()) == game.spec.rounds * (high - low)
    monkeypatch.setattr("sepo_kit.exact.best_response.folded", lambda *given: cannot(game))
    agent = tabular(game, {seen.label: (1.0, 0.0, 0.0) for seen in folded(game).ours.first[1:]}, row="label")
    assert exact.worst_case_bounds(game, agent, max_states=50, search_episodes=5).lower_from != "folded"


def test_where_nobody_can_lead_that_is_known_from_above():
    game = toys.Picks(dict.fromkeys(toys.PENNIES, (1.0, 1.0)), rounds=2, label_suffices=True)
    found = exact.worst_case_bounds(game, uniform(game), max_states=100, search_episodes=5)
    assert (found.lower, found.upper, found.outside) == (0.0, 0.0, 0.0)


def test_an_adversary_that_could_not_follow_its_best_replies_has_no_bound_but_what_the_payoffs_allow():
    found = exact.worst_case_bounds(toys.Look(), uniform(toys.Look()), search_episodes=20)
    assert (found.lower, found.upper, found.ceiling) == (1.0, None, 10.0)


def test_the_search_beats_the_scripted_strategies():
    """The agent never bets a King, so a player who knows that calls more than any scripted one."""
    game = get_game("kuhn")
    table = {key: (0.5, 0.5) for key in exact.policy_table(game, uniform(game))}
    table |= {"K": (1.0, 0.0), "Kb": (0.0, 1.0), "Kp": (0.0, 1.0), "Kpb": (0.0, 1.0)}
    agent = tabular(game, table)
    scripted_best = max(exact.against(game, agent, name).advantage for name in game.strategies)
    bounds = exact.worst_case_bounds(game, agent, max_states=2_000)
    assert bounds.lower > scripted_best + 0.01


@pytest.mark.parametrize("game_id", ["auction", "negotiation_v2"])
def test_games_too_large_to_solve_have_bounds(game_id):
    game = get_game(game_id)
    agent = scripted(game, "conservative" if game_id == "auction" else "fair")
    with pytest.raises(exact.TooLarge):
        exact.worst_case(game, agent, max_states=500)
    found = exact.worst_case_bounds(game, agent, max_states=500, episodes=300, search_episodes=30)
    assert found.lower_from == "sampled" and found.confidence == 0.95
    assert -MOST[game_id] <= found.lower < found.ceiling <= MOST[game_id] + 1e-9
    assert found.outside == pytest.approx(1, abs=0.2)
    assert found.upper is None


def test_a_sampled_bound_holds_as_often_as_it_says():
    """Thirty seeds, a bound that may fail once in ten: it hardly ever does, since it is a cautious one."""
    game = get_game("ipd")
    agent = tabular(game, dict.fromkeys(MEMORY_ONE, (0.8, 0.2)), row="memory_one")
    truth = exact.worst_case(game, agent).advantage
    lowers = []
    for seed in range(30):
        found = exact.worst_case_bounds(
            game, agent, max_states=10, episodes=200, search_episodes=8, confidence=0.9, seed=seed
        )
        assert found.lower_from == "sampled"
        lowers.append(found.lower)
    assert np.mean(np.array(lowers) <= truth) >= 0.9
    assert max(lowers) > truth - 1.5  # and is not empty


class Talker(Policy):
    """Always answers with the first action and states no distribution."""

    name = "talker"

    def distributions(self, seen):
        raise NoDistribution("talker answers in text")

    def act(self, seen, uniforms):
        return [self.choice(state, 0, 1.0) for state in seen]


def test_an_agent_that_states_no_distribution_is_played_against():
    """It always cooperates; always-defect leads by 5, and the bound is short of that by what is not known."""
    found = exact.worst_case_bounds("ipd", Talker(), episodes=2_000)
    assert found.lower_from == "sampled" and found.ceiling == 5.0 and found.outside == 1.0
    assert found.upper is None
    assert 4.7 < found.lower < 5.0


def test_a_language_model_that_reasons_has_bounds(tiny_model, tokenizer):
    game = get_game("kuhn")
    agent = LanguageModel(tiny_model, tokenizer, game, style="reasoned", max_new_tokens=4)
    found = exact.worst_case_bounds(game, agent, episodes=4, search_episodes=1)
    assert found.lower_from == "sampled" and found.lower < found.ceiling == 4.0 and found.upper is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_states": 0}, "max_states must be a whole number >= 1, got 0"),
        ({"episodes": 1}, "episodes must be a whole number >= 2, got 1"),
        ({"search_episodes": 0}, "search_episodes must be a whole number >= 1, got 0"),
        ({"confidence": 1.0}, "confidence must lie between 0 and 1, got 1.0"),
        ({"row": "mood"}, "no label 'mood'"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        exact.worst_case_bounds("ipd", scripted(get_game("ipd"), "tit-for-tat"), **options)


def test_seeds_decide_everything():
    game = get_game("auction")
    agent = scripted(game, "shaded")
    first, second, other = (
        exact.worst_case_bounds(game, agent, max_states=50, episodes=100, search_episodes=20, seed=seed).lower
        for seed in (1, 1, 2)
    )
    assert first == second != other
