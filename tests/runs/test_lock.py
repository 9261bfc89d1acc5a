"""One writer to a run folder: a second one gets one line that names the first, a dead one holds nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sepo_kit.cli import main
from sepo_kit.pipeline.profiles import get_profile
from sepo_kit.pipeline.reproduce import reproduce
from sepo_kit.pipeline.tasks import Part
from sepo_kit.runs import LOCK, PROGRESS, Lock, Run, RunError, holder, is_held, read_manifest
from sepo_kit.runs.lock import left_by_dead
from sepo_kit.runs.shelf import described

REQUEST = {"stage": "sft", "seed": 0}
HOLDS = """
import sys, time
from sepo_kit.runs import Run
run = Run(sys.argv[1], {"stage": "sft", "seed": 0}, writes=True)
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_writer_is_told_who_writes_and_a_killed_one_holds_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, tmp_path / "run"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n" and is_held(tmp_path / "run")
        with pytest.raises(
            RunError, match=rf"written by process {process.pid} on \S+ \(SLURM_JOB_ID 77\) since"
        ) as error:
            Run(tmp_path / "run", REQUEST, writes=True)
        assert "\n" not in str(error.value)
        assert not Run(tmp_path / "run", REQUEST).done, "it may be read"
        # Code that has changed meanwhile does not rename the folder under its writer.
        with pytest.raises(RunError, match="is being written by process"):
            Run(tmp_path / "run", {**REQUEST, "code": "other"}, writes=True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert (tmp_path / "run" / LOCK).exists() and not is_held(tmp_path / "run")
    with Run(tmp_path / "run", REQUEST, writes=True) as run:
        assert f"process {os.getpid()} " in holder(run.path)
        run.finish()
    assert not (tmp_path / "run" / LOCK).exists()


def test_what_a_killed_process_cannot_say_is_said_by_the_next(tmp_path, capsys):
    killed = "stopped without saying why (killed, or out of memory?)"
    folder = tmp_path / "run"
    with Run(folder, REQUEST, writes=True) as run:
        run.progress(12, 100)
    assert described(folder)["status"] == "started", "stopped by an error, which was said"
    process = subprocess.Popen([sys.executable, "-c", HOLDS, folder], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "held\n"
        assert described(folder)["status"] == "being written"
        process.send_signal(signal.SIGSEGV)
    assert killed not in capsys.readouterr().err
    assert main(["runs", "list", str(tmp_path)]) == main(["runs", "show", str(folder)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [f"{killed}, step 12 of 100" in line for line in said[:2]] == [True, True]
    (folder / PROGRESS).unlink()
    Run(folder, REQUEST)  # a reader says nothing
    assert capsys.readouterr().err == ""
    with Run(folder, REQUEST, writes=True):
        assert capsys.readouterr().err == (
            f"{folder} was {killed} before its first step; it goes on from its last checkpoint\n"
        )
    assert described(folder)["status"] == "started"
    with Run(folder, REQUEST, writes=True) as run:
        run.finish()
    assert capsys.readouterr().err == ""


def test_readers_keep_no_writer_out(tmp_path):
    """Whoever looks whether a folder is held shares its lock for a moment."""
    (tmp_path / LOCK).touch()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_held(tmp_path)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(100):
            Lock(tmp_path).release()
            (tmp_path / LOCK).touch()
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def test_a_slow_reader_is_waited_for_and_a_writer_is_not(tmp_path, monkeypatch):
    with open(tmp_path / LOCK, "w") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        threading.Timer(0.1, lambda: fcntl.flock(reader, fcntl.LOCK_UN)).start()
        Lock(tmp_path).release()
    held = Lock(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it was waited for"))
    with pytest.raises(RunError, match="is being written by"):
        Lock(tmp_path)
    held.release()


def test_a_lock_is_let_go_by_an_error_and_a_finished_run_needs_none(tmp_path):
    with pytest.raises(ZeroDivisionError), Run(tmp_path / "run", REQUEST, writes=True):
        raise ZeroDivisionError
    assert not is_held(tmp_path / "run")
    with Run(tmp_path / "run", REQUEST, writes=True) as run:
        run.finish()
    held = Lock(tmp_path / "run")
    assert Run(tmp_path / "run", REQUEST, writes=True).done
    held.release()
    held.release()


def test_what_killed_processes_left_is_swept_when_a_writer_opens_a_run(tmp_path):
    Run(tmp_path / "run", REQUEST, writes=True).release()
    left = tmp_path / "run" / "episodes" / ".step-000002.parquet.x7_ab3cd.parquet"
    left.parent.mkdir()
    left.write_text("half")
    folder = tmp_path / "run" / ".adapter.abcdefgh"
    folder.mkdir()
    (folder / "weights").touch()
    mine = tmp_path / "run" / ".gitignore"
    mine.touch()
    Run(tmp_path / "run", REQUEST)
    assert left.exists(), "a reader changes nothing"
    Run(tmp_path / "run", REQUEST, writes=True).release()
    assert not left.exists() and not folder.exists() and mine.exists()
    assert read_manifest(tmp_path / "run")["status"] == "started"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_one_line_and_can_be_read(number, tmp_path, monkeypatch):
    Run(tmp_path / "run", REQUEST, writes=True).release()
    (tmp_path / "run" / LOCK).write_text("{}")

    def no_locks(file, kind):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    part = Part(get_profile("smoke"), *[tmp_path / name for name in ("batch", "figures", "tables")])
    for writing in (
        lambda: Run(tmp_path / "run", REQUEST, writes=True),
        lambda: Lock(tmp_path / "run"),
        lambda: reproduce([part], tmp_path / "batch", 1),
    ):
        with pytest.raises(RunError, match=r"has no locks.*; choose a folder on another one") as error:
            writing()
        assert str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value)
    assert not is_held(tmp_path / "run") and not left_by_dead(tmp_path / "run")
    assert not Run(tmp_path / "run", REQUEST).done, "it may be read"


def test_another_error_of_a_lock_is_not_taken_for_a_missing_one(tmp_path, monkeypatch):
    def broken(file, kind):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="broken"):
        Lock(tmp_path)


def test_a_link_to_nowhere_is_one_line(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"is a link to .*nowhere, which is not there; delete it"):
        Run(tmp_path / "run", REQUEST)
