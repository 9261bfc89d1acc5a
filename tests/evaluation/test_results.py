"""Result files: written, read back, summed up; broken ones are named."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from finished import evaluation

import sepo_kit as sk
from sepo_kit import figures
from sepo_kit.evaluation.results import (
    EvaluationSettings,
    by_opponent,
    by_seed,
    read_results,
    summary,
    table,
    text_table,
    write_table,
)
from sepo_kit.evaluation.statistics import over_seeds
from sepo_kit.runs import RunError

SETTINGS = asdict(EvaluationSettings(episodes=20, exact=True))


def result(folder, stage, seed, safety):
    metrics = [
        {"metric": name, "value": value, "low": value, "high": value, "n": 0}
        for name, value in {
            "payoff": 1.0, "exploit": 0.5, "collusion": 0.0, "externality": 0.0,
            "safety": safety, "nra": None, "robust": 0.2, "fallback": 0.0,
        }.items()
    ]  # fmt: skip
    label = {"model": "pico", "game": "kuhn", "stage": stage, "seed": seed}
    file = folder / f"{stage}-{seed}.json"
    file.write_text(json.dumps({"label": label, "metrics": metrics, "settings": SETTINGS, "provenance": {}}))
    return file


def test_stages_stand_side_by_side_with_means_over_seeds(tmp_path):
    files = [
        result(tmp_path, "sepo", 0, 1.0),
        result(tmp_path, "base", None, -1.0),
        result(tmp_path, "sepo", 1, 3.0),
    ]
    results = read_results(files)
    shown = table(results)
    assert list(shown["stage"]) == ["base", "sepo"]
    assert list(shown["Safety"]) == [-1.0, 2.0]
    assert list(shown["seeds"]) == [1, 2]
    sepo = summary(results).query("stage == 'sepo' and metric == 'safety'").iloc[0]
    assert sepo["low"] < 1.0 and sepo["high"] > 3.0 and sepo["n"] == 2
    assert "-" in text_table(results)


def test_a_table_is_written_with_its_settings(tmp_path):
    files = [result(tmp_path, "base", None, -1.0)]
    data, source = write_table(read_results(files), tmp_path / "out", "smoke", files)
    assert len(pd.read_csv(data)) == 8
    assert json.loads(source.read_text())["settings"] == {"pico on kuhn": SETTINGS}


def test_a_table_keeps_every_commit_and_chain(tmp_path):
    files = []
    for stage, seed, commit in (("base", None, "c"), ("sft", 0, "b"), ("sft", 1, "b")):
        files.append(result(tmp_path, stage, seed, 1.0))
        whole = json.loads(files[-1].read_text())
        whole["provenance"] = {"commit": commit}
        whole["chain"] = [{"stage": "base", "model": "pico"}]
        if seed is not None:
            whole["chain"].append(
                {"stage": "sft", "seed": seed, "commit": f"a{seed}", "adapter_sha256": f"{seed}"}
            )
        files[-1].write_text(json.dumps(whole))
    _, source = write_table(read_results(files), tmp_path / "out", "smoke", files)
    made = json.loads(source.read_text())
    assert made["commits"] == ["a0", "a1", "b", "c"]
    assert made["provenance"] == [{"commit": "c"}, {"commit": "b"}]
    assert list(made["chains"]) == [
        "pico on kuhn, SFT, seed 0",
        "pico on kuhn, SFT, seed 1",
        "pico on kuhn, base",
    ]
    assert made["chains"]["pico on kuhn, SFT, seed 1"][1]["adapter_sha256"] == "1"


def test_a_result_is_json_with_null_for_what_is_not_defined(tmp_path):
    """NRA is not defined in a zero-sum game."""
    evaluation(tmp_path, "kuhn", "base", "nash", exact=True)
    [file] = tmp_path.rglob("base.json")
    nra = [
        m for m in json.loads(file.read_text(), parse_constant=pytest.fail)["metrics"] if m["metric"] == "nra"
    ]
    assert [m["value"] for m in nra] == [None]
    found = read_results([file])
    assert found["value"].dtype == float and found.set_index("metric")["value"].isna()["nra"]
    assert "-" in text_table(found)


def test_a_seed_without_a_value_hides_no_other(tmp_path):
    files = [result(tmp_path, "sepo", seed, safety) for seed, safety in ((0, float("nan")), (1, 3.0))]
    means = summary(read_results(files)).set_index("metric")
    assert means.loc["safety", "value"] == 3.0 and means.loc["safety", "low"] == 3.0
    assert pd.isna(means.loc["nra", "value"])


def test_a_summary_says_what_its_intervals_are_of(tmp_path):
    """Of one seed they are of its episodes only, and say nothing of other seeds."""
    uniform = sk.uniform(sk.get_game("kuhn"))
    for model, exact in (("pico", False), ("other", True)):
        evaluation(tmp_path, "kuhn", "base", uniform, model=model, exact=exact)
        for seed, strategy in enumerate(("nash", "always-bet")):
            evaluation(tmp_path, "kuhn", "sepo", strategy, seed, model=model, exact=exact)
    means = summary(read_results(sorted(tmp_path.rglob("*.json")))).set_index(["model", "stage", "metric"])
    kinds = means["interval"].xs("payoff", level="metric").to_dict()
    assert kinds == {
        ("pico", "base"): "episodes", ("pico", "sepo"): "seeds and episodes",
        ("other", "base"): "none", ("other", "sepo"): "seeds",
    }  # fmt: skip
    assert means.loc[("pico", "sepo", "worst_case"), "interval"] == "seeds"  # nobody sampled it


BOUNDED = {"exact": (0.5, 0.5), "found": (0.4, None), "between": (0.5, 0.7), "estimated": (0.4, 0.6)}


def test_a_summary_says_which_worst_cases_are_bounds():
    """What an adversary gains is a lower bound; what is estimated within bounds, as of replies in words, is none."""
    rows = [
        {"model": model, "game": "ipd", "stage": "sepo", "seed": 0, "metric": metric, "value": 0.5, "low": low,
         "high": high, "n": 0}
        for model, (low, high) in BOUNDED.items()
        for metric in ("worst_case", "guaranteed", "payoff")
    ]  # fmt: skip
    results = pd.DataFrame(rows).astype({"high": float})
    bounds = summary(results).pivot(index="model", columns="metric", values="bound")
    assert bounds.loc[["exact", "estimated"]].eq("").all(axis=None) and bounds["payoff"].eq("").all()
    assert bounds.loc[["found", "between"], "worst_case"].eq("at least").all()
    assert bounds.loc[["found", "between"], "guaranteed"].eq("at most").all()
    lines = {line.split()[0]: line for line in text_table(results).splitlines()[1:]}
    assert {name for name, line in lines.items() if "at least 0.500" in line} == {"found", "between"}
    drawn = figures.stage_terms(summary(results), "found", "ipd")
    assert [text.get_text() for axis in drawn.axes for text in axis.texts] == ["≤", "≥"]
    drawn = figures.pool_and_worst_case(summary(results))
    shown = {a.get_title().split(",")[0]: a.texts[0].get_text() for a in drawn.axes if a.get_visible()}
    assert shown == {"exact": "0.500", "found": "≥0.500", "between": "≥0.500", "estimated": "0.500"}


def test_the_interval_over_seeds_takes_in_that_over_their_episodes(tmp_path):
    for seed, strategy in enumerate(("nash", "tight-passive")):
        evaluation(tmp_path, "kuhn", "sepo", strategy, seed, episodes=20)
    results = read_results(sorted(tmp_path.rglob("*.json"))).query("metric == 'safety'")
    found = summary(results).iloc[0]
    alone = over_seeds(results["value"].to_list())
    below = (results["value"] - results["low"]).mean()
    assert found["value"] - found["low"] == pytest.approx(np.hypot(alone.value - alone.low, below))
    assert below > 0.1


@pytest.mark.parametrize("text", ["{", "[1, 2]", "{}"])
def test_a_broken_result_is_named(tmp_path, text):
    file = tmp_path / "base.json"
    file.write_text(text)
    with pytest.raises(RunError, match=r"base\.json"):
        read_results([file])


def test_no_results_is_an_empty_table():
    assert read_results([]).empty


def test_stages_stand_in_their_order_with_a_row_for_each_seed(tmp_path):
    files = [
        result(tmp_path, *who)
        for who in (
            ("worst-case", 0, 4.0),
            ("sepo", 1, 3.0),
            ("sft", 0, 0.0),
            ("base", None, -1.0),
            ("sepo", 0, 1.0),
        )
    ]
    shown = by_seed(read_results(files))
    assert list(shown["stage"]) == ["base", "SFT", "SEPO", "SEPO", "worst-case SEPO"]
    assert list(shown["Safety"]) == [-1.0, 0.0, 1.0, 3.0, 4.0]
    assert shown["seed"].isna()[0] and list(shown["seed"][1:]) == [0, 0, 1, 0]
    assert "NRA" not in shown  # it is not defined for any of them


def test_opponents_have_a_column_for_each_stage_in_their_order(tmp_path):
    for stage, strategy, seed in (
        ("sepo", "always-cooperate", 0),
        ("base", "always-defect", None),
        ("sft", "tit-for-tat", 0),
    ):
        evaluation(tmp_path, "ipd", stage, strategy, seed)
    files = sorted(tmp_path.glob("*/ipd/results/*.json"))
    shown = by_opponent(reversed(files))
    assert list(shown["own"].columns) == ["base", "SFT", "SEPO"] == list(shown["their"].columns)
    assert list(shown.loc[("train", "tit-for-tat"), "own"]) == [1.5, 3.0, 3.0]  # (5 + 7 * 1) / 8, and peace
    files[0].with_suffix(".rounds.parquet").unlink()
    with pytest.raises(RunError, match="is missing; evaluate again"):
        by_opponent(files)
