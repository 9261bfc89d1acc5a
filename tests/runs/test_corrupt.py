"""Damaged files of every kind, and everything that reads them: one line, never a stack trace."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
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
