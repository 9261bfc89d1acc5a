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

from sepo_kit.pipeline.notebooks import NOTEBOOKS, PROJECT, NotebookFailed, check_parameters, run_notebook
from sepo_kit.pipeline.profiles import PROFILES, get_profile
from sepo_kit.pipeline.reproduce import (
    Reproduction,
    Task,
    _log,
    longest_chain_first,
    reproduce,
    result_files,
    tasks,
)
from sepo_kit.runs import RunError


def start(root):
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "sepo_kit", "reproduce", "--profile", "smoke", "--runs", str(root)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=PROJECT, start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Output of a smoke reproduction that was killed at its first result and then run again."""
    root = tmp_path_factory.mktemp("smoke") / "runs"
    first = start(root)
    for line in first.stdout:
        if line.startswith("result: "):
            break
    else:
        pytest.fail("no result before the end")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    second = start(root)
    output, _ = second.communicate()
    assert second.returncode == 0, output
    return root, output


def test_it_ends_with_the_table_and_figures(smoke):
    root, output = smoke
    assert "payoff" in output and "Safety" in output and "fallback" in output
    for plan in get_profile("smoke").plans:
        for stage in ("base", "sft", "sepo"):
            assert any(plan.game in line and f" {stage} " in line for line in output.splitlines())
    assert (root / "figures" / "safety-change.png").stat().st_size > 5_000
    table = pd.read_csv(root / "tables" / "smoke.csv")
    assert set(table["stage"]) == {"base", "sft", "sepo"}


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
    for name in ("01_games", "08_figures"):
        cells = nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4).cells
        outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
        assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2, name


def test_a_finished_reproduction_is_not_run_again(smoke):
    root, _ = smoke
    began = time.time()
    again = start(root)
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


@pytest.mark.parametrize(
    ("said", "again"),
    [("RuntimeError: Kernel didn't respond in 60 seconds", True), ("ValueError: no", False)],
)
def test_a_kernel_that_never_answered_is_started_once_more(tmp_path, monkeypatch, said, again):
    """Two kernels that start at once may pick the same port; any other error ends the reproduction."""
    task = Task("a", "01_games", {})
    started = []

    def fails(task, root, threads):
        started.append(task.name)
        _log(task, root).parent.mkdir(parents=True, exist_ok=True)
        _log(task, root).write_text(said)
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])

    monkeypatch.setattr("sepo_kit.pipeline.reproduce._start", fails)
    with pytest.raises(NotebookFailed, match="a failed"):
        Reproduction(get_profile("smoke"), tmp_path, [task], 1, io.StringIO()).run()
    assert len(started) == 1 + again
