"""Two processes do what one does, and die together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import forked
import psutil
import pytest
import several
import yaml
from batches import alive, wait_for
from safetensors.torch import load_file

from sepo_kit.games import get_game
from sepo_kit.runs import METRICS, read_json, read_lines, read_manifest
from sepo_kit.training import processes, rollouts, sft
from sepo_kit.training.processes import collected, dealt

PROJECT = Path(__file__).parents[2]
CONFIGS = PROJECT / "configs" / "accelerate"
STAGES = ("train-sft", "train-sepo")


@contextmanager
def launched(model: Path, runs: Path, steps: int) -> Iterator[tuple[subprocess.Popen, Path]]:
    """``several.py`` in two processes, and where they write their errors, which a failure shows; none of them is alive
    after the block."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / "cpu-2.yaml"]
    paths = [str(PROJECT), str(PROJECT / "tests"), os.environ.get("PYTHONPATH", "")]
    log = runs / "errors.log"
    with open(log, "w") as errors:
        process = subprocess.Popen(
            [*map(str, command), str(Path(several.__file__)), str(model), str(runs), str(steps)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    try:
        yield process, log
    except Exception as failure:
        failure.add_note(log.read_text())
        raise
    finally:
        for pid in alive(str(runs)):  # each worker has a session of its own
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def two(tiny_folder, tmp_path_factory):
    """Both stages in two processes: folder of the runs, and what was printed."""
    runs = tmp_path_factory.mktemp("two")
    with launched(tiny_folder, runs, several.SEPO.steps) as (process, _):
        out, _ = process.communicate(timeout=900)
        assert process.returncode == 0
    return runs, out


@pytest.fixture(scope="module")
def one(tiny_folder, tmp_path_factory):
    """The same in one process, which no test before has left anything in, such as accelerate's state."""
    runs = tmp_path_factory.mktemp("one")
    program = forked.Program(several.train, tiny_folder, runs, log=runs / "one.log")
    assert program.wait(900) == 0, (runs / "one.log").read_text()
    return runs


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_make_the_update_that_one_makes(one, two, stage):
    mine, theirs = (
        load_file(runs / stage / "adapter" / "adapter_model.safetensors") for runs in (one, two[0])
    )
    assert mine.keys() == theirs.keys()
    # One lays out its rows as token trees, two pad them: sums in another order, through two updates of Adam.
    assert max(float((mine[name] - theirs[name]).abs().max()) for name in mine) < 5e-5
    assert max(float(mine[name].abs().max()) for name in mine if "lora_B" in name) > 1e-3


def test_two_processes_play_the_episodes_that_one_plays(one, two):
    """Their terms, spreads and credit are equal, digit by digit; the worst case comes of what the model says in other
    batches."""
    asked = ("sepo/worst_case", "sepo/guaranteed")
    mine, theirs = (read_lines(runs / "train-sepo" / METRICS) for runs in (one, two[0]))
    assert len(mine) == len(theirs) == several.SEPO.steps
    for row, other in zip(mine, theirs, strict=True):
        played = [name for name in row if name.startswith("sepo/") and name not in asked]
        assert len(played) > 10
        assert [row[name] for name in asked] == pytest.approx([other[name] for name in asked], abs=1e-6)
        assert {name: row[name] for name in played} == {name: other[name] for name in played}
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_one_of_them_writes_and_speaks(two):
    runs, out = two
    assert [line for line in out.splitlines() if line] == [f"done: {runs / stage}" for stage in STAGES]
    for stage in STAGES:
        assert read_manifest(runs / stage)["status"] == "done"
        assert {path.name for path in (runs / stage).iterdir()} >= {"adapter", "manifest.json", METRICS}


def test_a_killed_worker_ends_the_run_with_its_cause(tiny_folder, tmp_path):
    told = tmp_path / "train-sepo" / "progress.json"
    with launched(tiny_folder, tmp_path, 10_000) as (process, log):

        def trains():
            assert process.poll() is None
            return told.exists() and read_json(told)["step"] >= 2

        wait_for(trains, seconds=900)
        workers = psutil.Process(process.pid).children()
        assert len(workers) == 2
        workers[-1].send_signal(signal.SIGKILL)
        process.communicate(timeout=300)
        assert process.returncode not in (0, None)
        assert "Signal 9 (SIGKILL)" in log.read_text()
        assert not any(worker.is_running() for worker in workers)
    assert (tmp_path / "train-sepo" / "checkpoints").is_dir()
    assert read_manifest(tmp_path / "train-sepo")["status"] == "started"


# --- in one process -------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [1, 2, 3, 5])
def test_what_is_dealt_out_is_collected_in_order(of):
    items = list(range(7))
    hands = [dealt(items, number, of) for number in range(of)]
    assert collected(hands) == items
    assert max(map(len, hands)) - min(map(len, hands)) <= 1


def test_rows_that_cannot_be_shared_are_refused(monkeypatch):
    monkeypatch.setattr(rollouts, "share_of_work", lambda: (0, 7))
    with pytest.raises(ValueError, match="7 processes cannot share the 240 rows of a step evenly"):
        rollouts.Rollouts(get_game("kuhn"), None, several.SEPO, seed=0)


@pytest.mark.parametrize(
    ("processes", "expected"), [(1, (4, 2)), (2, (4, 1)), (4, (2, 1)), (8, (1, 1))]
)  # of 4 rows, twice
def test_an_update_of_the_warm_start_keeps_its_rows(processes, expected):
    assert sft._shared(several.SFT, processes) == expected


def test_a_warm_start_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="3 processes cannot share the 8 rows of an update"):
        sft._shared(several.SFT, 3)


def test_under_fsdp_all_do_the_same(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert processes.share_of_work() == (0, 1)


def test_a_lost_process_is_one_line(monkeypatch):
    monkeypatch.setattr(
        processes, "world", lambda: type("World", (), {"num_processes": 2, "process_index": 1})()
    )
    gone = RuntimeError("[.../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")
    with (
        pytest.raises(ConnectionError, match=r"^process 1: another process of this run has ended") as error,
        processes.lost_processes_named(),
    ):
        raise gone
    assert "\n" not in str(error.value)
    with pytest.raises(RuntimeError, match="other trouble"), processes.lost_processes_named():
        raise RuntimeError("other trouble")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_is_one_that_accelerate_reads(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.num_processes >= 2
    assert config.distributed_type.value == yaml.safe_load(path.read_text())["distributed_type"]
