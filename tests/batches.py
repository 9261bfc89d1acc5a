"""Batches of commands of a moment, in the place of notebooks."""

from __future__ import annotations

import json
import os
import sys
import time

from sepo_kit.pipeline import batch
from sepo_kit.pipeline.profiles import get_profile
from sepo_kit.pipeline.record import Task, fingerprint, library, made, marker, output
from sepo_kit.pipeline.tasks import Part
from sepo_kit.runs import write_json

# Writes what a notebook leaves, once the code in its parameters has run.
STAND_IN = "import json, sys, pathlib; exec(json.loads(sys.argv[1]).get('code', '')); "
STAND_IN += "[pathlib.Path(p).write_text('made') for p in sys.argv[2:]]"
DRIVER = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from batches import parts, stand_in, todo_of
from sepo_kit.pipeline import batch
from sepo_kit.pipeline.batch import How
from sepo_kit.pipeline.children import ended_by_sigterm
from sepo_kit.pipeline.reproduce import Reproduction, _alone
batch.command = stand_in
batch.CONFIGS = Path({configs!r})
root = Path({root!r})
with _alone(root), ended_by_sigterm():
    Reproduction(parts(root), root, todo_of({listed!r}), {how}, sys.stdout).run()
"""


def stand_in(notebook, parameters, unfinished):
    return [
        sys.executable,
        "-c",
        STAND_IN,
        json.dumps(parameters),
        str(unfinished),
        *parameters.get("makes", []),
    ]


def parts(root):
    """The smoke profile, all of it under ``root``."""
    return [Part(get_profile("smoke"), root, root / "figures", root / "tables")]


def todo_of(listed):
    """Tasks from (name, what it needs, code to run)."""
    return [Task(name, "01_games", {"code": code}, tuple(after)) for name, after, code in listed]


def mark_done(todo, root):
    """Leave what the nodes of ``todo`` leave that have run."""
    (root / "notebooks").mkdir(parents=True, exist_ok=True)
    code = library()
    for task in todo:
        for file in (output(task, root), *task.makes):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        record = {"fingerprint": fingerprint(task, root, code), "made": made(task), "task": task.name}
        write_json(marker(task.name, root), record)


def driver(root, listed, how, configs=batch.CONFIGS):
    """The command line of a process that runs a batch of stand-ins, as ``sepo-kit reproduce`` runs notebooks."""
    text = DRIVER.format(
        here=os.path.dirname(__file__), root=str(root), listed=listed, how=how, configs=str(configs)
    )
    return [sys.executable, "-c", text]


def alive(words):
    """Processes with ``words`` in their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if words.encode() in file.read() and int(pid) != os.getpid():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def wait_for(said, *logs, seconds=300):
    """What ``said`` returns, as soon as it is true; a failure shows those of ``logs`` that are there."""
    until = time.monotonic() + seconds
    while not (found := said()):
        told = (f"\n{log}:\n{log.read_text(errors='replace')}" for log in logs if log.exists())
        assert time.monotonic() < until, f"it did not come in {seconds} s{''.join(told)}"
        time.sleep(0.05)
    return found
