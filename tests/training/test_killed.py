"""A run that was stopped, anywhere and by whatever, ends with the bytes of one that was left alone."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import forked
import numpy as np
import pytest
import several

from sepo_kit import exact
from sepo_kit.engine.policy import tabular, uniform
from sepo_kit.exact import tree
from sepo_kit.games import get_game
from sepo_kit.runs import Run, RunError, is_held, read_manifest

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT / "benchmarks"))
import kills  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def few():
    """``several`` trains on few demonstrations; other tests on all."""
    before = several.sft.demonstrations
    yield
    several.sft.demonstrations = before


def train(stage: str, model: Path, folder: Path) -> None:
    several.run(stage.split(",")[0], model, folder, kills.STAGES[stage])


def grown_otherwise() -> None:
    """Kuhn poker's tree as it is where others asked first: its sums are rounded otherwise in their last digit."""
    game, rng = get_game("kuhn"), np.random.default_rng(1)
    keys = list(exact.policy_table(game, uniform(game)))
    tree._arena.cache_clear()
    for _ in range(3):
        exact.terms(game, tabular(game, {key: np.eye(2)[rng.integers(2)] for key in keys}))


@pytest.mark.parametrize(("stage", "moments"), zip(kills.STAGES, (8, 7, 6, 5), strict=True))
def test_whatever_a_killed_process_leaves_on_the_disk_a_run_goes_on_from(
    tiny_folder, tmp_path, stage, moments
):
    """The folder, as it is before every k-th operation on a file of it, is what a process that is killed there leaves:
    what had not been handed to the system is lost."""
    left: dict[int, Path] = {}

    def keep(number: int) -> None:
        if number in wanted:
            left[number] = Path(shutil.copytree(tmp_path / "whole", tmp_path / f"left-{number}"))

    wanted: set[int] = set()
    with kills.watched(tmp_path / "count", lambda number: None) as counted:
        train(stage, tiny_folder, tmp_path / "count")
    grown_otherwise()
    wanted |= set(np.linspace(1, counted(), moments).round().astype(int).tolist())
    with kills.watched(tmp_path / "whole", keep):
        train(stage, tiny_folder, tmp_path / "whole")
    expected = kills.made(tmp_path / "whole")
    assert kills.made(tmp_path / "count") == expected and len(left) == moments
    for number, folder in left.items():
        train(stage, tiny_folder, folder)
        found = kills.made(folder)
        assert found == expected, f"stopped before operation {number}"


# --- in earnest -----------------------------------------------------------------------------------


def test_killed_and_terminated_processes_hold_nothing_and_a_second_writer_is_refused(tiny_folder, tmp_path):
    stage = "sepo, limits"

    def start(at: int | None, by: int = signal.SIGKILL) -> multiprocessing.Process:
        arguments = (stage, tiny_folder, tmp_path / "run", at, tmp_path / "count", by)
        process = forked.context().Process(target=kills.train, args=arguments)
        process.start()
        return process

    train(stage, tiny_folder, tmp_path / "whole")
    for at, by in ((60, signal.SIGKILL), (50, signal.SIGTERM)):
        process = start(at, by)
        process.join(timeout=120)
        assert process.exitcode == -by and not is_held(tmp_path / "run")
    stopped = start(20, signal.SIGSTOP)
    deadline = time.monotonic() + 120
    while not _state(stopped.pid).startswith("T"):
        assert stopped.is_alive() and time.monotonic() < deadline
        stopped.join(timeout=0.02)
    with pytest.raises(RunError, match=rf"is being written by process {stopped.pid} on ") as error:
        train(stage, tiny_folder, tmp_path / "run")
    assert "\n" not in str(error.value)
    os.kill(stopped.pid, signal.SIGCONT)
    stopped.join(timeout=120)
    assert stopped.exitcode == 0
    assert kills.made(tmp_path / "run") == kills.made(tmp_path / "whole")


def _state(pid: int) -> str:
    """T for a stopped process, as ps says it."""
    return subprocess.run(
        ["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True
    ).stdout.strip()


# --- disks ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """As where the disk is full: what is written beyond ``size`` bytes of a file is refused by the system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("stage", ["sft", "sepo, limits"])
def test_a_full_disk_is_one_line_at_every_level_and_then_the_run_goes_on(tiny_folder, tmp_path, stage):
    train(stage, tiny_folder, tmp_path / "whole")
    for level in (0, 700, 8_000, 12_000, 25_000):  # Python's own files, safetensors', tokenizers', PyTorch's
        with pytest.raises(OSError, match="File too large") as error, no_file_above(level):
            train(stage, tiny_folder, tmp_path / "run")
        assert "\n" not in str(error.value) and not is_held(tmp_path / "run")
    train(stage, tiny_folder, tmp_path / "run")
    assert kills.made(tmp_path / "run") == kills.made(tmp_path / "whole")


@pytest.mark.parametrize("stage", ["sft", "sepo, limits"])
def test_a_place_that_cannot_be_written_is_one_line(tiny_folder, stage):
    with pytest.raises(OSError, match="/proc/nothing") as error:  # which not even root can make
        train(stage, tiny_folder, Path("/proc/nothing/run"))
    assert "\n" not in str(error.value)


def test_a_run_lets_go_when_nobody_has_it_any_more(tmp_path):
    """As a notebook does whose cell was stopped and run again."""
    request = {"stage": "sft", "seed": 0}
    run = Run(tmp_path / "run", request, writes=True)
    assert is_held(tmp_path / "run")
    del run
    assert not is_held(tmp_path / "run")
    with Run(tmp_path / "run", request, writes=True):
        assert read_manifest(tmp_path / "run")["status"] == "started"
