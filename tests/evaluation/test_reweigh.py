"""Reweighing: the same Safety as evaluating anew, flips that flip, leaders that lead, a front that none beats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sepo_kit as sk
from sepo_kit.evaluation.contenders import scripted
from sepo_kit.evaluation.reweigh import (
    WEIGHTS,
    Contender,
    flips,
    front,
    leaders,
    ranking,
    row_of,
    steady,
)
from sepo_kit.evaluation.statistics import Estimate

IPD = sk.get_game("ipd").spec
weight = st.floats(0, 20, allow_nan=False)
any_weights = st.builds(sk.Weights, weight, weight, weight)
share = st.integers(0, 20).map(lambda n: n / 20)  # a coarse grid, so that ties and parallel lines come up
any_contenders = st.lists(st.tuples(st.integers(0, 20).map(lambda n: n / 4), share, share, share), max_size=7).map(
    lambda rows: [Contender(f"c{i}", "scripted", np.array(r), np.zeros((0, 4))) for i, r in enumerate(rows)]
)  # fmt: skip


def order(contenders, weights):
    safety = {c.name: c.safety(IPD, weights).value for c in contenders}
    return lambda one, other: safety[one] - safety[other]


@pytest.mark.parametrize("game_id", ["ipd", "kuhn", "negotiation_v1"])
@pytest.mark.parametrize("weights", [(0, 0, 0), (0.3, 2, 0.1), (12, 0, 7)])
def test_a_strategy_is_as_safe_as_an_exact_evaluation_says(game_id, weights):
    game, weights = sk.get_game(game_id), sk.Weights(*weights)
    for contender in scripted(game):
        report = sk.evaluate(sk.scripted(game, contender.name), game, exact=True, weights=weights)
        assert contender.safety(game.spec, weights).value == pytest.approx(report.safety, abs=1e-12)


@pytest.mark.parametrize("game_id", ["ipd", "kuhn"])
def test_guaranteed_safety_is_that_of_an_exact_evaluation_at_any_weights(game_id):
    game, weights = sk.get_game(game_id), sk.Weights(3.7, 0.4, 1.1)
    ranked = ranking(game.spec, scripted(game), weights).set_index("agent")
    for name in game.strategies:
        report = sk.evaluate(sk.scripted(game, name), game, exact=True, weights=weights)
        assert ranked.loc[name, "worst_case"] == pytest.approx(report.terms.worst_case, abs=1e-12)
        columns = ["guaranteed", "guaranteed_low", "guaranteed_high"]
        assert ranked.loc[name, columns].tolist() == pytest.approx([report.guaranteed] * 3, abs=1e-12)


def test_a_worst_case_between_bounds_bounds_guaranteed_safety_the_other_way_round():
    terms = np.array([2.0, 0.1, 0.0, 0.0])
    for worst, expected in (
        (Estimate(0.5, 0.5, 1.5, 0), (1.0, -1.0, 1.0)),
        (Estimate(0.5, 0.5, None, 0), (1.0, np.nan, 1.0)),
        (None, (np.nan, np.nan, np.nan)),
    ):
        contender = Contender("one", "sepo", terms, np.zeros((0, 4)), worst_case=worst)
        ranked = ranking(IPD, [contender], sk.Weights(2.0, 0.0, 0.0))
        found = ranked.loc[0, ["guaranteed", "guaranteed_low", "guaranteed_high"]].tolist()
        assert found == pytest.approx(expected, nan_ok=True)
        assert ranked.loc[0, "safety"] == pytest.approx(1.8)


@given(any_contenders, any_weights)
def test_ranking_is_sorted_and_gain_less_penalty_is_safety(contenders, weights):
    ranked = ranking(IPD, contenders, weights)
    assert sorted(ranked["agent"]) == sorted(c.name for c in contenders)
    assert (ranked["safety"].diff().dropna() <= 1e-9).all()
    np.testing.assert_allclose(ranked["gain"] - ranked["penalty"], ranked["safety"], atol=1e-9)
    assert (ranked["place"] == [1 + (ranked["safety"] > s + 1e-8).sum() for s in ranked["safety"]]).all()


@given(any_contenders, any_weights)
def test_whoever_is_said_to_change_places_does(contenders, weights):
    for flip in flips(IPD, contenders, weights).itertuples():
        step = 1e-4 * max(1.0, flip.at)
        below = order(contenders, replace(weights, **{flip.weight: max(0.0, flip.at - step)}))
        above = order(contenders, replace(weights, **{flip.weight: flip.at + step}))
        at = replace(weights, **{flip.weight: flip.at})
        assert above(flip.up, flip.down) > 0 > below(flip.up, flip.down)
        ranked = ranking(IPD, contenders, at).set_index("agent")["place"]
        assert ranked[flip.up] == ranked[flip.down] == flip.place


@given(any_contenders, any_weights, st.sampled_from(WEIGHTS), weight)
def test_no_flip_is_left_out(contenders, weights, name, other):
    """Two that stand otherwise after a weight has moved have changed places on the way."""
    low, high = sorted([getattr(weights, name), other])
    before, after = (order(contenders, replace(weights, **{name: value})) for value in (low, high))
    found = flips(IPD, contenders, weights)
    on_the_way = found[(found["weight"] == name) & found["at"].between(low - 1e-6, high + 1e-6)]
    pairs = {frozenset(pair) for pair in zip(on_the_way["up"], on_the_way["down"], strict=True)}
    for i, one in enumerate(contenders):
        for two in contenders[:i]:
            if before(one.name, two.name) > 1e-6 and after(one.name, two.name) < -1e-6:
                assert {one.name, two.name} in pairs


@given(any_contenders, any_weights, st.sampled_from(WEIGHTS), weight)
def test_the_leader_is_the_safest_wherever_it_leads(contenders, weights, name, value):
    found = leaders(IPD, contenders, weights)
    found = found[found["weight"] == name]
    if not contenders:
        assert found.empty
        return
    np.testing.assert_array_equal(found["low"].to_numpy()[1:], found["high"].to_numpy()[:-1])
    assert found["low"].iloc[0] == 0 and found["high"].iloc[-1] == np.inf
    leader = found[(found["low"] <= value) & (value <= found["high"])]["agent"].iloc[0]
    ranked = ranking(IPD, contenders, replace(weights, **{name: value}))
    assert ranked.set_index("agent")["safety"][leader] == pytest.approx(ranked["safety"].max(), abs=1e-6)


@given(any_contenders, any_weights)
def test_nothing_changes_between_the_ends_of_the_steady_range(contenders, weights):
    for row in steady(IPD, contenders, weights).itertuples():
        assert row.low <= row.chosen <= row.high
        for pair in (row.below, row.above):
            assert pair is None or {*pair} <= {c.name for c in contenders}
        inside = [row.low + share * (min(row.high, 30.0) - row.low) for share in (0.01, 0.5, 0.99)]
        orders = [order(contenders, replace(weights, **{row.weight: value})) for value in inside]
        at = getattr(weights, row.weight)
        for one in contenders:
            for two in contenders:
                signs = {np.sign(o(one.name, two.name)) for v, o in zip(inside, orders, strict=True)
                         if abs(o(one.name, two.name)) > 1e-9 and (v < at) == (inside[0] < at)}  # fmt: skip
                assert len(signs) <= 1


@given(any_contenders, any_weights)
def test_the_safest_is_on_the_front_and_none_beats_it(contenders, weights):
    ranked = ranking(IPD, contenders, weights)
    found = front(ranked)
    if not contenders:
        assert found.empty
        return
    assert ranked["safety"].iloc[0] == pytest.approx((found["gain"] - found["penalty"]).max(), abs=1e-9)
    for row in found.itertuples():
        better = (ranked["gain"] > row.gain + 1e-9) & (ranked["penalty"] < row.penalty - 1e-9)
        assert not better.any()
    assert found["penalty"].is_monotonic_increasing and found["gain"].is_monotonic_increasing


def test_known_flips_of_the_prisoners_dilemma():
    """Tit-for-tat lets the exploiters lead by 0.3125, suspicious tit-for-tat by nothing; the rest is what divides
    them: 2.78906 - 1.8 / 6 against 2.30469 - 0.125 - 1.8 * 0.32643."""
    found = flips(IPD, scripted("ipd"), IPD.weights)
    pair = found[(found["up"] == "suspicious-tit-for-tat") & (found["down"] == "tit-for-tat")]
    (at,) = pair[pair["weight"] == "exploit"]["at"]
    assert at == pytest.approx((2.48906 - 1.59211) / 0.3125, abs=1e-3)


def test_terms_keep_their_order():
    terms = sk.exact.terms("ipd", sk.scripted(sk.get_game("ipd"), "grim-trigger"))
    np.testing.assert_array_equal(
        row_of(terms), [terms.payoff, terms.exploit, terms.collusion, terms.externality]
    )
