"""The suite says of itself what does not run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "pyproject.toml"


def test_a_test_file_that_cannot_be_imported_is_an_error_and_not_left_out(tmp_path):
    file = tmp_path / "test_broken.py"
    file.write_text("from os import nothing_such\n\n\ndef test_it():\n    assert False\n")
    command = [sys.executable, "-m", "pytest", "-c", str(CONFIG), "-p", "no:cacheprovider", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2 and "cannot import name 'nothing_such'" in ended.stdout
