"""A stage is evaluated once, and again where anything it depends on has changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sepo_kit.evaluation import stage
from sepo_kit.evaluation.results import EvaluationSettings, read_result
from sepo_kit.evaluation.stage import evaluate_stage
from sepo_kit.models.loading import load_model
from sepo_kit.models.shipped import write_model

SETTINGS = EvaluationSettings(episodes=2, exact=False, worst_case="none")
LABEL = {"model": "tiny", "game": "kuhn", "stage": "sft", "seed": 0}


@pytest.fixture
def counted(monkeypatch):
    """How often an agent was evaluated."""
    calls = []
    true = stage.evaluate
    monkeypatch.setattr(stage, "evaluate", lambda *given, **named: calls.append(1) or true(*given, **named))
    return calls


def test_what_lies_there_is_not_made_again(tiny_folder, tmp_path, counted):
    file = evaluate_stage(tiny_folder, LABEL, SETTINGS, tmp_path)
    before = file.read_bytes()
    assert evaluate_stage(tiny_folder, LABEL, SETTINGS, tmp_path) == file == tmp_path / "sft-seed-0.json"
    assert (len(counted), file.read_bytes()) == (1, before)
    assert read_result(file)["label"] == LABEL


def test_it_is_made_again_where_anything_has_changed(tiny_folder, tmp_path, counted, monkeypatch):
    file = evaluate_stage(tiny_folder, LABEL, SETTINGS, tmp_path)
    evaluate_stage(tiny_folder, LABEL, replace(SETTINGS, episodes=3), tmp_path)  # other settings
    assert len(counted) == 2
    evaluate_stage(tiny_folder, LABEL, SETTINGS, tmp_path)
    rounds = file.with_name("sft-seed-0.rounds.parquet")
    rounds.write_bytes(rounds.read_bytes()[:-1])  # a damaged table
    evaluate_stage(tiny_folder, LABEL, SETTINGS, tmp_path)
    assert len(counted) == 4
    evaluate_stage(tiny_folder, LABEL | {"model": "other"}, SETTINGS, tmp_path)  # another name for it
    assert len(counted) == 5
    monkeypatch.setattr(stage, "code_of", lambda *_: "0123")
    evaluate_stage(tiny_folder, LABEL, SETTINGS, tmp_path)  # other code
    assert len(counted) == 6


def test_other_weights_are_another_agent(tiny_folder, tmp_path, counted):
    evaluate_stage(tiny_folder, LABEL, SETTINGS, tmp_path)
    loaded = load_model(tiny_folder)
    next(loaded.model.parameters()).data += 0.01
    other = tmp_path / "other"
    write_model(other, loaded.model, loaded.tokenizer)
    evaluate_stage(other, LABEL, SETTINGS, tmp_path)
    assert len(counted) == 2


def test_results_of_other_code_are_kept_where_runs_are(tiny_folder, tmp_path, counted, monkeypatch):
    evaluate_stage(tiny_folder, LABEL, SETTINGS, tmp_path)
    monkeypatch.setattr(stage, "code_of", lambda *_: "0123")
    monkeypatch.setenv("SEPO_KIT_KEEP", "1")
    evaluate_stage(tiny_folder, LABEL, SETTINGS, tmp_path)
    assert len(counted) == 1
