"""The exact policy that weights buy: what it reports is what it is."""

from __future__ import annotations

import pytest

import sepo_kit as sk
from sepo_kit.evaluation.contenders import scripted
from sepo_kit.evaluation.reference import reference
from sepo_kit.evaluation.reweigh import ranking


@pytest.mark.parametrize("game_id", ["ipd", "kuhn", "negotiation_v1"])
def test_it_leads_the_ranking_at_its_own_weights(game_id):
    spec = sk.get_game(game_id).spec
    weights = sk.Weights(0.8, 0.4, 0.2)
    found = reference(game_id, weights)
    ranked = ranking(spec, [*scripted(game_id), found.contender], weights)
    assert ranked["safety"].iloc[0] == pytest.approx(found.objective, abs=1e-9)
    assert found.contender.name == "exact at 0.8/0.4/0.2"


def test_its_rows_are_those_it_meets_and_are_distributions():
    found = reference("ipd", sk.Weights(0, 100, 0), steps=100)
    actions = found.rows.drop(columns=["state", "met"])
    assert (actions.sum(axis=1) - 1).abs().max() < 1e-6
    assert found.rows.iloc[0]["state"] == "start" and found.rows.iloc[0]["met"] == pytest.approx(1)
    assert found.rows["met"].sum() == pytest.approx(8)  # every round of an episode once


def test_the_worst_case_is_that_of_the_policy_in_the_table():
    found = reference("ipd")
    table = {row.state: (row.COOPERATE, row.DEFECT) for row in found.rows.itertuples()}
    agent = sk.tabular(sk.get_game("ipd"), table, row="memory_one")
    assert found.worst_case == pytest.approx(sk.exact.worst_case("ipd", agent).advantage)
    assert found.worst_case >= found.contender.terms[1]


def test_what_is_too_large_is_said_in_a_sentence():
    with pytest.raises(ValueError, match="First-price auction is too large to be enumerated in a moment"):
        reference("auction")


@pytest.mark.parametrize("game_id", ["kuhn", "negotiation_v1"])
def test_more_steps_buy_more(game_id):
    weights = sk.Weights(1, 1, 1)
    one, all_of_them = reference(game_id, weights, steps=1), reference(game_id, weights)
    assert all_of_them.objective > one.objective
