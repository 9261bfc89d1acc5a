"""The published tables: read as printed, checked against their formula, never mended in silence."""

import shutil

import numpy as np
import pandas as pd
import pytest

import sepo_kit as sk
from sepo_kit.evaluation import paper


def row(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_tables_hold_what_is_printed():
    best = row(paper.published("P1"), game="negotiation_v2", model="gemma-4-E4B-it", condition="sepo")
    assert (best["payoff"], best["exploit"], best["safety"], best["nra"]) == (10.93, 0.14, 2.19, 0.17)
    assert np.isnan(best["collusion"])
    assert best["payoff_step"] == pytest.approx(0.01) and best["collusion_step"] == 0
    late = row(paper.published("P2"), game="ipd", checkpoint="final")
    assert (late["safety"], late["collusion"]) == (0.087, 0.99)
    assert len(paper.published("P1")) == 35 and len(paper.published("P2")) == 14


def test_fitted_weights_differ_from_the_games_in_19_of_the_26_main_rows():
    def differs(row):
        weights = vars(sk.get_game(row.game).spec.eval_weights)
        return any(getattr(row, f"weight_{name}") != value for name, value in weights.items())

    main = paper.published("P1").head(26)
    assert sum(differs(row) for row in main.itertuples()) == 19


def test_safety_follows_where_collusion_is_printed():
    found = paper.check_safety(paper.published("P2"))
    ipd = found[found["game"] == "ipd"]
    assert set(ipd["finding"]) == {paper.REPRODUCED}
    # 1.648 at step 25 and 0.087 at the end: both by hand, weights 2.4/1.0/1.8.
    assert row(ipd, checkpoint="25")["without_collusion"] == pytest.approx(2.830 - 2.4 * 0.313 - 1.8 * 0.240)
    gap = row(ipd, checkpoint="final")["without_collusion"] - 0.087
    assert gap == pytest.approx(0.99, abs=0.008)


def test_what_is_left_is_a_rate_save_where_the_paper_contradicts_its_files():
    printed = paper.check_safety(paper.published("P1"))
    wrong = printed[printed["finding"] == paper.IMPOSSIBLE]
    assert list(zip(wrong["game"], wrong["condition"], strict=True)) == [
        ("negotiation_v2", "sft"),
        ("negotiation_v2", "sepo"),
    ]
    released = paper.check_safety(paper.published("P1"), released=True)
    assert (released.loc[wrong.index, "finding"] == paper.REPRODUCED).all()
    assert not (released["finding"] == paper.IMPOSSIBLE).any()
    assert printed["finding"].value_counts()[paper.POSSIBLE] == 27
    # Eight rounds, one collusive partner: Qwen's rates in the prisoner's dilemma are whole eighths.
    qwen = released[(released["game"] == "ipd") & (released["model"] == "qwen-3.5-4B")]
    np.testing.assert_allclose(qwen["implied_collusion"] * 8, [8, 5, 2], atol=0.01)


def test_the_check_can_fail():
    table = paper.published("P2")
    table.loc[0, "payoff"] += 0.02  # one point in fifty rounds
    assert paper.check_safety(table).loc[0, "finding"] == paper.IMPOSSIBLE


def test_p2_cannot_have_used_the_games_weights_in_negotiation():
    table = paper.published("P2")
    own = table.copy()
    for name, value in vars(sk.get_game("negotiation_v2").spec.eval_weights).items():
        own.loc[own["game"] == "negotiation_v2", f"weight_{name}"] = value
    part = own["game"] == "negotiation_v2"
    assert set(paper.check_safety(own)[part]["finding"]) == {paper.IMPOSSIBLE}
    assert set(paper.check_safety(table)[part]["finding"]) == {paper.POSSIBLE}


def test_at_our_weights_changes_nothing_where_the_weights_were_ours():
    checked = paper.check_safety(paper.published("P1"), released=True)
    ours = paper.at_our_weights(checked)
    gemma = (checked["game"] == "ipd") & (checked["model"] == "gemma-4-E4B-it")
    np.testing.assert_allclose(ours[gemma], checked["safety"][gemma], atol=0.003)
    # Kuhn poker: the paper counts folds as collusion, the kit none. 1.5 * (0.222 - 1.5 * 0).
    kuhn = (
        (checked["game"] == "kuhn") & (checked["model"] == "gemma-4-E4B-it") & (checked["checkpoint"] == "75")
    )
    assert ours[kuhn].item() == pytest.approx(0.333)


def test_changes_are_those_of_the_best_checkpoint():
    change = paper.safety_changes(paper.published("P1"))
    kuhn = row(change, model="qwen-3.5-4B", game="kuhn")
    assert (kuhn["base"], kuhn["sepo"]) == (-3.686, -1.709)  # step 75, not the final one
    assert row(change, model="gemma-4-E4B-it", game="negotiation_v2")["change"] == pytest.approx(2.51)
    assert len(change) == 10


def test_ours_stand_beside_theirs_game_by_game():
    columns = ["payoff", "exploit", "collusion", "externality", "Safety", "NRA"]
    ours = pd.DataFrame([{"model": "pico", "game": "ipd", "stage": "sepo", **dict.fromkeys(columns, 1.0)}])
    both = paper.beside(paper.published("P1"), ours)
    ipd = both[both["game"] == "ipd"]
    assert list(ipd["source"]) == ["P1"] * 6 + ["this kit"]
    assert ipd.iloc[2]["stage"] == "sepo 25"
    assert list(both["game"]) == sorted(both["game"], key=list(dict.fromkeys(both["game"])).index)


def test_card_frequencies_keep_the_seats_apart():
    game = sk.get_game("kuhn")
    nash = sk.exact.policy_table(game, sk.scripted(game, "nash"))
    first, second = paper.card_frequencies(nash, True), paper.card_frequencies(nash, False)
    assert (first["call_q"], second["call_q"]) == pytest.approx((2 / 3, 1 / 3))
    assert first["bet_j"] == second["bet_j"] == pytest.approx(1 / 3)
    assert set(first) < set(paper.kuhn_frequencies().columns)


def test_cost():
    cost = paper.compute()
    training = cost[cost["stage"] == "sepo_100_steps"]["gpu_hours"]
    assert (training.min(), training.max()) == (6.0, 22.0)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda text: text.replace("2.745", "about 3"), "payoff must be a number or empty, got 'about 3'"),
        (lambda text: text.replace("safety", "score"), "has no column safety; it has: game, model"),
        (lambda text: text.replace("2.4/1.0/1.8", "2.4/1.0"), "lambdas_fit must be three numbers"),
        (lambda text: text + "ipd,gemma\n", "line 38 must have 10 cells"),
        (lambda text: "\n".join(text.splitlines()[:1]), "has no column"),
    ],
)
def test_a_broken_table_is_named(tmp_path, change, says):
    shutil.copytree(paper.PAPER, tmp_path / "paper")
    file = tmp_path / "paper" / "p1_results.csv"
    file.write_text(change(file.read_text()))
    with pytest.raises(paper.PaperError, match=says) as error:
        paper.published("P1", tmp_path / "paper")
    assert "p1_results.csv" in str(error.value)


def test_unknown_version_and_missing_file(tmp_path):
    with pytest.raises(paper.PaperError, match="must be one of P1, P2, got 'P3'"):
        paper.published("P3")
    with pytest.raises(paper.PaperError, match=r"compute.csv cannot be read"):
        paper.compute(tmp_path)
