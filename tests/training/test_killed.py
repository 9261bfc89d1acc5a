"""A run that is killed, in earnest and at any moment, ends with the weights of one that was left alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import several
from safetensors.torch import load_file

from sepo_kit.runs import METRICS, RunError, read_json, read_lines, read_manifest

PROJECT = Path(__file__).parents[2]
STEPS = 8
SETTINGS = {
    "sft": replace(several.SFT, records=STEPS * 8, save_every=2, lora_dropout=0.1),
    "sepo": replace(several.SEPO, steps=STEPS, save_every=2, lora_dropout=0.1),
}


def step_of(run: Path) -> int:
    """Where the run says it stands."""
    try:
        return read_json(run / "progress.json")["step"]
    except RunError:  # not there yet
        return 0


@pytest.fixture(scope="module")
def processes():
    """Starts processes that have the libraries already: forks of one that has read them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["several"])
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(PROJECT), str(PROJECT / "tests"), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield context


@pytest.mark.parametrize("stage", SETTINGS)
def test_killed_at_three_moments_a_run_ends_with_the_same_weights(processes, tiny_folder, tmp_path, stage):
    settings = SETTINGS[stage]

    def start(run: str) -> multiprocessing.Process:
        process = processes.Process(target=several.run, args=(stage, tiny_folder, tmp_path / run, settings))
        process.start()
        return process

    left_alone = start("whole")
    left_alone.join(timeout=120)
    assert left_alone.exitcode == 0
    rows = read_lines(tmp_path / "whole" / METRICS)
    assert len(rows) == STEPS

    rng = np.random.default_rng(len(stage))
    pace = float(np.median([row["seconds"] for row in rows]))
    killed_at = []
    for step in sorted(rng.integers(0, STEPS - 3, size=3)):
        (tmp_path / "run" / "progress.json").unlink(missing_ok=True)  # it is of the process before
        process = start("run")
        deadline = time.time() + 120
        while step_of(tmp_path / "run") < max(step, 1) and process.is_alive():
            assert time.time() < deadline
            time.sleep(0.002)
        time.sleep(rng.uniform(0, pace))  # anywhere in the step that follows, saving included
        os.kill(process.pid, signal.SIGKILL)
        process.join(timeout=60)
        assert process.exitcode == -signal.SIGKILL
        killed_at.append(step_of(tmp_path / "run"))
        assert read_manifest(tmp_path / "run")["status"] == "started"
    assert len(killed_at) == 3 and min(killed_at) >= 1

    last = start("run")
    last.join(timeout=120)
    assert last.exitcode == 0
    mine, theirs = (
        load_file(tmp_path / run / "adapter" / "adapter_model.safetensors") for run in ("run", "whole")
    )
    assert mine.keys() == theirs.keys()
    assert all((mine[name] == theirs[name]).all() for name in theirs)
    told = [
        [(row["step"], row["loss"]) for row in read_lines(tmp_path / r / METRICS)] for r in ("run", "whole")
    ]
    assert told[0] == told[1]
