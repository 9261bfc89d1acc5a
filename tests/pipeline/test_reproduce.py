"""The whole pipeline in the smoke profile, headless: killed on the way, run again, and what it leaves."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import nbformat
import pandas as pd
import pytest
from batches import parts, wait_for

from sepo_kit.evaluation import archive
from sepo_kit.evaluation.contenders import stored
from sepo_kit.pipeline.notebooks import NOTEBOOKS, NotebookFailed, check_parameters, run_notebook
from sepo_kit.pipeline.profiles import PROFILES, get_profile
from sepo_kit.pipeline.reproduce import LOG, reproduce
from sepo_kit.pipeline.tasks import result_files, tasks
from sepo_kit.runs import RunError, file_hash
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
def smoke(tmp_path_factory, commons, site, ready_pico):
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
    lines = [line for line in output.splitlines() if "left |" in line]
    assert all("notebooks done, about" in line for line in lines)
    assert any(line.split("left | ")[1].startswith("0") for line in lines), "no notebook was named"


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

    def written():
        """By Snakemake, by the nodes that it starts, and by their notebooks."""
        found = [*root.glob(LOG), *root.glob("notebooks/*.state.json"), *root.glob("notebooks/*.ipynb")]
        return {file: (file.stat().st_mtime_ns, file_hash(file)) for file in found}

    before = written()
    again = start(root, site)
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert re.search(r"done in \d+:\d\d", output)
    assert written() == before and len(before) == 1 + 2 * len(tasks(get_profile("smoke"), root, root, root))


def test_two_reproductions_do_not_share_a_folder(smoke):
    import fcntl

    root, _ = smoke
    with open(root / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another reproduction is running"):
            reproduce(parts(root), root)


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


@pytest.mark.parametrize(
    ("said", "tries"),
    [
        ("Kernel died before replying to kernel_info", 2),
        ("Kernel didn't respond in 300 seconds", 2),
        ("Kernel died", 1),  # in a cell
    ],
)
def test_a_kernel_that_never_came_up_is_started_once_more(tmp_path, monkeypatch, said, tries):
    tried = tmp_path / "tried"
    code = f"import pathlib; tried = pathlib.Path({str(tried)!r}); tried.open('a').write('x')\n"
    code += f"if tried.read_text() == 'x': raise RuntimeError({said!r})"
    monkeypatch.setattr("sepo_kit.pipeline.notebooks.command", lambda *_: [sys.executable, "-c", code])
    with nullcontext() if tries == 2 else pytest.raises(NotebookFailed, match=said):
        run_notebook("01_games", {}, tmp_path / "out.ipynb")
    assert tried.read_text() == "x" * tries


def test_no_space_is_found_out_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2**20})())
    with pytest.raises(OSError, match="1 MiB free and 2048 MiB are needed"):
        reproduce(parts(tmp_path / "runs"), tmp_path / "runs")
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


def test_the_notebook_on_credit_runs_where_no_study_is_published(tmp_path):
    """As in a project of ``sepo-kit init``: what is read from studies is left out, and it says how to make them."""
    empty = tmp_path / "results"
    empty.mkdir()
    output = tmp_path / "07.ipynb"
    asked = {"profile": "smoke", "runs": str(tmp_path / "runs"), "study": str(empty)}
    run_notebook("07_credit_ablation", asked, output)
    cells = nbformat.read(output, as_version=4).cells
    said = str([cell.get("outputs") for cell in cells])
    assert f"{empty} has no credit, exploiters, ablations, late: left out" in said
    assert "sepo-kit study tabular; sepo-kit study pico --exploiters;" in said and "wall_seconds" in said
    drawn = {path.stem for path in (tmp_path / "runs" / "credit").glob("*.png")}
    assert drawn == {"gradient-ipd", "gradient-kuhn", "credit-ipd", "credit-kuhn", "limits-ipd"}


def test_a_dry_run_says_what_would_run_and_why_and_makes_nothing(tmp_path):
    said, root = io.StringIO(), tmp_path / "runs"
    kuhn = [replace(part, profile=part.profile.only(None, ["kuhn"])) for part in parts(root)]
    reproduce(kuhn, root, stream=said, dry_run=True)
    lines = said.getvalue().splitlines()
    assert "05_sepo_training pico/kuhn   behind 04_sft_warm_start pico/kuhn" in lines
    assert lines[0].split(maxsplit=1) == ["03_sft_data", "has not run"]
    assert lines[-1] == "10 of 10 notebooks would run" and not root.exists()


def test_a_terminated_notebook_takes_papermill_and_its_kernel_along(tmp_path):
    """As ``timeout``, CI and containers stop it."""
    line = [sys.executable, "-m", "sepo_kit", "notebook", "01_games", "-p", "runs", str(tmp_path / "marked")]
    parent = subprocess.Popen(
        [*line, "--output", str(tmp_path / "out.ipynb")], cwd=PROJECT, stderr=subprocess.DEVNULL
    )

    def living() -> dict[int, int]:
        """The parent of every process that has not ended."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as file:
                    state, above = file.read().rsplit(")", 1)[1].split()[:2]
            except OSError:
                continue
            if state != "Z":
                found[int(pid)] = int(above)
        return found

    def below() -> set[int]:
        found, mine = living(), {parent.pid}
        while more := {pid for pid, above in found.items() if above in mine} - mine:
            mine |= more
        return mine - {parent.pid}

    try:
        children = wait_for(lambda: len(found := below()) >= 2 and found)  # papermill, then its kernel
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(300) == 130
    finally:
        parent.kill()
    wait_for(lambda: not children & living().keys())
