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
    def evaluated(label=LABEL, settings=SETTINGS) -> int:
        """How many evaluations it takes, which afterwards lie there."""
        before = len(counted)
        file = evaluate_stage(tiny_folder, label, settings, tmp_path)
        assert read_result(file)["label"] == label
        return len(counted) - before

    assert (evaluated(), evaluated()) == (1, 0)
    assert (evaluated(settings=replace(SETTINGS, episodes=3)), evaluated()) == (1, 1)
    assert (evaluated(LABEL | {"model": "another name"}), evaluated()) == (1, 1)
    rounds = tmp_path / "sft-seed-0.rounds.parquet"
    rounds.write_bytes(rounds.read_bytes()[:-1])
    assert (evaluated(), evaluated()) == (1, 0), "a damaged table"
    (tmp_path / "sft-seed-0.json").write_text("{}")
    assert (evaluated(), evaluated()) == (1, 0), "no result"
    monkeypatch.setattr(stage, "code_of", lambda *_: "0123")
    monkeypatch.setenv("SEPO_KIT_KEEP", "1")  # which is about runs
    assert (evaluated(), evaluated()) == (1, 0), "other code"
    elsewhere = {**stage.provenance(), "machine": "another"}
    monkeypatch.setattr(stage, "provenance", lambda: elsewhere)
    assert evaluated() == 1, "another machine"


def test_the_search_for_the_worst_case_is_as_long_as_the_settings_say(tiny_folder, tmp_path, monkeypatch):
    told = []
    true = stage.evaluate
    monkeypatch.setattr(
        stage,
        "evaluate",
        lambda *given, **named: told.append(named["search_episodes"]) or true(*given, **named),
    )
    for exact in (False, True):
        evaluate_stage(
            tiny_folder, LABEL, replace(SETTINGS, exact=exact, search_episodes=6), tmp_path / str(exact)
        )
    assert told == [6, 6, 6]


@pytest.mark.parametrize("part", ["weights", "chat template"])
def test_what_the_same_folder_holds_now_is_what_counts(tiny_folder, tmp_path, counted, part):
    folder, results = tmp_path / "model", tmp_path / "results"
    loaded = load_model(tiny_folder)
    write_model(folder, loaded.model, loaded.tokenizer)
    evaluate_stage(folder, LABEL, SETTINGS, results)
    if part == "weights":
        next(loaded.model.parameters()).data += 0.01
    else:
        loaded.tokenizer.chat_template += " "
    write_model(folder, loaded.model, loaded.tokenizer)
    evaluate_stage(folder, LABEL, SETTINGS, results)
    assert len(counted) == 2
