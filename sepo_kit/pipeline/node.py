"""One notebook run of a batch, as Snakemake starts it: ``python -m sepo_kit.pipeline.node BATCH NAME PARENT``.

It runs the task's command under its log and its time limit, and writes down how it stands for whoever watches, on
whatever machine. A failure that another try cannot mend is not tried again: the next attempts end at once.
Loads nothing slow.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sepo_kit.pipeline.children import Child, die_with_parent, ended_by_sigterm
from sepo_kit.pipeline.record import (
    Task,
    fingerprint,
    library,
    log,
    made,
    marker,
    output,
    standing,
    unfinished,
)
from sepo_kit.runs import RunError, locked, read_json, write_json
from sepo_kit.runs.project import PROJECT

WAIT_SECONDS = 60  # for one that was killed a moment ago to be gone
# What a log says where a kernel never came up, so that no cell ran (two that start at once may pick the same port).
NO_KERNEL = ("Kernel didn't respond", "Kernel died before replying")
# And where a kernel or a training was killed, or one that was stopped a moment ago still holds its run folder.
PASSING = (*NO_KERNEL, "Kernel died", "killed by signal", "is being written by")
ENVIRONMENT = {
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    # glibc hands the memory of every large tensor back to the system and asks for it again, page by page. Keeping it
    # makes a training step of SmolLM2 on a CPU about a sixth faster.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
# By what libraries are told how many threads to compute with. Snakemake sets them too, to no more than there are cores.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Whatever the user's own backend is: figures go into the executed notebooks.
DRAWING = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}


def main(arguments: Sequence[str]) -> int:
    """Run the node; its exit status."""
    batch_file, name, parent = arguments
    die_with_parent()
    if os.getppid() != int(parent):  # it was killed before this line
        return 1
    batch = read_json(batch_file)
    node = next(node for node in batch["nodes"] if node["name"] == name)
    root = Path(batch["root"])
    task = Task(
        name,
        node["notebook"],
        node["parameters"],
        tuple(node["after"]),
        makes=tuple(map(Path, node["makes"])),
        threads=node["threads"],
        games=node.get("games", {}),  # a batch of an older version says none
    )
    with _held(root / "notebooks" / f".{node['slug']}.lock", name), _gpu(batch, root) as card:
        before = _before(task, root, batch["id"])
        if before.get("state") == "failed" and not before["again"]:
            print(before["error"], file=sys.stderr)
            return 1
        attempt = before.get("attempt", 0) + 1
        # Kept for whoever follows the batch: the next attempt may begin before they have looked.
        failures = [*before.get("failures", []), *([before] if before.get("state") == "failed" else [])]
        if attempt > 1 and log(task, root).exists():
            log(task, root).replace(log(task, root).with_suffix(f".{attempt - 1}.log"))
        stands = {
            "batch": batch["id"], "attempt": attempt, "state": "running", "started": time.time(),
            "host": socket.gethostname(), "pid": os.getpid(), "gpu": card,
            "failures": [{name: failed[name] for name in ("attempt", "error", "again")} for failed in failures],
        }  # fmt: skip
        write_json(standing(task, root), stands)
        made_from = fingerprint(task, root, library())  # of the code that runs, not of an edit meanwhile
        environment = {**ENVIRONMENT, **os.environ, **DRAWING, **batch["environment"]}
        environment |= dict.fromkeys(THREADS, str(node["threads"]))
        if card is not None:
            environment["CUDA_VISIBLE_DEVICES"] = card
        stands |= _run(node["command"], log(task, root), environment, node["limit_minutes"])
        if stands["state"] == "done":
            unfinished(task, root).replace(output(task, root))
            write_json(
                marker(name, root),
                {
                    "fingerprint": made_from,
                    "made": made(task),
                    **{k: stands[k] for k in ("batch", "seconds", "host")},
                },
            )
        write_json(standing(task, root), stands)
        if stands["state"] == "failed":
            print(stands["error"], file=sys.stderr)
        return int(stands["state"] == "failed")


def _run(
    command: Sequence[str], file: Path, environment: dict[str, str], limit_minutes: float
) -> dict[str, Any]:
    """Run ``command`` to its end or its limit: how it went."""
    began, late = time.monotonic(), False
    with ended_by_sigterm():
        child = Child(command, file, folder=PROJECT, environment=environment)
        try:
            late = child.runs(limit_minutes * 60)
        finally:
            child.stop()
    seconds = round(time.monotonic() - began, 1)
    if late:
        error = f"it ran longer than its limit of {limit_minutes:g} minutes; a longer one: --limit MINUTES"
        return {"state": "failed", "seconds": seconds, "error": error, "again": True}
    if not child.failed:
        return {"state": "done", "seconds": seconds}
    said = file.read_text(errors="replace")
    again = child.process.returncode < 0 or any(words in said for words in PASSING)
    return {"state": "failed", "seconds": seconds, "error": child.error(), "again": again}


def _before(task: Task, root: Path, batch: str) -> dict[str, Any]:
    """How the task stood after an earlier attempt of the same batch."""
    try:
        before = read_json(standing(task, root))
    except RunError:
        return {}
    return before if before.get("batch") == batch else {}


@contextmanager
def _held(file: Path, name: str) -> Iterator[None]:
    """Hold a lock that goes when this process does, however it ends."""
    with open(file, "w") as opened:
        if not _lock(opened, WAIT_SECONDS):
            raise RunError(f"{name} is running already, in another process that holds {file}; wait for it")
        yield


@contextmanager
def _gpu(batch: dict[str, Any], root: Path) -> Iterator[str | None]:
    """A GPU that no other node of this batch computes on, or the one of the fewest; None where there is none."""
    if not batch["gpus"]:
        yield None
        return
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        for slot in range(batch["workers"]):
            with open(root / "notebooks" / f".slot-{slot}.lock", "w") as opened:
                if locked(opened):
                    yield batch["gpus"][slot % len(batch["gpus"])]
                    return
        time.sleep(0.1)
    raise RunError(f"no GPU came free in {WAIT_SECONDS} seconds; is another process of this batch alive?")


def _lock(opened: IO, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not locked(opened):
        if time.monotonic() >= until:
            return False
        time.sleep(0.1)
    return True


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
