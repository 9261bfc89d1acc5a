"""A user's own game is known to all of the kit: the file of docs/game_file.md, and the package of examples/ as an
installer leaves it. How it goes through all notebooks is in ``test_reproduce.py``."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import nbformat
import pandas as pd
import pytest
from batches import mark_done, parts

import sepo_kit as sk
from sepo_kit.evaluation.reference import reference
from sepo_kit.pipeline.profiles import PROFILES, get_profile
from sepo_kit.pipeline.record import fingerprint, library, reasons
from sepo_kit.pipeline.tasks import all_tasks, tasks
from sepo_kit.runs import code_fingerprint
from sepo_kit.runs.project import PROJECT
from sepo_kit.training.demonstrations import demonstrated, demonstrations, write_corpus
from sepo_kit.training.request import ROOMS, code_of

EXAMPLES = PROJECT / "examples"


def test_every_profile_has_a_plan_for_it(commons):
    for profile in PROFILES.values():
        for model in profile.models:
            plan = profile.plan(model, "commons")
            assert (plan.model, plan.game) == (model, "commons")
            there = (demonstrations("commons")["split"] == "train").sum()
            assert plan.sft.records <= there
            assert plan.evaluation.exact is False
    assert [name for name in PROFILES if ("pico", "commons") in PROFILES[name].batch()] == ["smoke"]
    with pytest.raises(
        ValueError, match="profile 'smoke' has no plan for 'smollm2-135m' on 'commons'; it has: pico"
    ):
        get_profile("smoke").plan("smollm2-135m", "commons")


def test_a_game_without_demonstrations_has_no_plan_and_is_left_out(commons, monkeypatch):
    monkeypatch.setattr(type(commons), "mixture", None)
    assert "commons" not in demonstrated() and ("pico", "commons") not in get_profile("smoke").batch()
    with pytest.raises(
        ValueError, match="no plan for 'commons', which has no demonstrations; give its Game a mix"
    ):
        get_profile("smoke").plan("pico", "commons")


def test_a_change_of_it_runs_again_what_plays_it(commons, tmp_path, monkeypatch):
    def fingerprints():
        found = tasks(get_profile("smoke"), tmp_path, tmp_path, tmp_path)
        return {task.name: fingerprint(replace(task, after=()), tmp_path, library()) for task in found}

    before = fingerprints()
    monkeypatch.setattr(commons, "spec", replace(commons.spec, title="Another title"))
    again = {name for name, now in fingerprints().items() if now != before[name]}
    assert {"06_evaluation pico/commons", "03_sft_data", "08_figures"} <= again
    assert not [name for name in again if name.endswith("/kuhn")]
    assert not any(task.games for task in tasks(get_profile("quick"), tmp_path, tmp_path, tmp_path))


def test_a_change_of_another_file_of_its_package_runs_again_what_plays_it(tmp_path, monkeypatch):
    """Its strategies have files of their own, as in a game that outgrew one."""
    package, root = tmp_path / "split", tmp_path / "runs"
    package.mkdir()
    (package / "odds.py").write_text("BETS = 0.25\n")
    (package / "strats.py").write_text(
        "from sepo_kit.games.base import UniformStrategy\nfrom split.odds import BETS\n"
        "class Bold(UniformStrategy):\n    id = 'bold'\n"
    )
    (package / "game.py").write_text(
        "from dataclasses import replace\nfrom sepo_kit.games.kuhn import KuhnPoker\nfrom .strats import Bold\n"
        "class Split(KuhnPoker):\n    spec = replace(KuhnPoker.spec, id='split')\n"
        "    strategies = {**KuhnPoker.strategies, 'bold': Bold()}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    list(sk.GAMES)
    game = importlib.import_module("split.game").Split()
    monkeypatch.setattr(sk.GAMES, "_known", {**sk.GAMES._known, "split": game})

    def todo():
        return all_tasks([replace(part, profile=part.profile.only(None, ["split"])) for part in parts(root)])

    for file in ("strats.py", "odds.py"):
        mark_done(todo(), root)
        before = code_of(ROOMS["sepo"], game)
        with (package / file).open("a") as edited:
            edited.write("# other odds\n")
        code_fingerprint.cache_clear()
        assert code_of(ROOMS["sepo"], game) != before
        stale = reasons(todo(), root)
        assert stale["04_sft_warm_start pico/split"].endswith("a game or the library changed")
        assert {"05_sepo_training pico/split", "06_evaluation pico/split", "08_figures"} <= stale.keys()


def test_its_corpus_is_written_and_every_reply_in_it_is_read(commons, tmp_path):
    (path,) = write_corpus(tmp_path, ["commons"])
    frame = pd.read_parquet(path)
    pd.testing.assert_frame_equal(frame, demonstrations(commons))
    assert len(frame) == commons.mixture.records
    assert set(frame["demonstrator"]) == {strategy.id for strategy, _ in commons.mixture.demonstrators}
    for row in frame.drop_duplicates(["reason", "action"]).itertuples():
        assert commons.parse(f"{row.reason}\n{row.action}", commons.spec.actions) == row.action


def test_its_reference_policy_and_worst_cases_are_exact(commons):
    best = reference("commons")
    assert best.rows["state"].iloc[0] == "12 start" and best.worst_case is not None
    found = sk.exact.worst_case_bounds(commons, sk.scripted(commons, "tit-for-tat"))
    assert (
        found.lower
        == found.upper
        == sk.exact.worst_case(commons, sk.scripted(commons, "tit-for-tat")).advantage
    )
    unsure = sk.exact.worst_case_bounds(
        commons, sk.uniform(commons), max_states=500, episodes=200, search_episodes=20
    )
    assert 0 < unsure.lower < unsure.ceiling <= 5


# --- the package ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a process that finds the package of examples/lemons."""
    folder = tmp_path_factory.mktemp("target")
    source = shutil.copytree(
        EXAMPLES / "lemons",
        tmp_path_factory.mktemp("source") / "lemons",
        ignore=shutil.ignore_patterns("__pycache__"),  # others may be compiling there
    )
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--quiet",
    ]
    subprocess.run(
        [*command, "--target", str(folder), str(source)], check=True, capture_output=True, text=True
    )
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def run(environment: dict[str, str], *arguments: str) -> str:
    found = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=PROJECT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_package_keeps_the_contract_and_is_solved_exactly(installed):
    code = (
        "import sepo_kit as sk; game = sk.get_game('lemons'); sk.check_game(game); "
        "agent = sk.scripted(game, 'equilibrium'); print(sk.exact.worst_case(game, agent).advantage, "
        "sk.exact.terms(game, sk.scripted(game, 'honest')).payoff, sk.get_profile('smoke').plan('pico', 'lemons').name)"
    )
    worst, payoff, name = run(installed, "-c", code).split()
    # By hand: an honest seller earns 1 on a good car, 0.5 from a cautious buyer, and 1 on a lemon; a buyer 2 and 0.
    assert float(payoff) == pytest.approx(((1 + 1) / 2 + (0.5 + 1) / 2 + 2 * (2 + 0) / 2) / 4)
    assert float(worst) == 0.375 and name == "pico/lemons"


def test_the_command_line_and_a_notebook_know_the_package(installed, tmp_path):
    listed = run(installed, "-m", "sepo_kit", "games")
    assert "lemons: Market for lemons, 6 trades, HIGH, LOW, BUY, DECLINE" in listed
    output = tmp_path / "01.ipynb"
    chosen = ["-p", "games", "[lemons]", "-p", "episodes", "20", "--output", str(output)]
    run(installed, "-m", "sepo_kit", "notebook", "01_games", *chosen)
    cells = nbformat.read(output, as_version=4).cells
    assert "Your car: good" in str([cell.get("outputs") for cell in cells])
