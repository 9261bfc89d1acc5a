"""The studies of rivals: their trials, what each is judged by, and that they go on where they were stopped."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest

from sepo_kit import exact
from sepo_kit.adversaries.worst_case import KnownWorstCase, find_worst_case
from sepo_kit.engine.policy import scripted
from sepo_kit.evaluation.evidence import RESULTS
from sepo_kit.games import get_game
from sepo_kit.games.base import Weights
from sepo_kit.models.loading import language_model, load_model
from sepo_kit.pipeline.profiles import get_profile
from sepo_kit.runs import RunError, read_json, write_json
from sepo_kit.runs.trace import trace
from sepo_kit.study import exact_curve, rivals
from sepo_kit.study.ablations import ABLATIONS, AS_TRAINED
from sepo_kit.study.estimators import settings_for, start_of
from sepo_kit.study.exploiters import EXPLOITERS, RIVALS, of_models
from sepo_kit.study.kept import holds_more, holds_more_samples, made_beside_others
from sepo_kit.study.late import LATE
from sepo_kit.study.rivals import COLUMNS, RivalTrial, ends, read_rivals, run_rival, run_rivals, write_rivals
from sepo_kit.study.studies import STUDIES, missing_studies
from sepo_kit.study.tabular import train_tabular
from sepo_kit.training.settings import SEPOSettings

SEPO = SEPOSettings(steps=3, rollouts=2, learning_rate=1e-3, beta=0.0, lora_dropout=0.0, lora_r=4)


def test_studies_that_are_not_there_are_named_with_the_commands_that_make_them(tmp_path):
    assert missing_studies(RESULTS) == {}
    (tmp_path / "late-training-pico.parquet").touch()
    found = missing_studies(tmp_path)
    assert list(found) == ["credit", "exploiters", "ablations"]
    assert found["ablations"] == "sepo-kit study pico --ablations"


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("game", ["ipd", "kuhn"])
def test_every_rival_trains_a_table(rival, game):
    settings = EXPLOITERS.trials("tabular", [game], [0], 1, [rival])[0].settings
    log = train_tabular(game, settings, 0, start_of(game)).log
    assert log["step"].to_list() == [0, 1] and log["worst_case"].notna().all()
    assert settings.schedule == ("constant" if rival in ("constant step", "self-play renewal") else "linear")


def test_a_tables_trial_is_its_training_run_judged_exactly(tmp_path):
    found = run_rivals(EXPLOITERS.trials("tabular", ["kuhn"], [3], 4, ["worst-case"]), tmp_path)
    settings = settings_for("kuhn", steps=4, schedule="linear", exploiters="worst-case")
    expected = train_tabular("kuhn", settings, seed=3)
    pd.testing.assert_frame_equal(found[list(COLUMNS[:-2])], expected.log[list(COLUMNS[:-2])])
    assert (found["worst_case"] == found["worst_case_upper"]).all()
    assert found[["agent", "game", "rival", "seed"]].iloc[0].to_list() == ["tabular", "kuhn", "worst-case", 3]


def test_what_has_run_is_not_run_again(tmp_path, monkeypatch):
    todo = EXPLOITERS.trials("tabular", ["kuhn"], [0, 1], 2, ["pool", "population"])
    assert [(t.seed, t.rival) for t in todo] == [
        (0, "pool"),
        (0, "population"),
        (1, "pool"),
        (1, "population"),
    ]
    run_rival(todo[0], tmp_path)
    found = run_rivals(todo, tmp_path)
    monkeypatch.setattr(rivals, "run_rival", lambda *_: pytest.fail("ran again"))
    pd.testing.assert_frame_equal(run_rivals(todo, tmp_path), found)
    assert found.groupby(["rival", "seed"]).ngroups == 4


def test_what_is_named_twice_runs_once():
    twice = EXPLOITERS.trials("tabular", ["kuhn", "kuhn"], [0, 0], 2, ["pool", "pool"])
    assert twice == EXPLOITERS.trials("tabular", ["kuhn"], [0], 2, ["pool"])


def test_what_was_asked_for_otherwise_is_not_taken_for_this(tmp_path):
    few, more = (EXPLOITERS.trials("tabular", ["kuhn"], [0], steps, ["pool"]) for steps in (2, 4))
    run_rivals(few, tmp_path)
    with pytest.raises(RunError, match=r"pool-seed-0.parquet is of other settings \(steps was 2, is 4\)"):
        run_rivals(more, tmp_path)
    (tmp_path / "tabular" / "kuhn" / "pool-seed-0.asked.json").unlink()
    with pytest.raises(RunError, match="nothing says which"):
        run_rivals(few, tmp_path)


def test_an_agent_that_answers_in_words_is_refused_before_it_is_trained():
    with pytest.raises(ValueError, match="with style='reasoned' it states none"):
        EXPLOITERS.trials(
            "a", ["kuhn"], [0], bases={"kuhn": "a"}, sepo={"kuhn": replace(SEPO, style="reasoned")}
        )


def test_ablations_change_one_setting_of_those_that_are_given():
    found = ABLATIONS.rivals("pico", "kuhn", replace(SEPO, weights=Weights(3.0, 2.0, 1.0)))
    assert found["weights x 0.5"]["weights"] == Weights(1.5, 1.0, 0.5)
    assert "half the rollouts" not in found  # of two
    assert ABLATIONS.rivals("pico", "kuhn", replace(SEPO, rollouts=4))["half the rollouts"] == {"rollouts": 2}


def test_an_unknown_rival_is_named():
    with pytest.raises(ValueError, match=r"rival must be one of pool, worst-case, .* got 'fate'"):
        EXPLOITERS.trials("tabular", ["kuhn"], [0], 2, ["fate"])


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_trial_has_a_folder_of_a_plain_name(study, tmp_path):
    games = ("ipd", "kuhn")
    sepo = {game: get_profile("quick").plan("pico", game).sepo for game in games}
    todo = study.trials("pico", games, [0, 1], bases=dict.fromkeys(games, "pico"), sepo=sepo)
    folders = [trial.folder(tmp_path) for trial in todo]
    assert len(set(folders)) == len(todo) > 4
    assert all(re.fullmatch(r"[\w-]+", folder.name) for folder in folders)


def test_a_language_models_trial_is_judged_apart_from_its_training(tiny_folder, tmp_path):
    settings = replace(SEPO, exploiters="worst-case", schedule="linear")
    trial = RivalTrial("tiny", "kuhn", "worst-case", 1, settings, str(tiny_folder))
    found = run_rivals([trial], tmp_path)
    assert found["step"].to_list() == [0, 3]
    for row, source in ((0, tiny_folder), (-1, trial.folder(tmp_path))):
        agent = language_model(load_model(source), "kuhn", temperature=SEPO.temperature)
        expected = exact.worst_case("kuhn", agent).advantage
        assert found["worst_case"].iloc[row] == pytest.approx(
            expected, abs=2e-2
        )  # trained in bfloat16 on some
        assert found["exploit"].iloc[row] == pytest.approx(exact.terms("kuhn", agent).exploit, abs=2e-2)
    manifest = read_json(trial.folder(tmp_path) / "manifest.json")
    settings = manifest["request"]["settings"]
    assert (settings["exploiters"], settings["schedule"], settings["steps"]) == ("worst-case", "linear", 3)
    *_, source = write_rivals("exploiters", found, [trial], tmp_path, tmp_path)
    assert read_json(source)["commits"] == [manifest["commit"]]


def test_where_states_are_many_the_worst_case_has_bounds(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(exact_curve, "EPISODES", 2)
    monkeypatch.setattr(exact_curve, "SEARCH", 2)
    trial = RivalTrial("tiny", "ipd", "pool", 0, replace(SEPO, steps=1), str(tiny_folder))
    run_rival(trial, tmp_path)  # in this process, which searches less far than the study does
    found = run_rivals([trial], tmp_path)
    assert found["step"].to_list() == [0, 1]
    # Equal where the search proves it.
    assert (found["worst_case"] > 0).all() and (found["worst_case"] <= found["worst_case_upper"] + 1e-9).all()
    assert found["payoff"].between(0, 5).all()


def test_where_nature_moves_the_worst_case_is_what_the_best_adversary_found_gains(
    tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(exact_curve, "EPISODES", 2)
    agent = scripted(get_game("auction"), "fictitious-play")
    found = exact_curve.judged(get_game("auction"), agent)
    known = find_worst_case("auction", agent, seed=exact_curve.SEED)
    assert (found["worst_case"], found["worst_case_upper"]) == (known.value, None)

    monkeypatch.setattr(exact_curve, "find_worst_case", lambda *_, **__: KnownWorstCase(0.25, 0.2))
    trial = RivalTrial("tiny", "auction", "pool", 0, replace(SEPO, steps=1), str(tiny_folder))
    run_rival(trial, tmp_path)
    found = run_rivals([trial], tmp_path)
    assert found["worst_case"].to_list() == [0.25, 0.25] and found["worst_case_upper"].isna().all()


def test_a_profiles_settings_become_those_of_the_study():
    plan = get_profile("quick").plan("pico", "kuhn").sepo
    few, many = of_models(plan, "kuhn"), of_models(plan, "ipd")
    assert (few.steps, few.learning_rate, few.beta, few.exploiters_every) == (300, 1e-3, 0.0, 1)
    assert (many.steps, many.learning_rate, many.beta, many.exploiters_every) == (
        150, plan.learning_rate, plan.beta, 5
    )  # fmt: skip
    todo = EXPLOITERS.trials(
        "pico", ["ipd", "kuhn"], [0], None, None, {"ipd": "a", "kuhn": "b"}, {"ipd": plan, "kuhn": plan}
    )
    assert [(t.game, t.rival, t.base, t.settings.steps) for t in todo] == [
        ("ipd", "pool", "a", 150), ("ipd", "pool and worst-case", "a", 150),
        ("kuhn", "pool", "b", 300), ("kuhn", "worst-case", "b", 300),
    ]  # fmt: skip


def test_ends_tell_the_best_and_the_late_peak_of_each_curve():
    rows = [(0, 0.9), (10, 0.02), (20, 0.3), (30, 0.1)]
    logs = pd.DataFrame(rows, columns=["step", "worst_case"]).assign(
        agent="t", game="kuhn", rival="pool", seed=0
    )
    found = ends(pd.concat([logs, logs.assign(seed=1, worst_case=1.0)]))
    assert found["seed"].to_list() == [0, 1] and found["step"].to_list() == [30, 30]
    assert found.loc[0, ["worst_case", "best", "late_peak"]].to_list() == [0.1, 0.02, 0.3]
    assert found.loc[1, ["worst_case", "best", "late_peak"]].to_list() == [1.0, 1.0, 1.0]


def test_the_table_says_what_it_was_made_with(tmp_path):
    todo = EXPLOITERS.trials("tabular", ["kuhn"], [0, 1], 2, ["pool", "self-play renewal"])
    logs = run_rivals(todo, tmp_path / "study")
    data, table, source = write_rivals("exploiters", logs, todo, tmp_path / "study", tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(data), logs)
    assert len(pd.read_csv(table)) == 4
    made = read_json(source)
    assert (made["trials"], made["seeds"]) == (4, [0, 1]) and made["provenance"]["commit"]
    assert made["settings"]["kuhn"]["self-play renewal"]["pools"]["train"] == ["self"]
    assert made["settings"]["kuhn"]["pool"]["exploiters"] == "pool"
    pd.testing.assert_frame_equal(read_rivals("exploiters", tmp_path), logs)
    with pytest.raises(RunError, match="make one with: sepo-kit study pico --exploiters"):
        read_rivals("exploiters", tmp_path / "elsewhere")


def test_a_study_of_one_more_game_leaves_the_others_as_they_were(tmp_path):
    both = {
        game: EXPLOITERS.trials("tabular", [game], seeds, 2, ["pool"])
        for game, seeds in (("kuhn", [0, 1]), ("ipd", [2]))
    }
    logs = {game: run_rivals(todo, tmp_path / "study") for game, todo in both.items()}
    for game, todo in both.items():
        data, table, source = write_rivals("exploiters", logs[game], todo, tmp_path / "study", tmp_path)
    together = pd.concat(logs.values(), ignore_index=True)
    pd.testing.assert_frame_equal(pd.read_parquet(data), together)
    assert pd.read_csv(table)[["game", "seed"]].to_numpy().tolist() == [["kuhn", 0], ["kuhn", 1], ["ipd", 2]]
    made = read_json(source)
    assert set(made["settings"]) == {"kuhn", "ipd"} and (made["trials"], made["seeds"]) == (3, [0, 1, 2])
    assert made["provenance"]["commit"] in made["commits"]

    write_rivals("exploiters", logs["kuhn"], both["kuhn"], tmp_path / "study", tmp_path)
    assert len(pd.read_csv(table)) == 3, "a game that was there is replaced"
    pd.read_csv(table).drop(columns="payoff").to_csv(table, index=False)
    with pytest.raises(RunError, match="name another folder for the results, or delete that file"):
        write_rivals("exploiters", logs["ipd"], both["ipd"], tmp_path / "study", tmp_path)


@pytest.mark.parametrize(
    "seeds, steps, more",
    [
        (range(2), {"kuhn": 2}, False),
        (range(3), {"kuhn": 3, "ipd": 1}, False),
        (range(1), {"kuhn": 2}, True),
        (range(2), {"kuhn": 1}, True),
        (range(1), {"ipd": 1}, False),
    ],
)
def test_what_is_there_holds_more_where_a_seed_or_a_step_would_be_lost(tmp_path, seeds, steps, more):
    rows = pd.DataFrame({"game": "kuhn", "seed": [0, 0, 1, 1], "step": [0, 2, 0, 2]})
    assert not holds_more(tmp_path / "logs.parquet", seeds, steps)
    rows.to_parquet(tmp_path / "logs.parquet")
    assert holds_more(tmp_path / "logs.parquet", seeds, steps) is more


def test_what_is_there_holds_more_where_gradients_would_be_of_fewer_samples(tmp_path):
    file = tmp_path / "estimates.csv"
    assert not holds_more_samples(file, ["kuhn"], 1)
    pd.DataFrame({"game": ["kuhn", "ipd"], "samples": [400, 800]}).to_csv(file, index=False)
    assert [holds_more_samples(file, ["kuhn"], samples) for samples in (399, 400, 800)] == [
        True,
        False,
        False,
    ]
    assert holds_more_samples(file, ["kuhn", "ipd"], 400)


def test_each_game_of_a_study_says_how_it_was_asked_for(tmp_path):
    asked = {
        "kuhn": ([0, 1], ["--seeds", "2", "--rivals", "self-play renewal"]),
        "ipd": ([0], ["--seeds", "1"]),
    }
    for game, (seeds, options) in asked.items():
        rivals = ["self-play renewal"] if game == "kuhn" else None
        todo = EXPLOITERS.trials("tabular", [game], seeds, 1, rivals)
        logs = run_rivals(todo, tmp_path / "study")
        *_, source = write_rivals("exploiters", logs, todo, tmp_path / "study", tmp_path, options)
    made = read_json(source)
    assert made["by_game"] == {
        game: {"seeds": seeds, "options": options} for game, (seeds, options) in asked.items()
    }
    start = "sepo-kit study tabular --exploiters --games"
    assert trace(tmp_path / "exploiters-ends-tabular.csv").remade_by == (
        f"{start} ipd --seeds 1 && {start} kuhn --seeds 2 --rivals 'self-play renewal'"
    )


def test_games_of_an_older_study_keep_its_seeds(tmp_path):
    source = tmp_path / "late-study-pico.json"
    older = {
        "provenance": {"commit": "a"},
        "seeds": [0, 1, 2],
        "settings": {"kuhn": {"credited": {"steps": 400}}},
    }
    write_json(source, older)
    made = {"provenance": {"commit": "b"}, "seeds": [0], "settings": {"ipd": {"credited": {"steps": 9}}}}
    write_json(source, made_beside_others(made, source, ["--seeds", "1", "--steps", "9"]))
    found = read_json(source)
    assert found["by_game"] == {
        "kuhn": {"seeds": [0, 1, 2]}, "ipd": {"seeds": [0], "options": ["--seeds", "1", "--steps", "9"]},
    }  # fmt: skip
    assert trace(source).remade_by == (
        "sepo-kit study pico --late --games ipd --seeds 1 --steps 9 && "
        "sepo-kit study pico --late --games kuhn --seeds 3"
    )


# --- ablations and late training ------------------------------------------------------------------


@pytest.mark.parametrize("game", ["ipd", "kuhn"])
def test_an_ablation_differs_from_the_training_in_what_it_says(game):
    plan = get_profile("quick").plan("pico", game).sepo
    todo = {
        trial.rival: trial
        for trial in ABLATIONS.trials("pico", [game], [0], None, None, {game: "warm"}, {game: plan})
    }
    assert todo[AS_TRAINED].settings == plan
    assert todo["no warm start"].settings == plan
    for name, trial in todo.items():
        assert trial.base == ("pico" if name == "no warm start" else "warm")
        changed = {key for key, value in vars(trial.settings).items() if value != getattr(plan, key)}
        assert len(changed) == (2 if "to the end" in name else name not in (AS_TRAINED, "no warm start"))
    assert todo["weights x 2"].settings.weights.exploit == 2 * get_game(game).spec.weights.exploit
    assert todo["no KL"].settings.beta == 0 < todo["KL as published"].settings.beta
    assert ("own round only" in todo) == (game == "ipd")  # no hand of Kuhn poker depends on another


def test_late_training_is_four_times_as_long_and_three_rivals():
    plans = {game: get_profile("quick").plan("pico", game).sepo for game in ("auction", "kuhn")}
    todo = LATE.trials("pico", ["auction", "kuhn"], [0], None, None, {"auction": "a", "kuhn": "b"}, plans)
    assert [(trial.game, trial.rival) for trial in todo] == [
        ("auction", "credited"), ("auction", "grouped"), ("auction", "pool and worst-case"),
        ("kuhn", "credited"), ("kuhn", "grouped"), ("kuhn", "worst-case"),
    ]  # fmt: skip
    assert {trial.settings.steps for trial in todo} == {400}
    assert todo[1].settings.mode == "grouped" and todo[5].settings.exploiters == "worst-case"


@pytest.mark.parametrize("study", [ABLATIONS, LATE])
def test_tables_have_no_such_study(study):
    with pytest.raises(ValueError, match="is one of language models, got 'tabular'"):
        study.trials("tabular", ["kuhn"], [0])
