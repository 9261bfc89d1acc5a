"""Fitted adversaries come near the worst case of a known table, and need nothing but play."""

from __future__ import annotations

import numpy as np
import pytest

import sepo_kit as sk
from sepo_kit import exact
from sepo_kit.adversaries.fitted import explored, fit_adversary, fitted
from sepo_kit.adversaries.gain import measured_gain
from sepo_kit.adversaries.opponents import resolve
from sepo_kit.engine import graph
from sepo_kit.engine.episode import Episode
from sepo_kit.engine.policy import NoDistribution, Policy, scripted, tabular
from sepo_kit.exact import fitted as in_parts

LABELS = ("start", "CC", "CD", "DC", "DD")


class Silent(Policy):
    """Plays as another policy and states nothing."""

    def __init__(self, inner):
        self.inner, self.name = inner, f"silent {inner.name}"

    def distributions(self, seen):
        raise NoDistribution("it answers in text")

    def act(self, seen, uniforms):
        return self.inner.act(seen, uniforms)


def memory_one(rng):
    return tabular("ipd", {label: rng.dirichlet([1, 1]) for label in LABELS}, row="label")


@pytest.mark.parametrize("silent", [False, True])
def test_in_the_dilemma_it_comes_near_the_worst_case(silent):
    agent = memory_one(np.random.default_rng(0))
    shown = Silent(agent) if silent else agent
    found = fitted("ipd", explored("ipd", shown, 600), agent=shown)
    worst = exact.worst_case("ipd", agent, memory="label").advantage
    gained = exact.against("ipd", agent, found).advantage
    assert worst - 0.05 <= gained <= worst + 1e-9


@pytest.mark.parametrize("silent", [False, True])
def test_in_kuhn_poker_it_comes_near_the_worst_case(silent):
    game, rng = sk.get_game("kuhn"), np.random.default_rng(1)
    agent = tabular(game, {key: rng.dirichlet([1, 1]) for key in exact.policy_table(game, sk.uniform(game))})
    shown = Silent(agent) if silent else agent
    found = fitted(game, explored(game, shown, 800), agent=shown)
    worst = exact.worst_case(game, agent).advantage
    gained = exact.against(game, agent, found).advantage
    assert worst - (0.05 if silent else 1e-9) <= gained <= worst + 1e-9


def test_keys_are_used_where_they_were_met_often():
    """Tit-for-two-tats forgives once, which no label of one round can tell."""
    agent = scripted("ipd", "tit-for-two-tats")
    played = explored("ipd", agent, 1_000)
    worst = exact.worst_case("ipd", agent).advantage
    by_key = exact.against("ipd", agent, fitted("ipd", played, least=4)).advantage
    by_label = exact.against("ipd", agent, fitted("ipd", played, least=10_000)).advantage
    assert by_label < by_key <= worst + 1e-9
    assert by_key > worst - 0.4


@pytest.mark.parametrize("game_id", ["auction", "negotiation_v1"])
def test_it_gains_at_least_what_the_pool_does_in_long_games(game_id):
    game = sk.get_game(game_id)
    agent = Silent(scripted(game, "adaptive" if game_id == "auction" else "concede"))
    found = fit_adversary(game, agent, episodes=400)
    gained = measured_gain(game, agent, found, 200)
    pool = max(measured_gain(game, agent, scripted(game, s), 200).value for s in game.spec.pools.exploit)
    assert gained.low > pool - 0.05


def test_where_deals_are_too_many_it_learns_from_those_it_met():
    game = sk.get_game("negotiation_v2")
    agent = Silent(scripted(game, "concede"))
    found = fitted(game, explored(game, agent, 400))
    at_random = measured_gain(game, agent, scripted(game, "uniform"), 100)
    assert measured_gain(game, agent, found, 100).low > at_random.high


@pytest.mark.parametrize(
    ("game", "name", "share"),
    [("kuhn", "tight-passive", 1.0), ("kuhn", "always-bet", 1.0), ("leduc", "tight-passive", 0.8),
     ("leduc", "always-raise", 0.7)],
)  # fmt: skip
def test_where_seats_move_in_turn_it_gains_without_a_tree_too(game, name, share, monkeypatch):
    """What is found from positions that were met, beside the worst case: the decisions of one seat alone are among
    them, and what nature deals between two."""

    def too_large(*args, **how):
        raise exact.TooLarge("a larger game")

    def cannot(*args, **how):
        raise in_parts.CannotFold("a larger game")

    agent = scripted(game, name)
    worst = exact.worst_case(game, agent).advantage
    monkeypatch.setattr(in_parts, "worst_case", too_large)
    monkeypatch.setattr(in_parts, "_folded_response", cannot)
    found = measured_gain(game, agent, fit_adversary(game, agent, episodes=600), 1_000)
    assert found.high >= share * worst > 0


def test_the_gain_is_that_of_fresh_episodes():
    agent = sk.scripted("ipd", "mixed-0.5")
    found = measured_gain("ipd", agent, scripted("ipd", "always-defect"), 400)
    assert found.low < 2.5 < found.high and found.n == 400
    assert measured_gain("ipd", agent, scripted("ipd", "always-defect"), 400) == found
    assert measured_gain("ipd", agent, scripted("ipd", "always-defect"), 400, seed=1) != found
    said = measured_gain("ipd", Silent(agent), scripted("ipd", "always-defect"), 400)
    assert said.value == pytest.approx(found.value, abs=0.3)
    with pytest.raises(ValueError, match="episodes must be a whole number >= 2, got 1"):
        measured_gain("ipd", agent, agent, 1)


def test_a_name_of_the_grammar():
    agent = Silent(scripted("kuhn", "always-bet"))
    assert exact.against("kuhn", agent.inner, resolve("kuhn", "fitted", agent)).advantage > 0.3
    with pytest.raises(ValueError, match="is an opponent of an agent"):
        resolve("kuhn", "fitted")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"row": "mood"}, "no label 'mood'"), ({"least": 0}, "least must be a whole number >= 1, got 0")],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fitted("ipd", [], **options)


def test_episodes_without_a_decision_are_refused():
    with pytest.raises(ValueError, match="fitted needs episodes in which seat 0 decides"):
        fitted("ipd", [Episode("ipd", "none", "x", 0, 0)])


@pytest.mark.parametrize("name", ["auction", "ipd"])
def test_it_depends_on_the_episodes_alone(name):
    """Neither on what else this process has played nor on whether its states are still at hand."""
    game = sk.get_game(name)
    agent = scripted(game, "shaded" if name == "auction" else "tit-for-tat")
    episodes = explored(game, agent, 40)
    first = fitted(game, episodes, agent=agent)
    explored(game, scripted(game, next(iter(game.strategies))), 200, seed=9)
    graph._shared.clear()
    again = fitted(game, episodes, agent=agent)
    assert list(first.rows) == list(again.rows)
    assert all((first.rows[name] == again.rows[name]).all() for name in first.rows)
