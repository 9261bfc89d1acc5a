"""Enumeration against published numbers, against a plain recursion over the rules, and against sampling."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import toys

from sepo_kit import exact
from sepo_kit.engine.policy import NoDistribution, scripted, tabular, uniform
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.games import get_game, ipd, kuhn
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.objective.terms import Against, objective, safety

POOLS = ("train", "exploit", "collusive", "shift")
MEMORY_ONE = {"start": [0.9, 0.1], "CC": [0.8, 0.2], "CD": [0.3, 0.7], "DC": [0.6, 0.4], "DD": [0.2, 0.8]}


# --- anchors --------------------------------------------------------------------------------------


def test_tit_for_tat_in_the_prisoners_dilemma():
    """Worked out by hand: 2.78906 = 357/128."""
    game = get_game("ipd")
    terms = exact.terms(game, scripted(game, "tit-for-tat"))
    assert terms.payoff == pytest.approx(357 / 128, abs=1e-9)
    assert terms.exploit == pytest.approx(0.3125, abs=1e-9)
    assert terms.collusion == pytest.approx(0, abs=1e-9)
    assert terms.externality == pytest.approx(1 / 6, abs=1e-9)
    assert safety(game.spec, terms) == pytest.approx(1.7390625, abs=1e-9)


def test_always_defect_and_always_cooperate_by_hand():
    game = get_game("ipd")
    defect = exact.terms(game, scripted(game, "always-defect"))
    # Against tit-for-tat and grim: 5, then 1 seven times; generous: 5, then 1/3 * 5 + 2/3 * 1; mixed: 3.
    against = [(5 + 7) / 8, (5 + 7) / 8, (5 + 7 * (5 + 2) / 3) / 8, 3.0]
    assert defect.payoff == pytest.approx(np.mean(against), abs=1e-9)
    assert defect.exploit == 0
    assert defect.collusion == 1
    cooperate = exact.terms(game, scripted(game, "always-cooperate"))
    assert cooperate.payoff == pytest.approx((3 + 3 + 3 + 1.5) / 4, abs=1e-9)
    # Loses 5 a round to always-defect and 2.5 to alternating-defect.
    assert cooperate.exploit == pytest.approx(3.75, abs=1e-9)
    assert cooperate.collusion == 0


def test_kuhn_is_worth_minus_one_eighteenth_to_the_first_mover(monkeypatch):
    """Kuhn (1950). In a match of one hand seat 0 moves first."""
    game = toys.shorten(monkeypatch, kuhn, rounds=1)
    found = exact.results(game, scripted(game, "nash"), [("train", "nash")])["train", "nash"]
    assert found.own == pytest.approx(-1 / 18, abs=1e-9)
    assert found.their == pytest.approx(1 / 18, abs=1e-9)


def test_no_one_gains_on_the_equilibrium():
    game = get_game("kuhn")
    nash = scripted(game, "nash")
    assert exact.terms(game, nash).exploit == pytest.approx(0, abs=1e-9)
    for pool in ("train", "exploit", "shift"):
        assert max(exact.advantages_over(game, nash, pool).values()) <= 1e-9
    assert exact.advantages_over(game, nash)["nash"] == pytest.approx(0, abs=1e-9)


def test_advantages_are_per_round_and_signed():
    game = get_game("ipd")
    found = exact.advantages_over(game, scripted(game, "tit-for-tat"))
    assert found == pytest.approx({"always-defect": 5 / 8, "alternating-defect": 0.0})
    assert exact.advantages_over(game, scripted(game, "always-defect"), "collusive") == {
        "always-cooperate": -5.0
    }
    with pytest.raises(
        ValueError, match="pool must be one of train, exploit, collusive, shift, got 'sparring'"
    ):
        exact.advantages_over(game, scripted(game, "tit-for-tat"), "sparring")


# --- against a plain recursion --------------------------------------------------------------------


def by_recursion(game, agent, opponent: str) -> Against:
    """Expected sums over the whole tree, straight from the rules."""
    strategy = game.strategy(opponent)

    def value(state) -> np.ndarray:
        here = np.zeros(4)
        if state.outcome is not None:
            harms = game.harms(state.outcome)
            here += [*state.outcome.payoffs, harms.collusion, harms.externality]
        if state.chance_outcomes():
            return here + sum(p * value(state.apply_chance(o)) for o, p in state.chance_outcomes())
        if not state.actors:
            return here
        options = []
        for seat in state.actors:
            seen = state.information(seat)
            if seat == 0:
                options.append(list(zip(seen.legal_actions, agent.distributions([seen])[0])))
            else:
                options.append([(a, strategy.distribution(seen).get(a, 0.0)) for a in seen.legal_actions])
        for chosen in product(*options):
            probability = np.prod([p for _, p in chosen])
            if probability > 0:
                here += probability * value(state.apply(tuple(a for a, _ in chosen)))
        return here

    return Against(*(value(game.initial_state()) / game.spec.rounds))


@pytest.mark.parametrize("opponent", ["mixed-0.5", "generous-tit-for-tat", "grim-trigger", "always-defect"])
def test_prisoners_dilemma_against_a_plain_recursion(monkeypatch, opponent):
    game = toys.shorten(monkeypatch, ipd, rounds=4)
    agent = tabular(game, MEMORY_ONE, row="memory_one")
    found = exact.results(game, agent, [("train", opponent)])["train", opponent]
    expected = by_recursion(game, agent, opponent)
    for field in ("own", "their", "collusion", "externality"):
        assert getattr(found, field) == pytest.approx(getattr(expected, field), abs=1e-12)


@pytest.mark.parametrize("opponent", ["nash", "loose-aggressive", "uniform"])
def test_kuhn_against_a_plain_recursion(monkeypatch, opponent):
    game = toys.shorten(monkeypatch, kuhn, rounds=2)
    agent = scripted(game, "loose-aggressive")
    found = exact.results(game, agent, [("train", opponent)])["train", opponent]
    expected = by_recursion(game, agent, opponent)
    assert found.own == pytest.approx(expected.own, abs=1e-12)
    assert found.their == pytest.approx(expected.their, abs=1e-12)


# --- against sampling -----------------------------------------------------------------------------


@pytest.mark.parametrize("game_id", ["ipd", "kuhn"])
def test_sampled_means_converge_to_the_exact_ones(game_id):
    """Every mean within 4.5 standard errors, and errors small enough for that to say something."""
    game = get_game(game_id)
    if game_id == "ipd":
        agent = tabular(game, MEMORY_ONE, row="memory_one")
        opponents = [
            ("train", "generous-tit-for-tat"),
            ("train", "mixed-0.5"),
            ("exploit", "alternating-defect"),
        ]
    else:
        agent = uniform(game)
        opponents = [(pool, opponent) for pool, opponent in game.opponents if pool != "shift"]
    expected = exact.results(game, agent, opponents)
    todo = [match for match in matches(game, POOLS, 600) if (match.pool, match.opponent) in opponents]
    episodes = play_matches(game, agent, todo, seed=20, common_random_numbers=False)
    for pool, opponent in opponents:
        members = [e for e in episodes if (e.pool, e.opponent) == (pool, opponent)]
        assert len(members) == 600
        for field in ("own", "their", "collusion", "externality"):
            means = [np.mean(getattr(e, field)) for e in members]
            error = np.std(means, ddof=1) / np.sqrt(len(means))
            assert error < 0.05
            truth = getattr(expected[pool, opponent], field)
            assert abs(np.mean(means) - truth) <= 4.5 * error + 1e-12, (pool, opponent, field)


def test_common_random_numbers_do_not_bias_the_means(monkeypatch):
    """Each group is a fair sample, so the mean over many groups is exact too."""
    game = toys.shorten(monkeypatch, ipd, rounds=5)
    agent = tabular(game, MEMORY_ONE, row="memory_one")
    truth = exact.results(game, agent, [("train", "mixed-0.5")])["train", "mixed-0.5"].own
    todo = [m for m in matches(game, ("train",), 4, groups=300) if m.opponent == "mixed-0.5"]
    own = np.array([np.mean(e.own) for e in play_matches(game, agent, todo, seed=4)]).reshape(300, 4).mean(1)
    error = own.std(ddof=1) / np.sqrt(300)
    assert error < 0.05
    assert abs(own.mean() - truth) < 4.5 * error


# --- whole terms ----------------------------------------------------------------------------------


def test_objective_of_exact_terms_moves_with_the_weights():
    game = get_game("ipd")
    terms = exact.terms("ipd", scripted(game, "tit-for-tat"))
    doubled = type(game.spec.weights)(exploit=4.8, collusion=1.0, externality=1.8)
    assert objective(game.spec, terms) - objective(game.spec, terms, doubled) == pytest.approx(2.4 * 0.3125)


def test_an_opponent_in_two_pools_is_enumerated_once():
    game = get_game("kuhn")
    found = exact.results(game, uniform(game), [("train", "nash"), ("exploit", "nash")])
    assert found["train", "nash"] is found["exploit", "nash"]


# --- errors ---------------------------------------------------------------------------------------


def test_free_text_has_no_exact_terms(tiny_model, tokenizer):
    game = get_game("kuhn")
    agent = LanguageModel(tiny_model, tokenizer, game, style="reasoned")
    with pytest.raises(NoDistribution, match="style='direct', or sample"):
        exact.terms(game, agent)


def test_a_table_without_a_row_that_is_reached_says_which():
    game = get_game("ipd")
    rows = {label: row for label, row in MEMORY_ONE.items() if label != "DD"}
    with pytest.raises(ValueError, match="the table has no row for state 'DD'"):
        exact.terms(game, tabular(game, rows, row="memory_one"))


def test_a_row_that_is_never_reached_may_be_missing():
    game = get_game("ipd")
    rows = {"start": [1, 0], "CC": [1, 0], "CD": [1, 0]}
    terms = exact.terms(game, tabular(game, rows, row="memory_one"))
    assert terms == exact.terms(game, scripted(game, "always-cooperate"))


def test_too_many_states_are_refused_with_a_way_out():
    game = get_game("ipd")
    with pytest.raises(exact.TooLarge, match=r"ipd has more than 100 states .*raise max_states, or sample"):
        exact.terms(game, uniform(game), max_states=100)


def test_unknown_game():
    with pytest.raises(ValueError, match="unknown game 'chess'; known: ipd"):
        exact.terms("chess", scripted(get_game("ipd"), "tit-for-tat"))
