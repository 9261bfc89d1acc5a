"""``sepo-kit trace``: from a picture back to the runs, seeds and commits that it was made from."""

from __future__ import annotations

import csv
import shlex
import shutil
from pathlib import Path

import finished
import pytest

from sepo_kit.cli import main, parser
from sepo_kit.games.base import Weights
from sepo_kit.pipeline.notebooks import training_lines
from sepo_kit.pipeline.parameters import split_pairs
from sepo_kit.pipeline.profiles import PROFILES, get_profile
from sepo_kit.runs import Run, RunError, project, remade, write_json
from sepo_kit.runs.trace import trace

PROJECT = Path(__file__).parents[2]
RESULTS = PROJECT / "data" / "results"


@pytest.mark.parametrize("suffix", ["png", "svg", "csv"])
def test_a_picture_is_traced_to_the_runs_of_the_agents_in_it(suffix, capsys):
    assert main(["trace", str(PROJECT / "figures" / f"terms-pico-ipd.{suffix}")]) == 0
    told = capsys.readouterr().out
    assert "pico on ipd, SEPO, seed 2" in told and "sft    ipd, seed 2, commit " in told
    assert "smollm2" not in told and "make reproduce PROFILE=quick" in told


def test_every_agent_in_a_picture_has_its_chain():
    with open(PROJECT / "figures" / "safety-change.csv") as file:
        drawn = {(row["model"], row["game"]) for row in csv.DictReader(file)}
    found = trace(PROJECT / "figures" / "safety-change.png")
    assert {
        (chain[0]["model"], chain[-1]["game"]) for chain in found.chains.values() if len(chain) > 1
    } == drawn
    assert found.commits


PICTURES = sorted((PROJECT / "figures").glob("*.png"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_every_published_picture_says_what_it_was_made_from(picture):
    found = trace(picture)
    assert found.commits and not found.problem and found.remade_by.startswith(("make ", "sepo-kit "))
    assert found.chains or "study" in found.remade_by


@pytest.mark.parametrize(
    "picture, agents",
    [
        ("training-pico-ipd", {f"pico on ipd, SEPO, seed {seed}" for seed in (0, 1, 2)}),
        ("training-smollm2-135m-kuhn-worst-case", {"smollm2-135m on kuhn, worst-case SEPO, seed 0"}),
        ("payoff-and-worst-case-auction-quick",
         {"pico on auction, base", "pico on auction, SFT, seed 0", "pico on auction, SEPO, seed 0"}),
    ],
)  # fmt: skip
def test_a_picture_whose_data_name_no_agent_is_of_those_it_is_named_after(picture, agents):
    assert set(trace(PROJECT / "figures" / f"{picture}.png").chains) == agents


@pytest.mark.parametrize("source", ["quick.csv", "quick.json"])
def test_the_source_of_a_picture_may_be_a_table_or_what_is_told_of_it(tmp_path, source):
    shutil.copy(PROJECT / "figures" / "worst-case.png", tmp_path)
    assert trace(tmp_path / "worst-case.png", RESULTS / source).commits
    with pytest.raises(RunError, match=r"no\.json is missing; name a table"):
        trace(tmp_path / "worst-case.png", RESULTS / "no.json")


def test_a_table_that_has_changed_is_said_to_have(tmp_path):
    for suffix in ("csv", "json"):
        shutil.copy(PROJECT / "data" / "results" / f"quick.{suffix}", tmp_path)
    assert not trace(tmp_path / "quick.csv").problem and len(trace(tmp_path / "quick.csv").chains) > 10


def test_a_file_in_a_run_is_traced_to_it(tmp_path):
    with Run(
        tmp_path / "run", {"stage": "sft", "game": "kuhn", "seed": 3, "base": "pico"}, writes=True
    ) as run:
        (run.path / "metrics.jsonl").write_text("{}\n")
        run.finish()
    found = trace(run.path / "metrics.jsonl")
    assert "metrics.jsonl of the run" in found.kind and "--seed 3" in found.remade_by and not found.problem
    (run.path / "metrics.jsonl").write_text("{}\n{}\n")
    assert "has changed" in trace(run.path / "metrics.jsonl").problem


def test_a_way_through_a_run_is_not_in_it(tmp_path, monkeypatch):
    plan = tmp_path / "quick" / "pico" / "kuhn"
    finished.evaluation(tmp_path / "quick", "kuhn", "sepo", "nash", 0, episodes=2)
    with Run(
        plan / "sepo-seed-0", {"stage": "sepo", "game": "kuhn", "seed": 0, "base": "pico"}, writes=True
    ) as run:
        run.progress(1, 1)
        run.finish()
    monkeypatch.chdir(run.path)
    assert trace("../results/sepo-seed-0.json").kind == "an evaluation of pico on kuhn, sepo, seed 0"
    found = trace("../sepo-seed-0/progress.json")
    assert found.kind == f"progress.json of the run {run.path}, done" and not found.problem
    (run.path / "progress.json").write_text("{}")
    assert "has changed" in trace("../sepo-seed-0/progress.json").problem
    assert trace("../sepo-seed-0").kind == "a run, done"


def test_what_nothing_is_known_of(tmp_path):
    (tmp_path / "one.png").touch()
    with pytest.raises(RunError, match=r"nothing says where .*one\.png comes from .*--source"):
        trace(tmp_path / "one.png")
    with pytest.raises(RunError, match="is missing; name a picture"):
        trace(tmp_path / "two.png")


def told_of(capsys, *words: str) -> str:
    assert main(["trace", *words]) == 0
    return capsys.readouterr().out


def test_a_cell_of_a_table_is_traced_to_its_runs_alone(capsys):
    cell = ["--row", "model=pico", "game=kuhn", "stage=sepo", "metric=exploit", "seed=1"]
    told = told_of(capsys, str(RESULTS / "worst-case.csv"), *cell)
    assert "metric exploit, value 0.00" in told and "sepo   kuhn, seed 1, commit " in told
    assert "seed 0" not in told and "smollm2" not in told and "ipd" not in told
    assert "make reproduce PROFILE=worst-case ARGS='--models pico --games kuhn'" in told


def test_a_row_is_of_all_its_seeds_and_a_base_model_of_none():
    row = {"model": "pico", "game": "ipd", "stage": "sepo"}
    found = trace(RESULTS / "worst-case.csv", row=row)
    assert [chain[-1]["seed"] for chain in found.chains.values()] == [0, 1, 2] and found.commits
    assert {name: found.rows[0][name] for name in row} == row
    base = trace(RESULTS / "worst-case.csv", row={**row, "stage": "base"})
    assert list(base.chains) == ["pico on ipd, base"]


def test_rows_of_tables_beside_the_main_one():
    row = {"model": "smollm2-135m", "stage": "worst-case", "wording": "formal", "metric": "worst_case"}
    found = trace(RESULTS / "wordings-quick.csv", row=row)
    assert len(found.rows) == 1 and all(name.startswith("smollm2-135m on kuhn") for name in found.chains)
    seen = {"game": "kuhn", "stage": "sft", "seed": "2", "information": "Kpb", "model": "pico"}
    found = trace(RESULTS / "worst-case-policies.parquet", row=seen)
    assert list(found.chains) == ["pico on kuhn, SFT, seed 2"] and len(found.rows) == 2


def test_paired_differences_are_of_the_table_they_are_named_after():
    row = {"model": "pico", "game": "ipd", "stage": "sepo", "minus": "sft", "metric": "safety"}
    found = trace(RESULTS / "quick-differences.csv", row=row)
    assert len(found.rows) == 1 and {"pico on ipd, SEPO, seed 0"} <= set(found.chains)


def test_the_table_of_one_game_is_a_part_of_its_profile():
    again = "make reproduce PROFILE=worst-case ARGS='--models pico --games leduc'"
    assert trace(RESULTS / "worst-case-leduc.csv").remade_by == again
    row = {"stage": "sepo", "seed": "0", "information": "J"}
    assert trace(RESULTS / "worst-case-leduc-policies.parquet", row=row).remade_by == again


@pytest.mark.parametrize(
    "file, again",
    [
        ("credit-estimates-tabular.csv", "sepo-kit study tabular"),
        ("credit-training-pico.parquet", "sepo-kit study pico"),
        ("exploiters-ends-tabular.csv", "sepo-kit study tabular --exploiters --games ipd kuhn leduc"),
        ("ablations-ends-pico.csv", "sepo-kit study pico --ablations --games kuhn --seeds 3"),
        *[(f"late-{name}", "sepo-kit study smollm2-135m --late --games kuhn --seeds 3 --steps 180")
          for name in ("ends-smollm2-135m.csv", "training-smollm2-135m.parquet")],
        ("reference.csv", "sepo-kit reference"),
    ],
)  # fmt: skip
def test_tables_without_runs_name_their_command_and_commit(file, again):
    found = trace(RESULTS / file, row={"game": "kuhn"})
    assert found.remade_by == again and found.commits and found.rows and not found.problem


TABLES = sorted(file for file in RESULTS.iterdir() if file.is_file() and file.name != "README.md")


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.name)
def test_every_published_table_says_what_it_was_made_from(table):
    found = trace(table)
    assert (
        found.commits and not found.problem and found.remade_by.startswith(("make reproduce ", "sepo-kit "))
    )


def test_the_picture_of_a_study_is_of_the_agent_it_is_named_after():
    found = trace(PROJECT / "figures" / "late-smollm2-135m-kuhn.png")
    assert found.remade_by == "sepo-kit study smollm2-135m --late --games kuhn --seeds 3 --steps 180"
    found = trace(PROJECT / "figures" / "late-pico-negotiation_v1.png")
    assert (
        found.remade_by.startswith("sepo-kit study pico --late --games ") and "--steps" not in found.remade_by
    )


def test_of_a_study_whose_games_were_made_apart_each_has_its_command():
    of = {
        game: trace(PROJECT / "figures" / f"late-smollm2-135m-{game}.png").remade_by
        for game in ("ipd", "kuhn")
    }
    assert of["ipd"] == "sepo-kit study smollm2-135m --late --games ipd --seeds 1 --steps 160"
    assert trace(RESULTS / "late-ends-smollm2-135m.csv").remade_by == f"{of['ipd']} && {of['kuhn']}"


def test_games_of_a_study_that_were_made_otherwise_have_a_command_of_their_own(tmp_path):
    told = {
        "provenance": {"commit": "abc"}, "seeds": [0, 1, 2, 3, 4], "settings": {"auction": {}, "ipd": {}, "kuhn": {}},
        "by_game": {"auction": {"options": []}, "kuhn": {"options": ["--seeds", "2", "--rivals", "no KL"]}},
    }  # fmt: skip
    write_json(tmp_path / "ablations-study-my-own.json", told)
    (tmp_path / "ablations-ends-my-own.csv").touch()
    assert trace(tmp_path / "ablations-ends-my-own.csv").remade_by == (
        "sepo-kit study my-own --ablations --games auction ipd && "
        "sepo-kit study my-own --ablations --games kuhn --seeds 2 --rivals 'no KL'"
    )


@pytest.mark.parametrize(
    "file, again",
    [
        *[(f"{kind}-worst-case.csv", "sepo-kit notebook 10 -p profile worst-case -p learner_steps 200 "
           "-p results data/results -p figures figures") for kind in ("learned", "held-out", "wordings")],
        *[(f"{kind}-quick.csv", "make reproduce PROFILE=quick") for kind in ("held-out", "wordings", "self-play")],
    ],
)  # fmt: skip
def test_tables_of_notebook_10_name_what_wrote_them_and_where(file, again):
    assert trace(RESULTS / file).remade_by == again


def test_a_table_of_some_games_of_its_profile_names_them_and_its_place(tmp_path):
    assert trace(RESULTS / "smollm2.csv").remade_by == (
        "make reproduce PROFILE=smollm2 ARGS='--games ipd auction negotiation_v1 negotiation_v2 --results "
        "data/results --figures figures'"
    )
    row = {"model": "smollm2-135m", "game": "ipd", "stage": "sepo"}
    assert trace(RESULTS / "smollm2.csv", row=row).remade_by == (
        "make reproduce PROFILE=smollm2 ARGS='--models smollm2-135m --games ipd'"
    ), "a part is no replacement for the whole"
    table = tmp_path / "mine" / "mode=shared" / "tables"
    (table.parent / "pico" / "ipd" / "results").mkdir(parents=True)
    table.mkdir()
    for suffix in ("csv", "json"):
        shutil.copy(RESULTS / f"quick.{suffix}", table / f"quick,mode=shared.{suffix}")
    assert trace(table / "quick,mode=shared.csv").remade_by == (
        f"make reproduce PROFILE=quick,mode=shared ARGS='--runs {table.parent}'"
    )


def test_the_profiles_that_commands_are_written_for_are_those_there_are():
    assert {*remade.PROFILES} == {*PROFILES}
    for name, games in remade.PROFILES.items():
        assert name == "smoke" or {*games} == {game for _, game in get_profile(name).batch()}


def test_a_run_whose_base_was_published_without_weights_is_trained_from_the_start(monkeypatch, capsys):
    folder = RESULTS / "reasoned" / "smollm2-135m" / "kuhn"
    sft, sepo = trace(folder / "sepo-seed-0").remade_by.split(" && ")
    for command, base, name in (
        (sft, "smollm2-135m", "sft-seed-0"), (sepo, f"{folder}/sft-seed-0-again", "sepo-seed-0"),
    ):  # fmt: skip
        options = parser().parse_args(shlex.split(command)[1:])
        assert (options.model, options.game, options.folder) == (base, "kuhn", Path(f"{folder}/{name}-again"))
        assert options.settings == folder / name / "manifest.json"
    monkeypatch.chdir(folder / "sft-seed-0")
    assert main(["runs", "show", "."]) == 0
    assert f"made again by: {sft}" in capsys.readouterr().out, "beside the run, and not hidden in it"
    assert trace(folder / "results" / "sepo-seed-1.json").remade_by == (
        "make reproduce PROFILE=reasoned,seeds=2 ARGS='--models smollm2-135m --games kuhn'"
    )


def profile_told(file):
    words = shlex.split(trace(file).remade_by)
    return words[words.index("profile") + 1]


@pytest.mark.parametrize(
    "profile", ["quick", "quick,seeds=5", "quick,exploiters=pool and worst-case", "smoke"]
)
def test_the_command_of_a_result_names_a_profile_that_has_it_and_its_folder(profile, tmp_path, monkeypatch):
    for module in (remade, project):
        monkeypatch.setattr(module, "PROJECT", tmp_path)
    finished.evaluation(project.runs_folder(profile), "kuhn", "sepo", "nash", 4, episodes=2)
    file = project.runs_folder(profile) / "pico" / "kuhn" / "results" / "sepo-seed-4.json"
    told = profile_told(file)
    assert get_profile(told).plan("pico", "kuhn").seeds == (0, 1, 2, 3, 4)
    assert project.runs_folder(told) == file.parents[3] and "runs" not in shlex.split(trace(file).remade_by)


def test_the_command_of_a_result_in_a_folder_called_after_seeds_names_them_once(tmp_path):
    root = tmp_path / "quick,seeds=2"
    finished.evaluation(root, "kuhn", "sepo", "nash", 4, episodes=2)
    assert profile_told(root / "pico" / "kuhn" / "results" / "sepo-seed-4.json") == "quick,seeds=5"


def test_the_command_of_a_result_of_a_change_among_a_profiles_runs_names_its_folder(tmp_path):
    root = tmp_path / "quick" / "exploiters=pool_and_worst-case"
    finished.evaluation(root, "kuhn", "sepo", "nash", 1, episodes=2)
    file = root / "pico" / "kuhn" / "results" / "sepo-seed-1.json"
    plan = get_profile(profile_told(file)).plan("pico", "kuhn")
    assert (plan.sepo.exploiters, plan.seeds) == ("pool and worst-case", (0, 1))
    assert trace(file).remade_by.endswith(f"-p runs {root}")


def test_the_profile_of_runs_of_any_name_is_that_of_the_notebook_that_evaluated_them(tmp_path):
    lines = training_lines("quick", "pico", "kuhn", Weights(2.4, 1, 0), tmp_path / "quick-e2.4-c1-x0")
    options = parser().parse_args(shlex.split(lines[-1])[1:])
    root = Path(split_pairs(options.p)["runs"])
    finished.evaluation(root, "kuhn", "sepo", "nash", 0, episodes=2)
    file = root / "pico" / "kuhn" / "results" / "sepo-seed-0.json"
    assert profile_told(file) == "PROFILE", "nothing says which"
    write_json(options.output, {"metadata": {"papermill": {"parameters": split_pairs(options.p)}}})
    assert profile_told(file) == "quick"
    options.output.write_text("[]")
    assert profile_told(file) == "PROFILE"


def test_a_result_is_made_again_from_the_runs_it_is_of(tmp_path):
    root = tmp_path / "my runs" / "worst-case"
    finished.evaluation(root, "kuhn", "sepo", "nash", 0, episodes=2)
    for suffix in ("json", "parquet", "rounds.parquet"):
        assert trace(root / "pico" / "kuhn" / "results" / f"sepo-seed-0.{suffix}").remade_by == (
            f"sepo-kit notebook 06_evaluation -p profile worst-case -p model pico -p game kuhn -p runs '{root}'"
        )
    shutil.copy(root / "pico" / "kuhn" / "results" / "sepo-seed-0.json", tmp_path)
    assert trace(tmp_path / "sepo-seed-0.json").remade_by == (
        "sepo-kit notebook 06_evaluation -p profile PROFILE -p model pico -p game kuhn"
    ), "nothing says which"


def test_results_of_the_projects_own_runs_need_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(project, "PROJECT", tmp_path)
    finished.evaluation(tmp_path / "runs" / "reasoned", "kuhn", "sepo", "nash", 0, episodes=2)
    file = tmp_path / "runs" / "reasoned" / "pico" / "kuhn" / "results" / "sepo-seed-0.json"
    assert trace(file).remade_by.endswith(" -p profile reasoned -p model pico -p game kuhn")


@pytest.mark.parametrize(
    "words, says",
    [
        (["game=chess"], "has no such row with game=chess; game is there: kuhn, ipd"),
        (["colour=red"], "has no column colour; it has: model, game, stage"),
        (["pico"], "--row must be NAME=VALUE, such as model=pico, got 'pico'"),
    ],
)
def test_a_row_that_is_not_there(words, says, capsys):
    assert main(["trace", str(RESULTS / "quick.csv"), "--row", *words]) == 2
    assert says in capsys.readouterr().err
    with pytest.raises(RunError, match="has no rows; --row is for tables"):
        trace(PROJECT / "figures" / "worst-case.png", row={"game": "kuhn"})
