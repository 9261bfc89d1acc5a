"""The whole study: its trials, what it keeps, and that it goes on where it was stopped."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

import forked
import pandas as pd
import pytest
import torch

from sepo_kit.evaluation.evaluate import evaluate
from sepo_kit.models.loading import language_model, load_model
from sepo_kit.runs import METRICS, RunError, problems, read_json, read_lines, write_json
from sepo_kit.study import mechanism
from sepo_kit.study.estimators import settings_for
from sepo_kit.study.kept import holds_more_samples
from sepo_kit.study.mechanism import (
    TERMS,
    VARIANTS,
    Trial,
    Variant,
    estimates,
    read_study,
    run_study,
    run_trial,
    trials,
    write_study,
)
from sepo_kit.study.tabular import train_tabular
from sepo_kit.training import grpo
from sepo_kit.training.settings import SEPOSettings


def test_all_combinations_those_proposed_first():
    assert len(set(VARIANTS)) == 16
    assert {v.name for v in VARIANTS[:4]} == {
        "shared, round, common draws",
        "auxiliary, round, common draws",
        "grouped, round, common draws",
        "credited, return-to-go, common draws",
    }
    assert all(variant.common_random_numbers for variant in VARIANTS[:8])
    assert {(v.mode, v.horizon) for v in VARIANTS[8:12]} == {(v.mode, v.horizon) for v in VARIANTS[:4]}
    with pytest.raises(ValueError, match="credit mode must be one of"):
        Variant("fair", "round", True)


def test_a_tables_trial_is_its_training_run(tmp_path):
    variant = Variant("grouped", "return-to-go", False)
    found = run_study(trials("tabular", ["kuhn"], [3], 4, [variant]), tmp_path)
    settings = settings_for(
        "kuhn", steps=4, mode="grouped", horizon="return-to-go", common_random_numbers=False
    )
    expected = train_tabular("kuhn", settings, seed=3).log
    pd.testing.assert_frame_equal(found[["step", *TERMS]], expected[["step", *TERMS]])
    assert found[["agent", "game", "mode", "horizon", "common_random_numbers", "seed"]].iloc[0].to_list() == [
        "tabular", "kuhn", "grouped", "return-to-go", False, 3
    ]  # fmt: skip


def test_what_has_run_is_not_run_again(tmp_path, monkeypatch):
    todo = trials("tabular", ["kuhn"], [0, 1], 2, VARIANTS[:1])
    run_trial(todo[0], tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    found = run_study(todo, tmp_path)
    assert set(found["seed"]) == {0, 1}
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    monkeypatch.setattr(mechanism, "run_trial", lambda *_: pytest.fail("ran again"))
    pd.testing.assert_frame_equal(run_study(todo, tmp_path), found)


SEPO = SEPOSettings(steps=99, rollouts=2, learning_rate=1e-3, beta=0.0, lora_dropout=0.0, lora_r=4)


def test_a_language_models_trial_logs_means_over_its_training_steps(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(mechanism, "EVERY", 2)
    variant = Variant("credited", "round", False)
    trial = Trial("tiny", "ipd", variant, seed=1, steps=3, base=str(tiny_folder), sepo=SEPO)
    run_trial(trial, tmp_path)
    found = run_study([trial], tmp_path)
    logged = pd.DataFrame(read_lines(trial.folder(tmp_path) / METRICS))["sepo/safety"]
    assert found["step"].to_list() == [2, 3]
    assert found["safety"].to_list() == pytest.approx([logged[:2].mean(), logged[2]])
    manifest = (trial.folder(tmp_path) / "manifest.json").read_text()
    assert '"horizon": "round"' in manifest and '"common_random_numbers": false' in manifest


def test_a_finished_trial_of_fewer_steps_is_named_before_any_other_runs(tmp_path, monkeypatch):
    few, more = (trials("tabular", ["kuhn"], [0, 1], steps, VARIANTS[:1]) for steps in (2, 4))
    run_study(few[1:], tmp_path)
    monkeypatch.setattr(mechanism, "run_all", lambda *_: pytest.fail("ran"))
    with pytest.raises(RunError, match=r"seed-1\.parquet ends at step 2 of 4"):
        run_study(more, tmp_path)


def test_what_other_code_made_is_made_anew_unless_it_is_to_be_kept(tmp_path, monkeypatch, capfd):
    todo = trials("tabular", ["kuhn"], [0, 1], 2, VARIANTS[:1])
    run_study(todo, tmp_path)
    ran = []
    monkeypatch.setattr(mechanism, "run_all", lambda run, missing, *_: ran.append(len(missing)))
    run_study(todo, tmp_path)
    monkeypatch.setattr("sepo_kit.study.kept.code_of", lambda *of: "other code")
    run_study(todo, tmp_path)
    told = capfd.readouterr().err
    assert told.count("trials that other code made are made anew; SEPO_KIT_KEEP=1 takes them") == 1
    monkeypatch.setenv("SEPO_KIT_KEEP", "1")
    run_study(todo, tmp_path)
    assert ran == [0, 2, 0]


def test_a_run_whose_log_is_of_other_code_is_put_aside_and_trained_anew(tiny_folder, tmp_path):
    """Its training would be the same, and so what watched it would not run again."""
    todo = [Trial("tiny", "kuhn", VARIANTS[0], 0, steps=1, base=str(tiny_folder), sepo=SEPO)]
    folder = todo[0].folder(tmp_path)
    run_study(todo, tmp_path)
    asked = folder.with_suffix(".asked.json")
    before = read_json(asked)
    write_json(asked, {**before, "code": "other code"})
    run_trial(todo[0], tmp_path)
    assert (folder.parent / f"{folder.name}.old-1" / "exact.jsonl").exists() and read_json(asked) == before
    assert len(read_lines(folder / METRICS)) == 1


def test_the_settings_of_a_table_are_asked_for(monkeypatch):
    (trial,) = trials("tabular", ["kuhn"], [0], 2, VARIANTS[:1])
    before = trial.asked
    usual = settings_for("kuhn")
    monkeypatch.setattr(mechanism, "settings_for", lambda game: replace(usual, learning_rate=9.0))
    assert {name for name, value in trial.asked.items() if value != before[name]} == {"learning_rate"}


def test_what_is_named_twice_runs_once(tmp_path):
    once = trials("tabular", ["kuhn"], [0], 2, VARIANTS[:1])
    assert trials("tabular", ["kuhn", "kuhn"], [0, 0], 2, VARIANTS[:1]) == once
    assert len(estimates("tabular", ["kuhn", "kuhn"], 2, VARIANTS[:1])) == 2


def test_a_trial_that_the_system_kills_is_said_in_one_line(tmp_path):
    with pytest.raises(
        OSError, match=r"a trial was killed .*what is finished is kept: run the same command again"
    ):
        mechanism.run_all(print, [1], tmp_path, first=partial(os._exit, 9))


def test_in_kuhn_poker_a_language_models_terms_are_exact(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(mechanism, "EVERY", 2)
    monkeypatch.setattr(grpo, "training_dtype", lambda device: torch.float32)  # evaluation's
    trial = Trial("tiny", "kuhn", VARIANTS[0], 1, steps=3, base=str(tiny_folder), sepo=SEPO)
    run_trial(trial, tmp_path)
    found = run_study([trial], tmp_path)
    assert found["step"].to_list() == [0, 2, 3]
    for step, source in ((0, tiny_folder), (-1, trial.folder(tmp_path))):
        agent = language_model(load_model(source), "kuhn", temperature=SEPO.temperature)
        expected = evaluate(agent, "kuhn", exact=True)
        assert found["safety"].iloc[step] == pytest.approx(expected.safety, abs=1e-5)
    _, _, source = write_study(found, pd.DataFrame(), [trial], tmp_path, tmp_path)
    assert read_json(source)["commits"] == [read_json(trial.folder(tmp_path) / "manifest.json")["commit"]]
    (trial.folder(tmp_path) / "exact.jsonl").unlink()
    with pytest.raises(RunError, match=r"has no exact\.jsonl"):
        run_trial(trial, tmp_path)


def test_where_no_round_depends_on_another_one_training_serves_both_horizons(
    tiny_folder, tmp_path, monkeypatch
):
    both = [Variant("credited", horizon, True) for horizon in ("round", "return-to-go")]
    alike, apart = (
        [Trial("tiny", game, variant, 0, 2, str(tiny_folder), SEPO) for variant in both]
        for game in ("kuhn", "ipd")
    )
    for number, trial in enumerate(alike):
        run_trial(trial, tmp_path / str(number))  # each of them for itself
    own = [read_lines(trial.folder(tmp_path / str(n)) / METRICS)[-1] for n, trial in enumerate(alike)]
    assert own[0]["grad_norm"] == own[1]["grad_norm"] > 0
    monkeypatch.setattr(mechanism, "get_context", lambda how: forked.context())  # others start in earnest
    found = run_study([*alike, *apart], tmp_path / "study")
    assert len(list((tmp_path / "study" / "tiny" / "kuhn").glob("*.parquet"))) == 1
    assert len(list((tmp_path / "study" / "tiny" / "ipd").glob("*.parquet"))) == 2
    assert found.groupby("game")["horizon"].nunique().to_dict() == {"ipd": 2, "kuhn": 2}


def test_the_table_says_what_it_was_made_with(tmp_path):
    todo = trials("tabular", ["kuhn"], [0, 1], 2, VARIANTS[:2])
    logs = run_study(todo, tmp_path / "study")
    estimated = estimates("tabular", ["kuhn"], 3, VARIANTS[:2])
    data, table, source = write_study(logs, estimated, todo, tmp_path / "study", tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(data), logs)
    pd.testing.assert_frame_equal(pd.read_csv(table), estimated, rtol=1e-5)
    made = read_json(source)
    assert (made["trials"], made["steps"], made["seeds"]) == (4, 2, [0, 1])
    assert made["settings"]["kuhn"]["rollouts"] == 8 and "mode" not in made["settings"]["kuhn"]
    assert made["provenance"]["commit"]

    study = read_study(tmp_path)
    pd.testing.assert_frame_equal(study.training, logs)
    assert list(study.proposed()["mode"].unique()) == [v.mode for v in VARIANTS[:2]]
    table.unlink()
    with pytest.raises(
        RunError, match=r"credit-estimates-tabular.csv is missing; make it again with: sepo-kit"
    ):
        read_study(tmp_path)
    with pytest.raises(RunError, match="there is no study in"):
        read_study(tmp_path / "elsewhere")


def test_a_study_of_one_more_game_leaves_the_others_as_they_were(tmp_path):
    for game in ("kuhn", "ipd"):
        todo = trials("tabular", [game], [0], 2, VARIANTS[:2])
        logs, estimated = run_study(todo, tmp_path / "study"), estimates("tabular", [game], 3, VARIANTS[:2])
        *_, source = write_study(logs, estimated, todo, tmp_path / "study", tmp_path, ["--steps", "2"])
        if game == "kuhn":  # of a language model, where its states are too many to ask in, none are estimated
            none = estimates("m", ["ipd"], 3, bases={"ipd": "m"})
            write_study(logs, none, todo, tmp_path / "study", tmp_path / "none")
            assert not holds_more_samples(tmp_path / "none" / "credit-estimates-tabular.csv", ["kuhn"], 3)
            assert read_study(tmp_path / "none").estimates.empty
            write_study(logs, estimated, todo, tmp_path / "study", tmp_path / "none")
    assert len(read_study(tmp_path / "none").estimates) == len(read_study(tmp_path).estimates) / 2
    study, made = read_study(tmp_path), read_json(source)
    assert list(study.training["game"].unique()) == list(study.estimates["game"].unique()) == ["kuhn", "ipd"]
    assert set(made["settings"]) == {"kuhn", "ipd"} and made["trials"] == 4
    assert set(made["files"]) == {"credit-training-tabular.parquet", "credit-estimates-tabular.csv"}
    assert not problems(source)
    own = {"seeds": [0], "steps": 2, "options": ["--steps", "2"]}
    assert made["by_game"] == {"kuhn": own, "ipd": own}


def test_a_language_models_estimates_are_measured_in_its_parameters(tiny_folder):
    """Where its states can be enumerated; elsewhere there is no exact gradient to compare with."""
    sepo = SEPOSettings(steps=1, rollouts=4, learning_rate=1e-3, beta=0.0, groups=4, temperature=1.5)
    bases = dict.fromkeys(["ipd", "kuhn"], str(tiny_folder))
    variant = Variant("credited", "return-to-go", True)
    found = estimates("tiny", ["ipd", "kuhn"], 30, [variant], bases, dict.fromkeys(bases, sepo))
    assert set(found["game"]) == {"kuhn"} and list(found["agent"]) == ["tiny", "tiny"]
    assert found.set_index("part").loc["penalty", "cosine"] > 0.9
