"""The command line: what it prints, and one clear line for every mistake."""

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from sepo_kit.cli import main, parser, training
from sepo_kit.cli.options import InAll
from sepo_kit.games import GAMES
from sepo_kit.pipeline import notebooks
from sepo_kit.pipeline.profiles import PROFILES
from sepo_kit.runs.project import PROJECT
from sepo_kit.runs.remade import reproduced
from sepo_kit.runs.trace import trace
from sepo_kit.study.mechanism import trials
from sepo_kit.study.studies import STUDIES

MISTAKES = {
    "unknown game": (["evaluate", "chess", "nash"], "unknown game 'chess'; known: ipd"),
    "unknown strategy or model": (["evaluate", "kuhn", "nsh"], "or a strategy of kuhn: nash"),
    "a run folder that is not there": (
        ["evaluate", "kuhn", "runs/nothing"],
        "unknown model 'runs/nothing'; allowed: 'pico', 'smollm2-135m', an existing folder",
    ),
    "unknown opponent": (
        ["evaluate", "kuhn", "nash", "--opponent", "nsh"],
        "unknown strategy 'nsh' in kuhn; known: nash",
    ),
    "unknown member of a pool": (
        ["evaluate", "kuhn", "nash", "--exploit-pool", "worst-case", "run:nowhere"],
        "there is no run nowhere; name a run folder",
    ),
    "an opponent and pools": (
        ["evaluate", "kuhn", "nash", "--opponent", "nash", "--train-pool", "nash"],
        "--opponent plays and prints its matches alone; leave out pools",
    ),
    "unknown profile": (["reproduce", "--profile", "fast"], "unknown profile 'fast'; known: smoke"),
    "negative weight": (
        ["evaluate", "kuhn", "nash", "--exploit-weight", "-1"],
        "weights.exploit must be >= 0",
    ),
    "weight that is no number": (
        ["evaluate", "kuhn", "nash", "--exploit-weight", "nan"],
        "weights.exploit must be a finite number",
    ),
    "no episodes": (["evaluate", "kuhn", "nash", "--episodes", "0"], "episodes must be a whole number >= 1"),
    "one folder for several seeds": (
        ["train-sepo", "pico", "kuhn", "runs/mine", "--profile", "smoke", "--seeds", "0", "1"],
        "several seeds need a folder each: write {seed} where the seed goes",
    ),
    "unknown notebook": (["notebook", "05_training"], "unknown notebook '05_training'; known: 01_games"),
    "unknown notebook parameter": (
        ["notebook", "05_sepo_training", "-p", "gmae", "kuhn"],
        "has no parameter 'gmae'; it has: profile, model, game, runs",
    ),
    "model outside the profile": (
        ["train-sepo", "smollm2-135m", "kuhn", "nowhere", "--profile", "smoke"],
        "has no plan for 'smollm2-135m'; add --like MODEL to say whose settings it gets, one of pico",
    ),
    "settings that are not there": (
        ["train-sft", "pico", "kuhn", "nowhere", "--settings", "none.json"],
        "none.json is missing",
    ),
    "no seed": (["train-sft", "pico", "kuhn", "nowhere", "--seed", "-1"], "seed must be a whole number"),
    "no seeds": (["study", "tabular", "--seeds", "0"], "--seeds must be >= 1, got 0"),
    "study of a model without a plan": (["study", "gpt"], "has no plan for 'gpt'"),
    "rivals of another study": (["study", "tabular", "--rivals", "pool"], "add --exploiters"),
    "an unknown rival": (
        ["study", "tabular", "--exploiters", "--rivals", "fate"],
        "rival must be one of pool, worst-case",
    ),
    "a rival without a model": (["study", "gpt", "--exploiters"], "has no plan for 'gpt'"),
    "a study of a table that is one of models": (
        ["study", "tabular", "--late"],
        "one of language models, got 'tabular'",
    ),
    "few replies": (["evaluate", "kuhn", "nash", "--replies", "3"], "replies must be even and >= 4, got 3"),
    "replies and episodes": (["evaluate", "kuhn", "nash", "--replies", "4", "--exact"], "leave out --exact"),
    "an opponent and a control variate": (
        ["evaluate", "kuhn", "nash", "--opponent", "nash", "--control-variate", "--exploit-weight", "0"],
        "leave out --control-variate and weights",
    ),
    "an enumeration and what belongs to play": (
        ["evaluate", "kuhn", "nash", "--exact", "--episodes", "500", "--control-variate"],
        "leave out --episodes and --control-variate",
    ),
    "replies and a number of episodes": (
        ["evaluate", "kuhn", "nash", "--replies", "4", "--episodes", "9"],
        "leave out --episodes",
    ),
    "an opponent twice in a pool": (
        ["evaluate", "kuhn", "uniform", "--train-pool", "nash", "nash"],
        "pools.train has nash more than once",
    ),
    "a strategy at a temperature": (
        ["evaluate", "kuhn", "nash", "--temperature", "0.5"],
        "nash is a strategy and has no temperature, got temperature=0.5; leave that out",
    ),
    "no seed to evaluate with": (["evaluate", "kuhn", "nash", "--seed", "-1"], "seeds must be whole numbers"),
    "no seed to audit with": (["audit", "nash", "--seed", "-1"], "seeds must be whole numbers"),
    "an empty value": (
        ["train-sepo", "pico", "kuhn", "nowhere", "-p", "limits="],
        "parameter limits must be",
    ),
    "pools that are no lists": (
        [
            "train-sepo",
            "pico",
            "kuhn",
            "nowhere",
            "-p",
            'pools={"train": "nash", "exploit": [], "collusive": [], "shift": []}',
        ],
        "pools.train must be a list of names, got 'nash'",
    ),
    "a number of a pool": (
        [
            "train-sepo",
            "pico",
            "kuhn",
            "nowhere",
            "-p",
            'pools={"train": 1, "exploit": [], "collusive": [], "shift": []}',
        ],
        "pools.train must be a list of names, got 1",
    ),
    "a limit beyond all numbers": (
        ["train-sepo", "pico", "kuhn", "nowhere", "-p", f'limits={{"exploit": 1{"0" * 400}}}'],
        "limits['exploit'] must be a finite number >= 0",
    ),
    "no variants": (["study", "tabular", "--variants", "0"], "--variants must be >= 1, got 0"),
    "variants of rivals": (
        ["study", "tabular", "--exploiters", "--variants", "4"],
        "--samples and --variants are no options of --exploiters",
    ),
    "a later agent that is none": (["study", "tabular", "nosuch"], "has no plan for 'nosuch'"),
    "a later agent of rivals that is none": (
        ["study", "tabular", "nosuch", "--exploiters"],
        "no plan for 'nosuch'",
    ),
    "a limit without an end": (
        ["reproduce", "--profile", "smoke", "--limit", "inf", "--dry-run"],
        "limit_minutes must be > 0 and finite, got inf",
    ),
    "one folder for pictures and tables": (
        ["reproduce", "--profile", "smoke", "--figures", "out", "--results", "./out", "--dry-run"],
        "--figures and --results must be two folders, both are out",
    ),
    "no workers": (["reproduce", "--profile", "smoke", "--workers", "0"], "--jobs must be >= 1"),
    "a setting twice": (
        ["train-sepo", "pico", "kuhn", "nowhere", "-p", "steps", "60", "-p", "steps=70"],
        "-p steps is given twice, as '60' and as '70'; leave one of them out",
    ),
    "a notebook's parameter twice": (
        ["notebook", "06", "-p", "game=kuhn", "-p", "game=kuhn"],
        "-p game is given twice",
    ),
    "weights twice": (
        [
            *["train-sepo", "pico", "kuhn", "nowhere", "--weights", "1", "1", "1"],
            *["-p", "weights", '{"exploit": 9, "collusion": 1, "externality": 1}'],
        ],
        "-p weights and --weights say the same; leave one of them out",
    ),
    "trackers twice": (
        ["train-sft", "pico", "kuhn", "nowhere", "-p", "report_to=trackio", "--report-to", "wandb"],
        "-p report_to and --report-to say the same; leave one of them out",
    ),
    "a report of nothing": (
        ["reproduce", "--profile", "smoke", "--dry-run", "--report", "page.html"],
        "a dry run has nothing to report; leave out --report, or --dry-run",
    ),
    "a change of a profile twice": (
        ["reproduce", "--profile", "quick,seeds=5", "--seeds", "3", "--dry-run"],
        "profile 'quick,seeds=5,seeds=3': seeds is there twice; leave one of them out",
    ),
    "a column twice": (
        ["trace", str(PROJECT / "data" / "results" / "quick.csv"), "--row", "seed=0", "seed=1"],
        "--row names seed twice, as '0' and as '1'; leave one of them out",
    ),
    "rows of a run": (
        ["trace", str(next((PROJECT / "data" / "results").glob("*/*/*/*-seed-0"))), "--row", "seed=1"],
        "is of a run and has no rows; leave out --row",
    ),
    "a source of a run": (
        ["trace", str(next((PROJECT / "data" / "results").glob("*/*/*/*-seed-0"))), "--source", "nowhere"],
        "is of a run, which says itself what it was made from; leave out --source",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_clear_line_and_a_status(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) != 0
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_help_names_every_profile(capsys):
    with pytest.raises(SystemExit):
        main(["reproduce", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert not [name for name in PROFILES if not re.search(rf"[ ,]{name}[ ,;]", said)]


def test_evaluate_prints_what_an_agent_answers(capsys):
    assert main(["evaluate", "kuhn", "nash", "--replies", "40"]) == 0
    header, payoff, *_ = capsys.readouterr().out.splitlines()
    assert header.split()[2:] == ["metric", "value", "low", "high", "n"] and payoff.split()[-1] == str(
        40 * 12
    )


def test_evaluate_prints_the_exact_table(capsys):
    assert main(["evaluate", "ipd", "tit-for-tat", "--exact"]) == 0
    out = capsys.readouterr().out
    assert "1.7391" in out and "2.7891" in out


def test_evaluate_plays_the_opponents_it_is_given(capsys):
    assert (
        main(["evaluate", "ipd", "tit-for-tat", "--opponent", "always-defect", "self", "--episodes", "2"])
        == 0
    )
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0][:3] == ["agent", "opponent", "payoff"]
    assert [row[:3] for row in rows[1:]] == [
        ["tit-for-tat", "always-defect", "0.8750"], ["tit-for-tat", "self", "3.0000"],
    ]  # fmt: skip


def test_evaluate_takes_other_pools(capsys):
    assert main(["evaluate", "kuhn", "nash", "--exploit-pool", "worst-case", "--exact"]) == 0
    assert main(["evaluate", "kuhn", "uniform", "--exploit-pool", "worst-case", "--exact"]) == 0
    found = [line.split() for line in capsys.readouterr().out.splitlines() if " exploit " in line]
    assert [row[3] for row in found] == ["0.0000", "0.9167"]


def test_notebooks_that_are_run_with_other_parameters_do_not_replace_each_other(capsys, monkeypatch):
    outputs = []
    monkeypatch.setattr(notebooks, "run_notebook", lambda name, given, output: outputs.append(output))
    for given in (
        [],
        ["game", "kuhn"],
        ["game", "ipd"],
        ["runs", "a/b"],
        ["runs", "a_b"],
        ["runs", "x" * 300],
    ):
        assert main(["notebook", "06", *(["-p", *given] if given else [])]) == 0
    assert len({path.with_suffix(".log") for path in outputs}) == 6
    assert [path.name for path in outputs[:2]] == ["06_evaluation.ipynb", "06_evaluation_game=kuhn.ipynb"]
    assert {path.parent for path in outputs} == {PROJECT / "runs" / "notebooks"}
    assert all(len(path.name) < 150 for path in outputs)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_hands_a_profile_over_as_one_word():
    profile = "quick,exploiters=pool and worst-case"
    line = ["make", "-n", "reproduce", f"PROFILE={profile}", "SEEDS=2", "ARGS=--games kuhn ipd"]
    said = subprocess.run(
        line, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    ).stdout
    (told,) = [each for each in said.splitlines() if " reproduce --profile" in each]
    options = parser().parse_args(shlex.split(told.partition(" -m sepo_kit ")[2]))
    assert (options.profile, options.seeds, options.games) == (profile, 2, ["kuhn", "ipd"])
    notebooks_say = "".join(file.read_text() for file in (PROJECT / "notebooks").glob("*.ipynb"))
    assert "PROFILE={" not in notebooks_say, "sepo_kit.runs.remade.reproduced quotes it"
    with_spaces = shlex.split(reproduced(profile, ["--games kuhn"]))
    assert with_spaces == ["make", "reproduce", f"PROFILE={profile}", "ARGS=--games kuhn"]


def test_games_lists_games_and_pools(capsys):
    assert main(["games"]) == 0
    assert "grim-trigger" in capsys.readouterr().out


def test_games_says_how_many_actions_it_leaves_out(capsys):
    assert main(["games"]) == 0
    said = {line.partition(":")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert said["kuhn"] == "kuhn: Kuhn poker, 6 hands, PASS, BET, FOLD, CALL"
    many, count = said["negotiation_v2"], len(GAMES["negotiation_v2"].spec.actions)
    assert many.count("BOOKS=") == 9 and many.endswith(f"BALLS=3, ... and {count - 9} more")


def options_of(command, name=""):
    """The options of a command and of those below it, with the command's name."""
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from options_of(below, f"{name} {word}")
        elif action.option_strings:
            yield name, action


def test_a_list_that_is_given_in_two_goes_is_the_whole_of_both():
    def games(*words):
        return parser().parse_args(words).games

    assert games("reproduce", "--games", "kuhn", "ipd", "--games", "auction") == ["kuhn", "ipd", "auction"]
    assert games("study", "pico", "--games", "auction", "--games", "kuhn") == ["auction", "kuhn"]
    assert games("study", "pico") == ["ipd", "kuhn"] == games("study", "pico")
    assert not games("data") and parser().parse_args(["trace", "x"]).row == []
    lists = [(name, each) for name, each in options_of(parser()) if each.nargs == "+"]
    assert len(lists) > 15
    assert not [
        (name, each.option_strings)
        for name, each in lists
        if not isinstance(each, InAll | argparse._AppendAction)
    ]


def test_a_study_of_exploiters_writes_its_tables_and_says_where(tmp_path, capsys):
    small = [
        "--exploiters",
        "--games",
        "kuhn",
        "--seeds",
        "1",
        "--steps",
        "2",
        "--rivals",
        "pool",
        "worst-case",
    ]
    folders = ["--folder", str(tmp_path / "runs"), "--results", str(tmp_path)]
    assert main(["study", "tabular", *small, *folders]) == 0
    told = capsys.readouterr().out
    for name in ("training-tabular.parquet", "ends-tabular.csv", "study-tabular.json", "tabular-kuhn.png"):
        assert (
            f"written: {tmp_path / f'exploiters-{name}'}" in told
            and (tmp_path / f"exploiters-{name}").exists()
        )
    again = f"sepo-kit {shlex.join(['study', 'tabular', *small])}"
    assert trace(tmp_path / "exploiters-ends-tabular.csv").remade_by == again


def test_data_writes_the_corpus_again_byte_for_byte(tmp_path, capsys):
    for folder in ("a", "b"):
        assert main(["data", "--folder", str(tmp_path / folder)]) == 0
    first = sorted((tmp_path / "a").iterdir())
    assert first
    for file in first:
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_study_writes_its_tables_and_says_where(tmp_path, capsys):
    small = ["--games", "kuhn", "--seeds", "1", "--steps", "2", "--samples", "2", "--variants", "1"]
    folders = ["--folder", str(tmp_path / "runs"), "--results", str(tmp_path)]
    assert main(["study", "tabular", *small, *folders]) == 0
    told = capsys.readouterr().out
    for name in (
        "credit-training-tabular.parquet",
        "credit-estimates-tabular.csv",
        "credit-study-tabular.json",
    ):
        assert f"written: {tmp_path / name}" in told and (tmp_path / name).exists()
    assert (
        trace(tmp_path / "credit-estimates-tabular.csv").remade_by
        == f"sepo-kit study tabular {shlex.join(small)}"
    )


def test_a_part_of_a_study_does_not_replace_the_published_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sepo_kit.runs.project.PROJECT", tmp_path)
    asked = ["study", "tabular", "--exploiters", "--games", "kuhn"]
    published = {tmp_path / "data" / "results", tmp_path / "figures"}

    def changed(*given: str) -> set[Path]:
        """The folders of tables and pictures where such a call writes."""
        before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.*")}
        assert main([*asked, *given, "--folder", str(tmp_path / "runs" / "".join(given))]) == 0
        now = {file for file in tmp_path.rglob("*.*") if before.get(file) != file.stat().st_mtime_ns}
        return {file.parent for file in now if file.name.startswith("exploiters-")}

    assert changed("--seeds", "2", "--steps", "2") == published, "the first"
    assert "a part" not in capsys.readouterr().out
    for part in (["--seeds", "1", "--steps", "2"], ["--rivals", "pool", "--steps", "2"]):
        beside = tmp_path / "runs" / "".join(part)
        assert changed(*part) == {beside / "tables", beside / "figures"}
        assert f"a part of the study: tables go to {beside / 'tables'}, " in capsys.readouterr().out
        again = trace(beside / "figures" / "exploiters-tabular-kuhn.png").remade_by
        assert again.startswith(shlex.join(["sepo-kit", *asked])) and shlex.join(part[:2]) in again


def test_variants_of_the_credit_study_are_a_part_of_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sepo_kit.runs.project.PROJECT", tmp_path)
    small = ["--games", "kuhn", "--seeds", "1", "--steps", "1", "--samples", "2", "--variants", "1"]
    assert main(["study", "tabular", *small]) == 0
    assert (tmp_path / "runs" / "study" / "tables" / "credit-study-tabular.json").exists()
    assert not (tmp_path / "data").exists()


PUBLISHED = sorted((Path(__file__).parents[2] / "data" / "results").glob("*-study-*.json"))


COMMANDS = [(told, command) for told in PUBLISHED for command in trace(told).remade_by.split(" && ")]


@pytest.mark.parametrize(("told", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_the_command_of_a_published_study_replaces_its_tables(told, command, capsys):
    options = parser().parse_args(shlex.split(command)[1:])
    (agent,), study = options.agents, options.rivals_of or "credit"
    profile = PROFILES[options.profile or ("quick" if options.rivals_of else "study")]
    of_model = agent != "tabular"
    sepo = {game: profile.plan(agent, game).sepo for game in options.games} if of_model else None
    bases, seeds = dict.fromkeys(sepo or {}, agent), range(options.seeds)
    if options.rivals_of:
        todo = STUDIES[study].trials(agent, options.games, seeds, options.steps, None, bases, sepo)
    else:
        todo = trials(agent, options.games, seeds, options.steps or 400, bases=bases or None, sepo=sepo)
    assert training._places(options, study, Path("unused"), todo)[0] == told.parent
    assert not capsys.readouterr().out


def test_data_writes_the_demonstrations_of_the_games_it_is_given(tmp_path, capsys):
    assert main(["data", "--games", "kuhn", "--folder", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counts.csv", "kuhn.parquet"]
    assert "kuhn.parquet  sha256 " in capsys.readouterr().out


def test_where_memory_runs_out_one_line_says_what_was_asked_and_what_is_allowed(capsys, monkeypatch):
    def fails(game):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 512 bytes.")

    monkeypatch.setattr("sepo_kit.get_game", fails)
    assert main(["evaluate", "kuhn", "nash"]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith("sepo-kit: memory ran out (asked for 512 bytes more; allowed: ")
        and said.count("\n") == 1
    )
