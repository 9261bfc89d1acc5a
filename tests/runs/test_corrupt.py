"""Damaged files of every kind, and everything that reads them: one line, never a stack trace."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import corrupt

WHOLE = {f"{corrupt.SFT}/manifest.json": ("read", "one line")}  # one reader asks for another run


@pytest.fixture(scope="module")
def root(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrupt")
    shutil.copytree(tiny_folder, folder / "model")
    before = corrupt.several.sft.demonstrations
    yield corrupt.made(folder)
    corrupt.several.sft.demonstrations = before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", corrupt.READERS)
def test_a_damaged_file_is_one_line(root, name):
    kept = corrupt.kept(root)
    for reader in corrupt.READERS[name]:
        corrupt.put_back(root, kept)
        assert corrupt.said_by(reader, root) in WHOLE.get(name, ("read",))
    corrupt.put_back(root, kept)
    traces: Counter = Counter()
    found = corrupt.tried(root, name, 2, np.random.default_rng(sum(map(ord, name))), traces)
    assert not traces, "\n".join(traces)
    assert found["read"] + found["one line"] == 2


def with_a_score(file: Path) -> None:
    """A number that no float holds."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for name in rows[0]:
        rows[0][name] = 10**400 if isinstance(rows[0][name], float) else rows[0][name]
    file.write_text("\n".join(map(json.dumps, rows)))


def with_half_a_round(file: Path) -> None:
    frame = pd.read_parquet(file)
    frame["round"] = 0.5
    frame.to_parquet(file, index=False)


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        (f"{corrupt.SEPO}/scores.jsonl", with_a_score, "is not of a log of this version"),
        (f"{corrupt.SAMPLED}.parquet", with_half_a_round, r"no usable values in: round"),
    ],
)
def test_what_the_loop_of_damaged_files_has_found(root, name, damage, says):
    kept = corrupt.kept(root)
    damage(root / name)
    try:
        with pytest.raises(ValueError, match=says):
            corrupt.READERS[name][0](root)
    finally:
        corrupt.put_back(root, kept)
