"""The paper's own opponents beside ours, exactly."""

from __future__ import annotations

import pandas as pd
import pytest

import sepo_kit as sk
from sepo_kit.cli import main
from sepo_kit.engine.policy import StrategyPolicy
from sepo_kit.evaluation import published_pools
from sepo_kit.evaluation.evidence import RESULTS, read_evidence
from sepo_kit.evaluation.published_pools import KIT, OPTIMUM, PUBLISHED, PublishedDilemma


def test_the_published_generous_tit_for_tat_forgives_less():
    """Always defecting meets it seven times after a defection: 5 points with the chance to be forgiven, else 1."""
    ours, theirs = sk.get_game("ipd"), PublishedDilemma()
    agent = sk.scripted(ours, "always-defect")
    for game, chance in ((ours, 1 / 3), (theirs, 0.25)):
        found = sk.exact.against(game, agent, game.strategy("generous-tit-for-tat"))
        assert found.own == pytest.approx((5 + 7 * (1 + 4 * chance)) / 8)
    assert ours.strategies["generous-tit-for-tat"].forgiveness == 1 / 3


def test_who_never_defects_first_earns_the_same_in_both_pools():
    for name, same in (("tit-for-tat", True), ("grim-trigger", True), ("always-defect", False)):
        ours, theirs = (
            sk.exact.terms(g, sk.scripted(g, name)) for g in (sk.get_game("ipd"), PublishedDilemma())
        )
        assert (ours.payoff == pytest.approx(theirs.payoff)) is same


def test_the_printed_equilibrium_is_none():
    printed = StrategyPolicy(published_pools.printed_nash())
    assert sk.exact.worst_case("kuhn", printed).advantage == pytest.approx(0.115)
    assert sk.exact.worst_case("kuhn", sk.scripted("kuhn", "nash")).advantage < 1e-9


def test_our_agents_meet_both():
    policies = pd.read_parquet(RESULTS / "worst-case-policies.parquet")
    part = policies[(policies["model"] == "pico") & (policies["seed"] == 0)]
    found = published_pools.against_both_nash(part).set_index("stage")
    assert set(found.index) == {"sft", "sepo", "worst-case"}
    assert found["gain"].to_numpy() == pytest.approx(-2 * found["payoff"].to_numpy())  # zero-sum
    assert found.loc["worst-case", "printed_gain"] < found.loc["sepo", "printed_gain"]


def test_what_there_was_to_win_in_kuhn_poker(tmp_path):
    assert main(["reference", "--games", "kuhn", "--results", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "reference.csv")
    assert list(table.columns) == list(published_pools.REFERENCE) and set(table["pools"]) == {KIT}
    best = table[table["kind"] == OPTIMUM].iloc[0]
    assert best["safety"] == pytest.approx(0.125) == table["safety"].max()
    nash = table[table["agent"] == "nash"].iloc[0]
    assert nash["safety"] == pytest.approx(1.5 * nash["payoff"]) and abs(nash["exploit"]) < 1e-9
    kept = read_evidence().reference
    assert kept[kept["game"] == "kuhn"]["safety"].to_numpy() == pytest.approx(table["safety"].to_numpy())
    assert '"command": "sepo-kit reference"' in (tmp_path / "reference.json").read_text()


def test_the_table_of_pools():
    table = pd.DataFrame({"game": "ipd", "pools": [KIT, PUBLISHED, KIT], "agent": ["a", "a", "b"],
                          "safety": [1.0, 0.5, 2.0]})  # fmt: skip
    assert published_pools.effect_of_pools(table).to_dict("records") == [
        {"agent": "a", KIT: 1.0, PUBLISHED: 0.5, "difference": -0.5}
    ]
