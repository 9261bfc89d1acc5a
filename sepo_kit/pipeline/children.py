"""Child processes: started with a log, ended when their parent ends, their last error in one line. Imports nothing
slow."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sepo_kit.runs.limits import allowed_memory

PR_SET_PDEATHSIG = 1  # linux/prctl.h
# The system kills the process that takes too much; libraries that are refused memory may crash.
OF_MEMORY = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS)
GRACE_SECONDS = 20  # for a child to end its own children
# An error as Python prints it, or as the command line does; remarks of a log look the same and say less.
NAMED = re.compile(r"(?:(?:\w+\.)*[A-Z]\w*|sepo-kit): \S")
REMARK = re.compile(r"(?:\w+\.)*(?:\w*Warning|INFO|DEBUG|WARNING|NOTE|Note): ")
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def die_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """In a child: end it when its parent is killed, so that none works on unseen (Linux only).

    ``how``: SIGTERM for a child that has to end children of its own.

    The first thing a child calls: ``preexec_fn`` of a subprocess, ``initializer`` of a pool.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, how)


def _begin(orphaned: signal.Signals) -> None:
    """In a child, before its program: what a shell's background job ignores, it can be interrupted by all the same."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent(orphaned)


class Child:
    """A process in a group of its own that writes into ``log`` and does not outlive this one.

    Parameters
    ----------
    command
        Program and arguments.
    log
        Both of its streams; made anew, with its folder.
    folder
        Where it runs.
    environment
        Variables beside those of this process.
    orphaned
        The signal it gets when this process is killed: SIGTERM for a child that has to end children of its own.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        orphaned: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.log = Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "wb") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=folder,
                env={**os.environ, **(environment or {})}, start_new_session=True,
                preexec_fn=partial(_begin, orphaned),
            )  # fmt: skip

    def runs(self, seconds: float = 0.0) -> bool:
        """Whether it still runs, after waiting for its end for ``seconds`` at most."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error or by a signal."""
        return bool(self.process.poll())

    def interrupt(self) -> None:
        """Ask it and its children to stop, as Ctrl-C does."""
        self._signal(signal.SIGINT)

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Interrupt the whole group; kill what is left of it after ``grace`` seconds."""
        if self.process.poll() is not None:
            return
        self.interrupt()
        self.runs(grace)
        self._signal(signal.SIGKILL)  # the group: a child may end before its own children
        self.process.wait()

    def error(self) -> str:
        """Why it ended, in one line: the signal that killed it, else the last error in its log."""
        status = self.process.poll()
        if status is not None and status < 0:
            memory = f"; out of memory? (allowed: {allowed_memory()})" if -status in OF_MEMORY else ""
            return f"killed by signal {-status}{memory}"
        return last_error(self.log)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            self.process.poll()


def last_error(log: Path) -> str:
    """The last line of a log that names an error and says something, else its last line."""
    text = COLOURS.sub("", log.read_text(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [
        line
        for line in lines
        if line == "KeyboardInterrupt" or (NAMED.match(line) and not REMARK.match(line))
    ]
    return (named or lines or ["no output"])[-1]


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Inside the block SIGTERM interrupts as Ctrl-C does, so that children are stopped (in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
