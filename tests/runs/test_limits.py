"""What memory a process may have, by whatever limits it, and the one line that says so when it runs out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sepo_kit.runs import allowed_memory, is_out_of_memory, limits, memory_said

GIB = 2**30


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """The control groups of a machine on which nothing is limited."""
    monkeypatch.setattr(limits, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "OF_PROCESS", tmp_path / "own")
    (tmp_path / "own").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("own", "file"),
    [
        ("0::/jobs/7\n", "jobs/memory.max"),  # of a group around its own
        ("0::/jobs/7\n", "memory.max"),  # as a container sees its own
        ("9:cpu:/\n4:memory:/jobs/7\n0::/\n", "memory/jobs/7/memory.limit_in_bytes"),
    ],
)
def test_the_least_limit_of_a_control_group_is_found(groups, own, file):
    (groups / "own").write_text(own)
    inner = groups / "cgroup" / "jobs" / "7"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    path = groups / "cgroup" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{GIB // 2}\n")
    assert allowed_memory() == f"0.5 GiB, by {path}"


def test_without_a_limit_it_is_what_the_machine_has(groups):
    assert allowed_memory().endswith(" GiB, the machine's")
    (groups / "own").unlink()
    assert allowed_memory().endswith(" GiB, the machine's")


@pytest.mark.parametrize("limit", ["AS", "DATA"])
def test_a_limit_of_the_shell_is_found_and_what_was_asked(limit):
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_{limit}, (3 * 2**28, 3 * 2**28))
from sepo_kit.runs import memory_said
print(memory_said(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 512 bytes.")))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    flag = {"AS": "v", "DATA": "d"}[limit]
    assert found.stdout == f"asked for 512 bytes more; allowed: 0.8 GiB, by ulimit -{flag}\n"


def test_of_other_errors_nothing_is_said():
    assert not is_out_of_memory(RuntimeError("no")) and not is_out_of_memory(ValueError("out of memory"))
    assert is_out_of_memory(OSError("Cannot allocate memory (os error 12)"))
    assert memory_said(MemoryError()).startswith("allowed: ")
