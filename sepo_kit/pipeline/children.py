"""Child processes that end when their parent does, however it ends. Imports nothing of the kit."""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """In a child: end it when its parent is killed, so that none works on unseen (Linux only).

    ``how``: SIGTERM for a child that has to end children of its own.

    The first thing a child calls: ``preexec_fn`` of a subprocess, ``initializer`` of a pool.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, how)
