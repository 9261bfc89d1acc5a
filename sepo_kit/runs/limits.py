"""How much memory this process may have, and errors that say that it ran out. No torch."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

PHRASES = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "Cannot allocate memory",
)  # of libraries
ASKED = re.compile(r"ried to allocate (\d+(?:\.\d+)? ?\w+)")  # torch's words, on CPUs and on GPUs
ULIMITS = {"ulimit -v": resource.RLIMIT_AS, "ulimit -d": resource.RLIMIT_DATA}
CGROUPS = Path("/sys/fs/cgroup")
OF_PROCESS = Path("/proc/self/cgroup")
GIB = 2**30


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, in one of the ways that libraries have of saying it."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(phrase in str(error) for phrase in PHRASES)
    )


def memory_said(error: BaseException) -> str:
    """What was asked for when memory ran out, where ``error`` says it, and what is allowed: words for a message.

    >>> memory_said(MemoryError("you tried to allocate 583680 bytes.")).partition("; ")[0]
    'asked for 583680 bytes more'
    """
    asked = ASKED.search(str(error))
    return (f"asked for {asked[1]} more; " if asked else "") + f"allowed: {allowed_memory()}"


def allowed_memory() -> str:
    """The least that a limit leaves this process, and which limit it is; without one all that the machine has."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [(machine, "the machine's"), *_ulimits(), *_cgroups()]
    size, name = min(limits)
    return f"{size / GIB:.1f} GiB, {name}"


def _ulimits() -> Iterator[tuple[int, str]]:
    for name, number in ULIMITS.items():
        soft, _ = resource.getrlimit(number)
        if soft != resource.RLIM_INFINITY:
            yield soft, f"by {name}"


def _cgroups() -> Iterator[tuple[int, str]]:
    """Those of the control groups this process is in: containers and jobs of a cluster have them."""
    try:
        lines = OF_PROCESS.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, file = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
        inner = root / path.lstrip("/")
        # A container sees its own group as the root.
        for folder in (inner, *(f for f in inner.parents if f == root or root in f.parents)):
            try:
                yield int((folder / file).read_text()), f"by {folder / file}"
            except (OSError, ValueError):  # not there, or "max"
                continue
