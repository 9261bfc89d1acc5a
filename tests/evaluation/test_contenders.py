"""Contenders: what is read is what was evaluated, under any weights; what cannot be read becomes a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from finished import evaluation

import sepo_kit as sk
from sepo_kit.engine.tables import rounds_file
from sepo_kit.evaluation import contenders
from sepo_kit.evaluation.contenders import run_folders, scripted, stored
from sepo_kit.evaluation.statistics import over_seeds, reach
from sepo_kit.runs import read_json, sealed, write_json
from sepo_kit.runs.project import profile_of

PUBLISHED = Path(__file__).parents[2] / "data" / "results"
WEIGHTS = sk.Weights(0.7, 3.0, 0.2)


@pytest.mark.parametrize("game_id", sk.GAMES)
def test_stored_decisions_give_the_safety_of_an_evaluation_under_other_weights(tmp_path, game_id):
    game = sk.get_game(game_id)
    evaluation(tmp_path, game_id, "base", "uniform")
    (found,) = stored([tmp_path], game_id).contenders
    again = sk.evaluate(sk.uniform(game), game, 6, 10_000, WEIGHTS).estimates["safety"]
    estimate = found.safety(game.spec, WEIGHTS)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (again.value, again.low, again.high)
    )
    assert (found.name, found.kind) == ("pico base", "base")


def test_an_exact_evaluation_stays_exact(tmp_path):
    evaluation(tmp_path, "kuhn", "sepo", "tight-passive", 0, exact=True)
    found = stored([tmp_path], "kuhn")
    again = sk.evaluate(
        sk.scripted(sk.get_game("kuhn"), "tight-passive"), "kuhn", exact=True, weights=WEIGHTS
    )
    estimate = found.contenders[0].safety(sk.get_game("kuhn").spec, WEIGHTS)
    assert estimate.value == pytest.approx(again.safety, abs=1e-12)
    assert (estimate.low, estimate.high, found.decisions) == (estimate.value, estimate.value, 0)
    assert str(found) == "1 trained agent, enumerated exactly"


def test_seeds_are_averaged_with_the_interval_of_the_tables(tmp_path):
    strategies = ("mixed-0.5", "tit-for-tat", "always-defect")
    reports = [evaluation(tmp_path, "ipd", "sft", s, seed) for seed, s in enumerate(strategies)]
    (found,) = stored([tmp_path], "ipd").contenders
    spec = sk.get_game("ipd").spec
    rows = [report.estimates["safety"] for report in reports]
    values, low, high = ([getattr(row, end) for row in rows] for end in ("value", "low", "high"))
    expected = over_seeds(values, reach(values, low, high))
    estimate = found.safety(spec, spec.eval_weights)
    assert estimate.n == 3
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


def test_stored_worst_cases_are_read_and_averaged_over_seeds(tmp_path):
    for seed, strategy in enumerate(("tight-passive", "always-bet")):
        evaluation(tmp_path, "kuhn", "sepo", strategy, seed, exact=True)
    (both,) = stored([tmp_path], "kuhn").contenders
    assert both.worst_case.value == both.worst_case.low == both.worst_case.high == pytest.approx(0.5)


def with_worst_case(file, value, low, high):
    """Write another worst case into a result; None: as if it had not been looked for."""
    result = json.loads(file.read_text())
    kept = [row for row in result["metrics"] if row["metric"] not in ("worst_case", "guaranteed")]
    if value is not None:
        kept.append({"metric": "worst_case", "value": value, "low": low, "high": high, "n": 0})
    file.write_text(json.dumps({**result, "metrics": kept}))


@pytest.mark.parametrize("high", [0.9, None])
def test_of_bounds_the_means_over_seeds_are_taken_as_far_as_all_have_them(tmp_path, high):
    for seed in (0, 1):
        evaluation(tmp_path, "ipd", "sepo", "tit-for-tat", seed)
    one, two = sorted(tmp_path.glob("*/ipd/results/*.json"))
    with_worst_case(one, 0.2, 0.2, 0.5)
    with_worst_case(two, 0.4, 0.4, high)
    (found,) = stored([tmp_path], "ipd").contenders
    assert (found.worst_case.value, found.worst_case.low) == pytest.approx((0.3, 0.3))
    assert found.worst_case.high == (high and pytest.approx(0.7))
    with_worst_case(two, None, None, None)
    (found,) = stored([tmp_path], "ipd").contenders
    assert found.worst_case is None


def test_a_result_without_a_worst_case_has_none(tmp_path):
    evaluation(tmp_path, "kuhn", "base", "uniform", exact=True)
    (file,) = tmp_path.glob("*/kuhn/results/*.json")
    with_worst_case(file, None, None, None)
    (found,) = stored([tmp_path], "kuhn").contenders
    assert found.worst_case is None


def test_the_worst_case_of_a_bidder_by_the_last_round_is_exact_and_of_another_not_known():
    found = {c.name: c.worst_case for c in scripted("auction")}
    assert found["aggressive"].value == pytest.approx(0.25) and found["truthful"].value == pytest.approx(0.0)
    assert found["fictitious-play"] is None
    known = scripted("auction", known_worst_case=True)
    assert [c.name for c in known] == [name for name, worst in found.items() if worst is not None]


def test_a_strategy_without_a_known_worst_case_is_not_weighed_where_nobody_wants_it(monkeypatch):
    monkeypatch.setattr(contenders, "_strategy", lambda *args: pytest.fail("it was weighed"))
    assert scripted("negotiation_v2", known_worst_case=True) == ()


@pytest.mark.parametrize("game_id", ["negotiation_v2"])
def test_a_strategy_that_cannot_be_enumerated_is_sampled_as_evaluate_would(game_id):
    game = sk.get_game(game_id)
    found = {c.name: c for c in scripted(game, episodes=5, seed=3)}
    for name in ("fair", "greedy"):
        report = sk.evaluate(sk.scripted(game, name), game, 5, 3, WEIGHTS)
        estimate = found[name].safety(game.spec, WEIGHTS)
        assert estimate.value == pytest.approx(report.safety)
        assert estimate.low <= estimate.value <= estimate.high


def test_models_and_stages_stand_in_their_order_and_folders_are_told_apart(tmp_path):
    for folder, model, stage, seed in (
        ("quick", "pico", "sepo", 0),
        ("quick", "pico", "base", None),
        ("quick", "lab/small", "base", None),
        ("mine", "pico", "base", None),
    ):
        evaluation(tmp_path / folder, "kuhn", stage, "nash", seed, model=model, exact=True)
    quick = stored([tmp_path / "quick"], "kuhn")
    assert [c.name for c in quick.contenders] == ["lab/small base", "pico base", "pico SEPO"]
    both = stored(run_folders(tmp_path), "kuhn")
    names = [c.name for c in both.contenders]
    assert names[0] == "pico base (mine)" and len(set(names)) == 4


# --- bad input ------------------------------------------------------------------------------------


def broken(file):
    file.write_text("{")


def older(file):
    result = json.loads(file.read_text())
    del result["settings"]
    file.write_text(json.dumps(result))


def unlabelled(file):
    result = json.loads(file.read_text())
    result["label"]["stage"] = "<b>best</b>"
    file.write_text(json.dumps(result))


def other_numbers(file):
    result = json.loads(file.read_text())
    result["metrics"][0]["value"] += 1
    file.write_text(json.dumps(result))


def without_decisions(file):
    file.with_suffix(".parquet").unlink()


def half_a_table(file):
    table = file.with_suffix(".parquet")
    table.write_bytes(table.read_bytes()[:500])


def cut_table(file):
    table = file.with_suffix(".parquet")
    pd.read_parquet(table).head(5).to_parquet(table)


def without_rounds(file):
    rounds_file(file).unlink()


def cut_rounds(file):
    table = rounds_file(file)
    pd.read_parquet(table).head(5).to_parquet(table)


def other_columns(file):
    pd.DataFrame({"a": [1]}).to_parquet(file.with_suffix(".parquet"))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (broken, "not valid JSON"),
        (older, "not a result of this version; delete it and evaluate again"),
        (unlabelled, "not a result of this version"),
        (other_numbers, "does not belong to the decisions beside it"),
        (without_decisions, "no stored decisions to weigh; evaluate again"),
        (half_a_table, "cannot be read"),
        (cut_table, "some are missing; evaluate again"),
        (without_rounds, "no stored rounds to weigh; evaluate again"),
        (cut_rounds, "some are missing; evaluate again"),
        (other_columns, "has no column"),
    ],
)
def test_a_damaged_result_is_one_sentence_and_hides_no_other(tmp_path, damage, sentence):
    evaluation(tmp_path, "ipd", "base", "uniform")
    evaluation(tmp_path, "ipd", "sft", "uniform", 0)
    damage(tmp_path / "pico" / "ipd" / "results" / "base.json")
    found = stored([tmp_path], "ipd")
    assert [c.kind for c in found.contenders] == ["sft"]
    (problem,) = found.problems
    assert sentence in problem and "base" in problem and "\n" not in problem


def test_an_answer_that_is_missing_is_one_sentence(tmp_path):
    shutil.copytree(PUBLISHED / "reasoned", tmp_path / "reasoned")
    (file, *_) = tmp_path.glob("reasoned/*/kuhn/results/sft-seed-0.json")
    result = read_json(file)
    del result["policy"]["Jb"]
    write_json(file, sealed(result))
    found = stored([tmp_path / "reasoned"], "kuhn")
    (problem,) = found.problems
    assert "does not say how likely FOLD, CALL is in 'Jb' of kuhn" in problem and len(found.contenders) == 4


def test_agents_that_were_asked_are_weighed_by_their_answers(tmp_path):
    """The published results of agents that answer in words: their episodes are few and beside the point."""
    found = stored([PUBLISHED / "reasoned"], "kuhn")
    assert not found.problems and len(found.contenders) == 4 and found.exactly == 0
    table = pd.read_csv(PUBLISHED / "reasoned.csv")
    table = table[table["game"] == "kuhn"]
    spec = sk.get_game("kuhn").spec
    for one in found.contenders:
        rows = table[(table["stage"] == one.kind) & (table["metric"] == "safety")]
        estimate = one.safety(spec, spec.eval_weights)
        assert estimate.value == pytest.approx(rows["value"].mean(), abs=1e-9)
        assert estimate.low < estimate.value < estimate.high
    (base,) = (one for one in found.contenders if one.kind == "base")
    (stored_base,) = table[(table["stage"] == "base") & (table["metric"] == "safety")].itertuples()
    estimate = base.safety(spec, spec.eval_weights)
    assert (estimate.low, estimate.high) == pytest.approx((stored_base.low, stored_base.high), abs=0.05)


def test_no_runs_and_no_evaluations_are_not_errors(tmp_path):
    assert run_folders(tmp_path / "nowhere") == []
    assert run_folders(tmp_path) == []
    (tmp_path / "quick" / "pico" / "ipd").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    assert run_folders(tmp_path) == [tmp_path / "quick"]
    (tmp_path / "quick" / "mode=shared" / "pico" / "kuhn").mkdir(parents=True)
    assert [profile_of(folder) for folder in run_folders(tmp_path)] == ["quick", "quick,mode=shared"]
    shutil.rmtree(tmp_path / "quick" / "mode=shared")
    found = stored(run_folders(tmp_path), "ipd")
    assert found.contenders == []
    assert found.problems == ["quick has no finished evaluation of Iterated prisoner's dilemma yet"]


def test_a_hundred_thousand_decisions_are_one_contender(tmp_path):
    evaluation(tmp_path, "ipd", "base", "uniform", episodes=10)
    table = tmp_path / "pico" / "ipd" / "results" / "base.parquet"
    once = pd.read_parquet(table)
    copies = 100_000 // len(once) + 1
    for path in (table, rounds_file(table)):
        copied = [pd.read_parquet(path).assign(group=n) for n in range(copies)]
        pd.concat(copied, ignore_index=True).to_parquet(path)
    found = stored([tmp_path], "ipd")
    assert found.decisions >= 100_000 and not found.problems
    exact = sk.evaluate(sk.uniform(sk.get_game("ipd")), "ipd", 10, 10_000).safety
    spec = sk.get_game("ipd").spec
    assert found.contenders[0].safety(spec, spec.eval_weights).value == pytest.approx(exact)
    assert np.isfinite(found.contenders[0].samples).all()
