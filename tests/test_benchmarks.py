"""Every benchmark runs, in its smoke form: on little data, nothing written."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path

import forked
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# Tests of killed trainings and batches and of corrupt files run their parts, in processes that have the libraries.
ELSEWHERE = {"kills", "corrupt"}
PROGRAMS = {path.stem for path in BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
SCRIPTS = sorted(PROGRAMS - ELSEWHERE)
# What each must show: a column, and a word of a row.
SHOWN = {
    "commands": ("seconds", "make help"),
    "exact": ("times_peer", "OpenSpiel"),
    "generation": ("kit_per_s", "smollm2"),
    "lab": ("limit_ms", "slider move"),
    "leduc": ("worst_case", "MCCFR", "pico"),
    "reasoned": ("times", "token trees"),
    "reuse": ("noise", "share"),
    "rollout": ("lockstep_per_s", "reasoned", "self-play"),
    "scaling": ("times", "processes"),
    "simulation": ("ratio", "Axelrod"),
    "step": ("peak_share", "credited"),
}


def written() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (BENCHMARKS / "results").glob("*")}


def test_make_bench_runs_the_programs_and_nothing_else():
    makefile = (BENCHMARKS.parent / "Makefile").read_text()
    listed = re.search(r"^BENCHMARKS := (.*)$", makefile, re.M)[1].split()
    assert set(listed) == PROGRAMS and len(set(listed)) == len(listed)


def test_without_llama_cpp_its_benchmark_is_skipped_and_the_others_go_on(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["generation.py"])
    runpy.run_path(str(BENCHMARKS / "generation.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("skipped: llama.cpp is missing; build it")


@pytest.mark.usefixtures("ready_pico")
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_smoke_form_runs_and_writes_nothing(script, tmp_path):
    before = written()
    program, said = BENCHMARKS / f"{script}.py", tmp_path / "said"
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)}
    running = forked.Program(forked.script, program, "--smoke", log=said, environment=environment)
    assert running.wait(600) == 0, said.read_text()
    for shown in SHOWN[script]:
        assert shown in said.read_text()
    assert written() == before
