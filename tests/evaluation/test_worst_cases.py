"""The tables of notebook 10: what they say is what the solver says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from finished import evaluation, kuhn_stages

import sepo_kit as sk
from sepo_kit.engine.policy import StrategyPolicy
from sepo_kit.evaluation import worst_cases
from sepo_kit.evaluation.results import read_results
from sepo_kit.games.kuhn import equilibrium

KUHN = sk.get_game("kuhn")


@pytest.fixture
def files(tmp_path):
    return kuhn_stages(tmp_path)


def rows(metric, value, low, high, stage="sepo", seed=0):
    return {"model": "pico", "game": "ipd", "stage": stage, "seed": seed, "metric": metric, "value": value, "low": low,
            "high": high, "n": 0}  # fmt: skip


def test_pool_and_worst_case_stand_side_by_side_as_means_over_seeds(files):
    found = worst_cases.pool_and_worst_case(read_results(files)).set_index("stage")
    assert found.loc["SEPO", "seeds"] == 2 and found.loc["SEPO", "worst case"] == "0.500"
    assert found.loc["worst-case SEPO", ["worst case", "guaranteed"]].tolist() == ["0.000", "0.042"]
    one, two = (sk.evaluate(sk.scripted(KUHN, n), KUHN, exact=True) for n in ("tight-passive", "always-bet"))
    assert found.loc["SEPO", "exploit"] == pytest.approx((one.terms.exploit + two.terms.exploit) / 2)
    assert float(found.loc["SEPO", "guaranteed"]) == pytest.approx(
        (one.guaranteed + two.guaranteed) / 2, abs=6e-4
    )


def test_a_bound_is_said_as_a_bound_and_what_is_not_known_is_left_out():
    frame = pd.DataFrame(
        [
            *(rows(m, 1.0, 1.0, 1.0, s) for m in ("payoff", "exploit", "safety") for s in ("base", "sft", "sepo")),
            rows("worst_case", 0.5, 0.5, np.nan, "sft"), rows("guaranteed", 0.2, np.nan, 0.2, "sft"),
            rows("worst_case", 0.5, 0.5, 0.9), rows("guaranteed", 0.2, -0.4, 0.2),
            rows("worst_case", np.nan, np.nan, np.nan, "base"), rows("guaranteed", np.nan, np.nan, np.nan, "base"),
        ]
    )  # fmt: skip
    found = worst_cases.pool_and_worst_case(frame).set_index("stage")
    assert found.loc["SFT", ["worst case", "guaranteed"]].tolist() == ["≥ 0.500", "≤ 0.200"]
    assert found.loc["SEPO", ["worst case", "guaranteed"]].tolist() == ["0.500 to 0.900", "-0.400 to 0.200"]
    assert "base" not in found.index


def test_a_stage_is_added_only_where_it_is_missing(tmp_path):
    for root, stage in (("one", "sepo"), ("two", "sepo"), ("two", "worst-case")):
        evaluation(tmp_path / root, "kuhn", stage, "nash", 0, exact=True)
    evaluation(tmp_path / "two", "ipd", "worst-case", "tit-for-tat", 0)
    one, two = (sorted((tmp_path / root).glob("*/*/results/*.json")) for root in ("one", "two"))
    joined = worst_cases.with_stage(one, two)
    assert [(f.parts[-5], f.parts[-3], f.stem) for f in joined] == [
        ("one", "kuhn", "sepo-seed-0"),
        ("two", "kuhn", "worst-case-seed-0"),
    ]
    assert worst_cases.with_stage(joined, two) == joined


def test_the_landscape_has_every_strategy_and_every_seed(files):
    points = worst_cases.landscape(files, "kuhn")
    scripted = points[points["kind"] == "scripted"].set_index("agent")
    for name in KUHN.strategies:
        agent = sk.scripted(KUHN, name)
        assert scripted.loc[name, "worst_case"] == pytest.approx(sk.exact.worst_case(KUHN, agent).advantage)
        assert scripted.loc[name, "payoff"] == pytest.approx(sk.exact.terms(KUHN, agent).payoff)
    sepo = points[points["kind"] == "sepo"].sort_values("seed")
    assert sepo["worst_case"].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert points[points["kind"] == "base"]["seed"].isna().all()


# --- the adversary --------------------------------------------------------------------------------


def test_the_adversary_stands_beside_the_agent_at_every_information_state():
    agent = sk.scripted(KUHN, "tight-passive")  # never bets, calls with the King alone
    adversary = sk.exact.worst_case(KUHN, agent).adversary
    found = worst_cases.side_by_side(KUHN, agent, adversary).set_index("state")
    assert len(found) == 12 and found.loc["K", "situation"].startswith(
        "Your card: King. You are first to act."
    )
    assert (
        found.loc["J", "agent"] == "PASS" and found.loc["J", "adversary"] == "BET"
    )  # it folds two of three hands
    assert found.loc["Kb", "adversary"] == worst_cases.NEVER  # nobody ever bets at it
    mixed = worst_cases.side_by_side(KUHN, sk.scripted(KUHN, "nash"), adversary).set_index("state")
    assert mixed.loc["J", "agent"] == "PASS 0.67, BET 0.33"


def test_moves_add_up_to_what_the_adversary_earned():
    agent = sk.scripted(KUHN, "tight-passive")
    adversary = sk.exact.worst_case(KUHN, agent).adversary
    moves = worst_cases.moves(KUHN, agent, adversary, 3, seed=4)
    played = sk.play(KUHN, agent, adversary, 3, 4)
    assert moves["lead"].dropna().iloc[-1] == sum(sum(e.their) - sum(e.own) for e in played)
    assert moves["earned"].notna().sum() == 3 * KUHN.spec.rounds
    mine = moves[moves["who"] == worst_cases.AGENT]["action"].tolist()
    assert mine == [decision.action for episode in played for decision in episode.decisions]
    assert moves["told"].iloc[0].startswith("Your card")
    pd.testing.assert_frame_equal(moves, worst_cases.moves(KUHN, agent, adversary, 3, seed=4))


# --- equilibria -----------------------------------------------------------------------------------


def test_nobody_gains_on_an_equilibrium_and_alpha_decides_what_it_earns():
    family = worst_cases.equilibria((0.0, 0.1, 1 / 3))
    assert family["worst_case"].abs().max() < 1e-12 and family["exploit"].abs().max() < 1e-12
    np.testing.assert_allclose(family["guaranteed"], family["safety"])
    nash = sk.exact.terms(KUHN, sk.scripted(KUHN, "nash"))
    assert family["payoff"].iloc[-1] == pytest.approx(nash.payoff)
    assert family["payoff"].is_monotonic_decreasing


def test_the_nearest_equilibrium_of_one_of_them_is_itself():
    alpha, apart = worst_cases.nearest_alpha(StrategyPolicy(equilibrium(0.2)))
    assert (alpha, apart) == (pytest.approx(0.2), pytest.approx(0.0, abs=1e-12))
    found = worst_cases.distances([sk.scripted(KUHN, "always-pass"), sk.scripted(KUHN, "nash")]).set_index(
        "agent"
    )
    assert found.loc["always-pass"].tolist() == pytest.approx([0.0, 1.0, 2.0])
    assert found.loc["nash"].tolist() == pytest.approx([1 / 3, 0.0, 0.0], abs=1e-12)
