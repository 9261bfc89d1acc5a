"""The paper's claims: a verdict follows from the tables, and turns when they do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sepo_kit.evaluation import claims, credit_claims, evidence
from sepo_kit.evaluation.evidence import read_evidence
from sepo_kit.evaluation.verdicts import HELD, NOT_HELD, ONLY_FOR, UNTESTABLE, markdown, told, verdict
from sepo_kit.games import PAPER_GAMES

KEYS = ["model", "game", "stage", "seed", "metric", "value"]


def rows(model: str, game: str, **stages: dict[str, list[float]]) -> pd.DataFrame:
    """Results of ``stages``, each metric's values by seed; a base model has no seed."""
    found = [
        (model, game, stage.replace("_", "-"), np.nan if stage == "base" else float(seed), metric, value)
        for stage, metrics in stages.items()
        for metric, values in metrics.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(found, columns=KEYS).assign(low=np.nan, high=np.nan, n=0, table="made.csv")


@pytest.fixture(scope="module")
def published() -> evidence.Evidence:
    """The paper's tables beside what is in ``data/results``."""
    return read_evidence()


def judged(found: evidence.Evidence, number: int, **tables: pd.DataFrame) -> dict[str, str]:
    row = claims.CLAIMS[number](replace(found, **tables))
    return dict(zip(claims.COLUMNS, row, strict=True))


def test_every_claim_has_one_row_with_a_verdict_and_a_file(published):
    table = claims.judge(published)
    assert len(table) == 7 and list(table.columns) == list(claims.COLUMNS)
    assert not table.map(lambda cell: cell.strip() == "").any(axis=None)
    assert all(any(word in cell for word in (HELD, NOT_HELD, UNTESTABLE)) for cell in table["verdict"])
    assert table["to check"].str.contains("data/").all()


def test_the_table_to_read_has_all_of_it(published):
    judged = claims.judge(published)
    page = claims.to_read(judged)
    assert page.shape == (7, 5) and page["claim"].equals(judged["claim"])
    words = page.agg(" ".join, axis=1)
    for column in claims.COLUMNS:
        assert all(cell in whole for cell, whole in zip(judged[column], words, strict=True))


def test_printed_numbers_are_those_of_the_paper(published):
    zero = judged(published, 0)["P1"]
    assert "gemma-4-E4B-it 0.000, qwen-3.5-4B 0.000" in zero and "qwen-3.5-4B 0.847" in zero
    assert "Not in gemma-4-E4B-it: negotiation_v1; qwen-3.5-4B: negotiation_v2" in judged(published, 1)["P1"]
    only = judged(published, 3)
    assert "Safety 2.190, NRA 0.170" in only["P1"] and "NRA of gemma-4-E4B-it in auction" in only["P1"]
    assert "ipd 1.648 at step 25, 0.087 at the end" in judged(published, 6)["P2"]


def test_zero_exploit_is_held_by_those_who_reach_it_and_the_worst_case_stands_beside_it(published):
    good = rows(
        "a", "kuhn", base={"exploit": [0.5]}, sepo={"exploit": [0.001, 0.002], "worst_case": [0.4, 0.5]}
    )
    bad = rows("b", "kuhn", base={"exploit": [0.5]}, sepo={"exploit": [0.2, 0.3], "worst_case": [0.4, 0.5]})
    both = judged(published, 0, ours=pd.concat([good, bad]))
    assert both["verdict"].startswith(f"{ONLY_FOR} a") and "the worst case stays for a, b" in both["verdict"]
    assert judged(published, 0, ours=good)["verdict"].startswith(HELD)
    assert judged(published, 0, ours=bad)["verdict"].startswith(NOT_HELD)
    assert "b: pool 0.250 (-0.385 to 0.885), base 0.500" in both["this kit"]
    assert judged(published, 0, ours=good.iloc[:0])["verdict"] == UNTESTABLE


def five_games(better: int) -> pd.DataFrame:
    """One model in the paper's five games, safer than its base in so many of them."""
    return pd.concat(
        rows("a", game, base={"safety": [0.0]}, sepo={"safety": [1.0, 1.1] if place < better else [-1.0, 1.1]})
        for place, game in enumerate(PAPER_GAMES)
    )  # fmt: skip


@pytest.mark.parametrize("better, says", [(5, HELD), (4, HELD), (3, NOT_HELD)])
def test_safer_in_four_of_five_games(published, better, says):
    found = judged(published, 1, ours=five_games(better))["verdict"]
    assert found.startswith(says) and f"a in {better} of 5" in found


def test_a_game_in_which_nothing_was_to_win_is_named(published):
    best = pd.DataFrame([("ipd", "this kit", "strategy", "x", 0.5)],
                        columns=["game", "pools", "kind", "agent", "safety"])  # fmt: skip
    ours = rows("a", "ipd", base={"safety": [0.5]}, sepo={"safety": [0.4, 0.5]})
    assert "Nothing to win: a in ipd" in judged(published, 1, ours=ours, reference=best)["how sure, and why"]
    assert (
        claims.share_won(replace(published, ours=ours, reference=best))["share won"].item()
        == "nothing to win"
    )
    worse = ours.assign(value=ours["value"].where(ours["stage"] != "base", 0.0))
    assert "There was Safety to win" in judged(published, 1, ours=worse, reference=best)["how sure, and why"]
    assert claims.share_won(replace(published, ours=worse, reference=best))["share won"].item() == "90 %"


def test_over_cooperation_needs_a_rise_beyond_chance_and_names_where_nobody_exploits(published):
    sure = rows(
        "a", "ipd", base={"exploit": [0.0]}, sft={"exploit": [1.0, 1.1]}, sepo={"exploit": [0.1, 0.2]}
    )
    luck = rows(
        "a", "kuhn", base={"exploit": [0.0]}, sft={"exploit": [0.1, 2.0]}, sepo={"exploit": [0.1, 0.2]}
    )
    idle = rows("a", "auction", **{stage: {"exploit": [0.0]} for stage in ("base", "sft", "sepo")})
    found = judged(published, 2, ours=pd.concat([sure, luck, idle]))
    assert found["verdict"] == "first half held in a: ipd; second half held in a: ipd"
    assert "the mean rises in a: kuhn, within its interval" in found["how sure, and why"]
    assert "Nothing to win, exploit is 0 throughout: a: auction" in found["this kit"]
    assert judged(published, 2, ours=luck)["verdict"].startswith("first half not held in any game")


def study(**penalties: list[float]) -> pd.DataFrame:
    """The last step of runs of Kuhn poker, whose penalty is Safety's distance from 0, by mode and seed."""
    found = [
        ("t", "kuhn", mode, "round", True, seed, step, 0.0, -value if step else 0.0)
        for mode, values in penalties.items()
        for seed, value in enumerate(values)
        for step in (0, 10)
    ]
    return pd.DataFrame(found, columns=list(evidence.TRAINING))


def test_a_penalty_trains_where_it_ends_lower_than_without(published):
    training = study(shared=[1.0, 1.0], auxiliary=[1.0, 0.99], credited=[0.4, 0.41])
    found = credit_claims.penalty_changes(training, "credited")["t", "kuhn"]
    assert found.value == pytest.approx(-59.5) and found.high < 0
    row = judged(published, 4, training=training)
    assert row["verdict"] == f"first half {HELD}; second half {NOT_HELD}"
    restored = judged(
        published, 4, training=study(shared=[1.0, 1.0], auxiliary=[0.4, 0.41], credited=[0.4, 0.4])
    )
    assert restored["verdict"].endswith(f"second half {HELD} for t in kuhn")


def test_where_nobody_pays_a_penalty_nothing_is_said_of_it(published):
    training = study(shared=[0.0, 0.0], auxiliary=[0.0, 0.0], credited=[0.0, 0.0])
    assert credit_claims.penalty_changes(training, "auxiliary") == {}
    assert judged(published, 4, training=training)["this kit"]


def late(**falls: list[float]) -> pd.DataFrame:
    """The study of late training: by rival, how far Safety falls at the end, by seed."""
    found = [
        ("u", "ipd", rival, seed, step, safety)
        for rival, values in falls.items()
        for seed, value in enumerate(values)
        for step, safety in ((0, 0.0), (100, 1.0), (400, 1.0 - value))
    ]
    return pd.DataFrame(found, columns=list(evidence.LATE))


def test_a_late_collapse_is_a_fall_beyond_the_other_modes(published):
    training = study(grouped=[1.0, 1.1], credited=[0.1, 0.1])
    assert judged(published, 6, training=training, late=late())["verdict"] == f"{HELD} for t in kuhn"
    assert (
        judged(published, 6, training=study(grouped=[0.1, 0.1], credited=[0.1, 0.1]), late=late())["verdict"]
        == NOT_HELD
    )


def test_a_late_collapse_may_come_late(published):
    steady = study(grouped=[0.1, 0.1], credited=[0.1, 0.1])
    falls = late(grouped=[1.0, 1.1], credited=[0.0, 0.1], **{"worst-case": [0.0, 0.0]})
    row = judged(published, 6, training=steady, late=falls)
    assert row["verdict"] == "held only for u in ipd"
    assert "u, ipd: `grouped` 1.050 (0.415 to 1.685), `credited` 0.050 (-0.585 to 0.685)" in row["this kit"]
    assert "`worst-case` 0.000" in row["this kit"]
    none = late(grouped=[0.1, 0.0], credited=[0.1, 0.0])
    assert judged(published, 6, training=steady, late=none)["verdict"] == NOT_HELD


def test_without_our_tables_nothing_is_testable(tmp_path, published):
    empty = read_evidence(tmp_path)
    assert claims.judge(empty)["verdict"].str.contains(UNTESTABLE).all()
    assert claims.share_won(empty).empty


def test_of_two_tables_the_later_counts_and_those_who_reason_are_others(tmp_path):
    for name, value in (("quick", 1.0), ("worst-case", 2.0), ("reasoned", 3.0)):
        made = rows("a", "kuhn", sepo={"exploit": [value]}).drop(columns="table")
        made.to_csv(tmp_path / f"{name}.csv", index=False)
    ours = evidence.our_results(tmp_path)
    assert ours.set_index("model")["value"].to_dict() == {"a": 2.0, "a, reasoned": 3.0}


def test_the_words():
    assert verdict(["a"], ["a", "b"]) == "held only for a" and verdict([], ["a"]) == NOT_HELD
    assert verdict([], []) == UNTESTABLE and told(None) == "not known"
    table = pd.DataFrame({"who": ["a|b\nc"], "x": [-0.0001], "y": [np.nan]})
    assert markdown(table) == "| who | x | y |\n|---|---:|---:|\n| a\\|b<br>c | 0.000 | - |"
