"""The whole pipeline in the smoke profile, headless: killed on the way, run again, and what it leaves."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time

import nbformat
import pandas as pd
import pytest

from sepo_kit.evaluation import archive
from sepo_kit.evaluation.contenders import stored
from sepo_kit.pipeline.children import Child
from sepo_kit.pipeline.notebooks import NOTEBOOKS, NotebookFailed, check_parameters, run_notebook
from sepo_kit.pipeline.profiles import PROFILES, get_profile
from sepo_kit.pipeline.reproduce import Reproduction, reproduce
from sepo_kit.pipeline.tasks import Task, log, longest_chain_first, reasons, result_files, tasks, unfinished
from sepo_kit.runs import Run, RunError
from sepo_kit.runs.project import PROJECT
from sepo_kit.widgets.lab import PenaltyLab
from sepo_kit.widgets.table import Table


def start(root, site):
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "sepo_kit", "reproduce", "--profile", "smoke", "--runs", str(root)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=PROJECT, start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


@pytest.fixture(scope="module")
def smoke(tmp_path_factory, commons, site):
    """Output of a smoke reproduction, a user's own game among the games, that was killed at its first result and then
    run again."""
    root = tmp_path_factory.mktemp("smoke") / "runs"
    first = start(root, site)
    for line in first.stdout:
        if line.startswith("result: "):
            break
    else:
        pytest.fail("no result before the end")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    second = start(root, site)
    output, _ = second.communicate()
    assert second.returncode == 0, output
    return root, output


def test_it_ends_with_the_table_and_figures(smoke):
    root, output = smoke
    assert "payoff" in output and "Safety" in output and "fallback" in output
    for plan in get_profile("smoke").plans:
        for stage in plan.stages:
            assert any(plan.game in line and f" {stage} " in line for line in output.splitlines())
    assert (root / "figures" / "safety-change.png").stat().st_size > 5_000
    table = pd.read_csv(root / "tables" / "smoke.csv")
    assert set(table["stage"]) == {"base", "sft", "sepo", "worst-case"}


def test_progress_names_notebook_and_time_left(smoke):
    _, output = smoke
    line = next(line for line in output.splitlines() if "left |" in line)
    assert "notebooks done, about" in line
    assert "0" in line.split("left |")[1]


def test_every_executed_notebook_ran_to_its_last_cell_without_errors(smoke):
    root, _ = smoke
    executed = sorted((root / "notebooks").glob("*.ipynb"))
    assert len(executed) == len(tasks(get_profile("smoke"), root, root, root))
    for path in executed:
        cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        assert all(c.execution_count for c in cells if c.source.strip()), path.name
        kinds = {output.output_type for cell in cells for output in cell.outputs}
        assert "error" not in kinds
        assert "wall_seconds" in str(cells[-1].outputs)


def test_executed_notebooks_keep_their_figures(smoke):
    root, _ = smoke
    for name in ("01_games", "08_figures", "10_worst_case"):
        cells = nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4).cells
        outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
        assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2, name


def test_a_finished_reproduction_is_not_run_again(smoke, site):
    root, _ = smoke
    began = time.time()
    again = start(root, site)
    output, _ = again.communicate()
    assert again.returncode == 0
    assert "done in 0:00" in output
    assert max(p.stat().st_mtime for p in (root / "notebooks").glob("*.ipynb")) < began


def test_two_reproductions_do_not_share_a_folder(smoke):
    import fcntl

    root, _ = smoke
    with open(root / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another reproduction is running"):
            reproduce(get_profile("smoke"), root, root / "figures", root / "tables")


def test_a_users_own_game_has_its_runs_results_and_figures(smoke):
    root, _ = smoke
    table = pd.read_csv(root / "tables" / "smoke.csv")
    assert set(table.loc[table["game"] == "commons", "stage"]) == {"base", "sft", "sepo"}
    for name in ("terms-pico-commons", "training-pico-commons"):
        assert (root / "figures" / f"{name}.png").stat().st_size > 5_000
    runs = archive.find_runs(root)
    runs = runs[runs["game"] == "commons"]
    assert set(runs["stage"]) == {"sft", "sepo"} and set(runs["status"]) == {"done"}
    (sepo,) = runs[runs["stage"] == "sepo"]["path"]
    recorded = archive.recordings(sepo)
    episodes = archive.read_episodes(recorded[next(name for name in recorded if name.startswith("training"))])
    match = archive.read_match(episodes, "exploit", "greedy")
    assert "stock 12" in " ".join(match["prompt"]) and set(match["action"]) <= {"1", "2", "3"}


def test_the_widgets_know_a_users_own_game(smoke):
    root, _ = smoke
    found = stored([root], "commons")
    # Once the stock is used up rounds pass without a decision; they count all the same.
    assert len(found.contenders) == 3 and not found.problems
    lab = PenaltyLab(root.parent, "commons", "smoke")
    assert lab.game.value == "commons"
    assert Table(root, "commons").game.value == "commons"


def test_a_failing_notebook_is_named_with_its_error(tmp_path):
    output = tmp_path / "06_evaluation.ipynb"
    with pytest.raises(NotebookFailed, match="stages must be among"):
        run_notebook("06_evaluation", {"profile": "smoke", "stages": ["best"]}, output)
    assert output.exists()


def test_no_space_is_found_out_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2**20})())
    with pytest.raises(OSError, match="1 MiB free and 2048 MiB are needed"):
        reproduce(get_profile("smoke"), tmp_path / "runs", tmp_path / "f", tmp_path / "t")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_task_comes_after_what_it_needs_and_has_known_parameters(profile, tmp_path):
    seen = set()
    for task in tasks(profile, tmp_path, tmp_path, tmp_path):
        assert task.name not in seen
        assert set(task.after) <= seen
        check_parameters(task.notebook, task.parameters)
        seen.add(task.name)


def test_result_files_are_those_of_the_profile(tmp_path):
    folder = get_profile("smoke").plans[0].folder(tmp_path) / "results"
    folder.mkdir(parents=True)
    (folder / "base.json").write_text("{}")
    (folder / "sft-seed-7.json").write_text("{}")
    assert result_files(get_profile("smoke"), tmp_path) == [folder / "base.json"]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_follow_the_conventions(path):
    cells = nbformat.read(path, as_version=4).cells
    code = [c for c in cells if c.cell_type == "code"]
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith(f"# {path.stem[:2]} ·")
    assert "Claim:" in cells[0].source and "| profile | time" in cells[0].source
    assert code[0].metadata.get("tags") == ["parameters"]
    assert all("#" in line for line in code[0].source.splitlines())
    assert code[-1].source.lstrip().startswith("notebook_provenance")
    assert not any(c.outputs or c.execution_count for c in code)


def test_the_longest_chain_goes_first():
    """By hand: b 1 + c 3 + d 2 = 6 minutes, a 4 + d 2 = 6, e 5.5, c 3 + d 2 = 5, d 2."""
    todo = [
        Task("a", "", {}, (), 4), Task("b", "", {}, (), 1), Task("c", "", {}, ("b",), 3),
        Task("d", "", {}, ("a", "c"), 2), Task("e", "", {}, (), 5.5),
    ]  # fmt: skip
    assert [task.name for task in longest_chain_first(todo)] == ["a", "b", "e", "c", "d"]


def run_alone(todo, root):
    """The names of the tasks that a reproduction of ``todo`` runs; each writes what it makes."""
    ran = []

    def starts(task, root, threads, gpu):
        ran.append(task.name)
        made = [unfinished(task, root), *task.makes]
        return Child(
            [sys.executable, "-c", "import sys; [open(p, 'w') for p in sys.argv[1:]]", *made],
            log(task, root),
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sepo_kit.pipeline.reproduce._start", starts)
        patch.setattr(Reproduction, "_finish", lambda self: None)
        Reproduction(get_profile("smoke"), root, todo, 1, io.StringIO()).run()
    return ran


def test_what_has_lost_its_files_is_done_again_and_all_behind_it(tmp_path):
    """Also where the second go was cut short before it came to them."""
    made = tmp_path / "result.json"

    def todo():
        return [
            Task("a", "01_games", {}), Task("b", "02_penalties", {}, ("a",), makes=(made,)),
            Task("c", "08_figures", {}, ("b",)), Task("d", "03_sft_data", {}),
        ]  # fmt: skip

    assert sorted(run_alone(todo(), tmp_path)) == ["a", "b", "c", "d"]
    assert run_alone(todo(), tmp_path) == []
    made.unlink()
    assert run_alone(todo()[:2], tmp_path) == ["b"]
    assert run_alone(todo(), tmp_path) == ["c"]
    changed = todo()
    changed[0].parameters = {"seed": 1}
    assert run_alone(changed, tmp_path) == ["a", "b", "c"]


def test_what_does_not_need_a_failed_notebook_runs_all_the_same(tmp_path, monkeypatch):
    todo = [Task("a", "", {}), Task("b", "", {}, ("a",)), Task("c", "", {}), Task("d", "", {}, ("c",))]

    def starts(task, root, threads, gpu):
        code = "raise ValueError('no')" if task.name == "a" else "import sys; open(sys.argv[1], 'w')"
        return Child([sys.executable, "-c", code, unfinished(task, root)], log(task, root))

    monkeypatch.setattr("sepo_kit.pipeline.reproduce._start", starts)
    monkeypatch.setattr("sepo_kit.pipeline.tasks.fingerprint", lambda task, root: task.name)
    monkeypatch.setattr("sepo_kit.pipeline.reproduce.fingerprint", lambda task, root: task.name)
    with pytest.raises(NotebookFailed, match=r"(?s)a failed: ValueError: no.*1 notebooks behind that wait"):
        Reproduction(get_profile("smoke"), tmp_path, todo, 1, io.StringIO()).run()
    assert list(reasons(todo, tmp_path)) == ["a", "b"]


def test_a_dry_run_says_what_would_run_and_why_and_makes_nothing(tmp_path):
    said, root = io.StringIO(), tmp_path / "runs"
    reproduce(get_profile("smoke").only(None, ["kuhn"]), root, root, root, stream=said, dry_run=True)
    lines = said.getvalue().splitlines()
    assert "05_sepo_training pico/kuhn   behind 04_sft_warm_start pico/kuhn" in lines
    assert lines[0].split(maxsplit=1) == ["03_sft_data", "has not run"]
    assert lines[-1] == "10 of 10 notebooks would run" and not root.exists()


@pytest.mark.parametrize(
    ("said", "again"),
    [("RuntimeError: Kernel didn't respond in 60 seconds", True), ("ValueError: no", False)],
)
def test_a_kernel_that_never_answered_is_started_once_more(tmp_path, monkeypatch, said, again):
    """Two kernels that start at once may pick the same port; any other error ends the reproduction."""
    task = Task("a", "01_games", {})
    started = []

    def fails(task, root, threads, gpu):
        started.append(task.name)
        return Child([sys.executable, "-c", f"print({said!r}); raise SystemExit(1)"], log(task, root))

    monkeypatch.setattr("sepo_kit.pipeline.reproduce._start", fails)
    with pytest.raises(NotebookFailed, match="a failed"):
        Reproduction(get_profile("smoke"), tmp_path, [task], 1, io.StringIO()).run()
    assert len(started) == 1 + again


@pytest.mark.parametrize("cards", [[], ["0"], ["3", "5"]])
def test_each_worker_has_a_gpu_of_its_own_where_there_are_some(tmp_path, monkeypatch, cards):
    todo = [Task(name, "01_games", {}) for name in "abcd"]
    saying = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"]
    monkeypatch.setattr("sepo_kit.pipeline.reproduce.gpus", lambda: cards)
    monkeypatch.setattr("sepo_kit.pipeline.reproduce.command", lambda *_: saying)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    ran = Reproduction(get_profile("smoke"), tmp_path, todo, max(len(cards), 1), io.StringIO())
    ran._start_ready(1)
    for name, child in ran.processes.items():
        assert not child.runs(60) and not child.failed, name
    said = [child.log.read_text().strip() for child in ran.processes.values()]
    assert said == (cards or ["None"])


def test_workers_follow_the_gpus_and_else_the_cores(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("sepo_kit.pipeline.reproduce.check_parameters", lambda *_: None)
    monkeypatch.setattr(Reproduction, "run", lambda self: asked.append(self.workers))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for cards in (["0", "1", "2"], []):
        monkeypatch.setattr("sepo_kit.pipeline.reproduce.gpus", lambda cards=cards: cards)
        reproduce(get_profile("smoke"), tmp_path, tmp_path, tmp_path)
    reproduce(get_profile("smoke"), tmp_path, tmp_path, tmp_path, workers=1)
    assert asked == [3, 4, 1]


def test_runs_of_other_code_are_named_before_anything_starts(tmp_path):
    plan = get_profile("smoke").plan("pico", "kuhn")
    request = {"stage": "sft", "base": "pico", "base_sha256": None, "game": "kuhn", "seed": 0, "code": "0123",
               "settings": plan.sft.as_request()}  # fmt: skip
    Run(plan.stage_folder(tmp_path, "sft", 0), request).finish()
    said = io.StringIO()
    Reproduction(get_profile("smoke"), tmp_path, [], 1, said)._say_what_is_old()
    assert "sft-seed-0 was finished by other code (0123, now " in said.getvalue()
    assert said.getvalue().count("\n") == 1 and "add --keep" in said.getvalue()


def test_a_terminated_notebook_takes_papermill_and_its_kernel_along(tmp_path):
    """As ``timeout``, CI and containers stop it."""
    line = [sys.executable, "-m", "sepo_kit", "notebook", "01_games", "-p", "runs", str(tmp_path / "marked")]
    parent = subprocess.Popen(
        [*line, "--output", str(tmp_path / "out.ipynb")], cwd=PROJECT, stderr=subprocess.PIPE
    )

    def below() -> dict[int, str]:
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as file:
                    state, above = file.read().rsplit(")", 1)[1].split()[:2]
            except OSError:
                continue
            if state != "Z":
                found[int(pid)] = int(above)
        mine = {parent.pid}
        while more := {pid for pid, above in found.items() if above in mine} - mine:
            mine |= more
        return mine - {parent.pid}

    until = time.monotonic() + 120
    while len(children := below()) < 2 and time.monotonic() < until:  # papermill, then its kernel
        time.sleep(0.1)
    assert len(children) >= 2
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(60) == 130
    until = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}") for pid in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [pid for pid in children if os.path.exists(f"/proc/{pid}")]
