"""One writer to a run folder: a lock that names its holder, and that the system opens when the holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import random
import socket
import time
from pathlib import Path
from typing import IO

from sepo_kit.runs.files import RunError, read_json

LOCK = ".lock"  # in the run folder, while somebody writes there
PATIENCE = 5.0  # seconds that a writer waits for readers, who hold the file for microseconds
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # of a file system
JOBS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "JOB_ID")  # what clusters call a job


class Lock:
    """Holds ``folder`` for this process until ``release``, or until the process ends, however it ends.

    The system's own lock of a file, which two writers never hold at once; the file says who holds it. Readers share it
    for a moment to see whether it is held: they are waited for.

    Raises
    ------
    RunError
        Another holds it; the one line says who, where and since when. Or the file system has no locks.
    """

    def __init__(self, folder: Path | str) -> None:
        self.path = Path(folder) / LOCK
        waiting_until = time.monotonic() + PATIENCE
        while True:
            self._file = open(self.path, "a+")  # noqa: SIM115  # open as long as it is held
            try:
                if locked(self._file):
                    if self._in_place():
                        break
                    self._file.close()  # its holder deleted or renamed it meanwhile
                    continue
                only_read = locked(self._file, fcntl.LOCK_SH)  # which a writer's lock does not allow
            except BaseException:
                self._file.close()
                raise
            self._file.close()
            if not only_read or time.monotonic() > waiting_until:
                raise RunError(
                    f"{folder} is being written by {holder(folder)}; wait for it, stop it, or choose another folder"
                )
            time.sleep(random.uniform(0.001, 0.02))  # two that wait do not meet again and again
        self.follows_dead = (
            self.path.stat().st_size > 0
        )  # who held it before did not let go, as all do who live on
        try:
            self._file.truncate(0)
            self._file.write(json.dumps(_myself()) + "\n")
            self._file.flush()
        except OSError:  # a full disk
            self.release()
            raise

    def _in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let others in; once is enough."""
        if not self._file.closed:
            if self._in_place():
                self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # what was not written before is not wanted now
                self._file.close()


def _myself() -> dict[str, object]:
    job = next((f"{name} {os.environ[name]}" for name in JOBS if os.environ.get(name)), None)
    since = time.strftime("%Y-%m-%d %H:%M:%S%z")
    return {"host": socket.gethostname(), "pid": os.getpid(), "job": job, "since": since}


def holder(folder: Path | str) -> str:
    """Who wrote the lock of ``folder``, in words."""
    try:
        told = read_json(Path(folder) / LOCK, dict, ("host", "pid", "since"))
    except (RunError, OSError):
        return "another process"
    job = f" ({told['job']})" if told.get("job") else ""
    return f"process {told['pid']} on {told['host']}{job} since {told['since']}"


def is_held(folder: Path | str) -> bool:
    """Whether a process that lives holds ``folder``."""
    try:
        with open(Path(folder) / LOCK) as file:
            return not locked(file, fcntl.LOCK_SH)
    except (OSError, RunError):  # no lock there, or none that may be read
        return False


def left_by_dead(folder: Path | str) -> bool:
    """Whether the process that held ``folder`` last ended without letting it go: killed, or crashed."""
    try:
        with open(Path(folder) / LOCK) as file:
            known = os.fstat(file.fileno())
            return (
                known.st_size > 0
                and locked(file, fcntl.LOCK_SH)
                and os.path.samestat(known, os.stat(file.name))
            )
    except (OSError, RunError):  # no lock there, or let go this moment
        return False


def locked(file: IO, kind: int = fcntl.LOCK_EX) -> bool:
    """Take the system's lock of an open file, if that can be done at once; whether it was. It goes when the file is
    closed, or its process ends, however it ends.

    Raises
    ------
    RunError
        The file system has no locks.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise RunError(
            f"{file.name} cannot be locked ({error.strerror}): its file system has no locks, which keep two processes "
            "from writing there; choose a folder on another one (a local disk), or have this one mounted with locks"
        ) from None
    return True
