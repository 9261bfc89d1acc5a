"""Every benchmark runs, in its smoke form: on little data, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# Tests of killed trainings and batches and of corrupt files run their parts, in processes that have the libraries.
ELSEWHERE = {"kills", "killed_batch", "corrupt", "watching"}
SCRIPTS = sorted({path.stem for path in BENCHMARKS.glob("*.py")} - {"common"} - ELSEWHERE)
# What each must show: a column, and a word of a row.
SHOWN = {
    "exact": ("times_peer", "OpenSpiel"),
    "lab": ("limit_ms", "slider move"),
    "leduc": ("worst_case", "MCCFR", "pico"),
    "reasoned": ("times", "token trees"),
    "rollout": ("lockstep_per_s", "reasoned", "self-play"),
    "scaling": ("times", "processes"),
    "simulation": ("ratio", "Axelrod"),
    "step": ("peak_share", "credited"),
}


def written() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (BENCHMARKS / "results").glob("*")}


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_smoke_form_runs_and_writes_nothing(script):
    before = written()
    found = subprocess.run(
        [sys.executable, BENCHMARKS / f"{script}.py", "--smoke"],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    for shown in SHOWN[script]:
        assert shown in found.stdout
    assert written() == before
