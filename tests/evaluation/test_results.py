"""Result files: written, read back, summed up; broken ones are named."""

import json

import pandas as pd
import pytest

from sepo_kit.evaluation.results import read_results, summary, table, text_table, write_table
from sepo_kit.runs import RunError


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
    file.write_text(json.dumps({"label": label, "metrics": metrics, "settings": {}, "provenance": {}}))
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
    assert json.loads(source.read_text())["settings"] == {"pico on kuhn": {}}


@pytest.mark.parametrize("text", ["{", "[1, 2]", "{}"])
def test_a_broken_result_is_named(tmp_path, text):
    file = tmp_path / "base.json"
    file.write_text(text)
    with pytest.raises(RunError, match=r"base\.json"):
        read_results([file])


def test_no_results_is_an_empty_table():
    assert read_results([]).empty
