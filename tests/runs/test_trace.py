"""``sepo-kit trace``: from a picture back to the runs, seeds and commits that it was made from."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from sepo_kit.cli import main
from sepo_kit.runs import Run, RunError
from sepo_kit.runs.trace import trace

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("suffix", ["png", "svg", "csv"])
def test_a_picture_is_traced_to_the_runs_of_the_agents_in_it(suffix, capsys):
    assert main(["trace", str(PROJECT / "figures" / f"terms-pico-ipd.{suffix}")]) == 0
    told = capsys.readouterr().out
    assert "pico on ipd, SEPO, seed 2" in told and "sft    ipd, seed 2, commit " in told
    assert "smollm2" not in told and "make reproduce PROFILE=quick" in told


def test_every_agent_in_a_picture_has_its_chain():
    with open(PROJECT / "figures" / "safety-change.csv") as file:
        drawn = {(row["model"], row["game"]) for row in csv.DictReader(file)}
    found = trace(PROJECT / "figures" / "safety-change.png")
    assert {
        (chain[0]["model"], chain[-1]["game"]) for chain in found.chains.values() if len(chain) > 1
    } == drawn
    assert found.commits


def test_a_table_that_has_changed_is_said_to_have(tmp_path):
    for suffix in ("csv", "json"):
        shutil.copy(PROJECT / "data" / "results" / f"quick.{suffix}", tmp_path)
    assert not trace(tmp_path / "quick.csv").problem and len(trace(tmp_path / "quick.csv").chains) > 10


def test_a_file_in_a_run_is_traced_to_it(tmp_path):
    with Run(
        tmp_path / "run", {"stage": "sft", "game": "kuhn", "seed": 3, "base": "pico"}, writes=True
    ) as run:
        (run.path / "metrics.jsonl").write_text("{}\n")
        run.finish()
    found = trace(run.path / "metrics.jsonl")
    assert "metrics.jsonl of the run" in found.kind and "--seed 3" in found.remade_by and not found.problem
    (run.path / "metrics.jsonl").write_text("{}\n{}\n")
    assert "has changed" in trace(run.path / "metrics.jsonl").problem


def test_what_nothing_is_known_of(tmp_path):
    (tmp_path / "one.png").touch()
    with pytest.raises(RunError, match=r"nothing says where .*one\.png comes from .*--source"):
        trace(tmp_path / "one.png")
    with pytest.raises(RunError, match="is missing; name a picture"):
        trace(tmp_path / "two.png")
