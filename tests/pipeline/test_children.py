"""A killed parent takes its children with it; a stopped child ends, whatever it does; why it ended is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from batches import wait_for

from sepo_kit.pipeline.children import Child, last_error

PARENT = """
import subprocess, sys, time
from sepo_kit.pipeline.children import die_with_parent
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], preexec_fn=die_with_parent)
print(child.pid, flush=True)
time.sleep(60)
"""


def running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has this signal; elsewhere children end by themselves"
)
def test_a_child_ends_when_its_parent_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert running(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not running(child))


def child(code: str, log, **options) -> Child:
    return Child([sys.executable, "-c", code], log / "child.log", **options)


def test_a_child_writes_into_its_log_and_sees_its_environment(tmp_path):
    made = child("import os; print(os.environ['A'], os.getcwd())", tmp_path / "deep", folder=tmp_path,
                 environment={"A": "1"})  # fmt: skip
    assert not made.runs(120) and not made.failed, made.log.read_text()
    assert made.log.read_text().split() == ["1", str(tmp_path)]


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("code", [STUBBORN, STUBBORN.replace("signal.SIG_IGN", "lambda *_: sys.exit(3)")])
def test_a_stopped_child_ends_with_its_own_children(tmp_path, code):
    """One that minds its interrupt ends by itself, the other is killed, both with what they started."""
    made = child(code, tmp_path)
    grandchild = int(wait_for(lambda: made.log.read_text().strip()))
    made.stop(grace=0.5 if code is STUBBORN else 120)
    assert not made.runs() and made.failed
    wait_for(lambda: not running(grandchild))
    assert made.error().startswith("killed by signal 9; out of memory? (allowed: ") is (code is STUBBORN)


def test_a_signal_is_named(tmp_path):
    made = child("import os; print('Executing: 40%'); os.abort()", tmp_path)
    assert not made.runs(120), made.log.read_text()
    assert made.error() == "killed by signal 6"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("x\nsepo_kit.pipeline.launch.TrainingFailed: no space\npapermill.exceptions.PapermillExecutionError: \n---",
         "sepo_kit.pipeline.launch.TrainingFailed: no space"),
        ("\x1b[31mTooLarge\x1b[39m: 9 states\nUserWarning: old\nINFO: done\n", "TooLarge: 9 states"),
        ("ValueError: a\nsepo-kit: runs/x is not empty", "sepo-kit: runs/x is not empty"),
        ("half\nKeyboardInterrupt\n", "KeyboardInterrupt"),
        ("only words\n\n", "only words"),
        ("", "no output"),
    ],
)  # fmt: skip
def test_the_last_error_of_a_log_is_the_last_that_says_something(tmp_path, log, said):
    (tmp_path / "log").write_text(log)
    assert last_error(tmp_path / "log") == said


def test_a_child_of_a_background_job_can_be_interrupted(tmp_path):
    """A shell has its background jobs ignore interrupts, and programs hand that on."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = Child(
            [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"], tmp_path / "log"
        )
        while "up" not in child.log.read_text():
            assert child.runs(0.02)
        child.stop(grace=120)
    finally:
        signal.signal(signal.SIGINT, before)
    assert child.process.returncode == -signal.SIGINT
