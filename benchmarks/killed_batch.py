"""A batch of stand-ins for notebooks whose driver, engine, nodes or notebooks are killed (SIGKILL) at chosen operations
on files, and gone on with by the same command: whether it ends with the files of one that was left alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
from batches import alive, driver, todo_of

from sepo_kit.pipeline.record import output, reasons
from sepo_kit.runs import file_hashes

HERE = Path(__file__).parent
WHO = ("driver", "snakemake", "node", "notebook")
SECONDS = 300  # that nobody needs

# A stand-in goes on from the number it had written last, as a training does from a checkpoint, and notes whether
# another did the same work beside it.
CODE = """
import fcntl, hashlib, os
root, name, after = pathlib.Path({root!r}), {name!r}, {after!r}
lock = open(root / (name + ".work"), "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    (root / (name + ".twice")).touch()
state = root / (name + ".state")
step, digest = state.read_text().split() if state.exists() else (0, "".join((root / a).read_text() for a in after))
for step in range(int(step), 5):
    digest = hashlib.sha256((name + digest).encode()).hexdigest()
    (root / (name + ".new")).write_text(f"{{step + 1}} {{digest}}")
    os.replace(root / (name + ".new"), state)
(root / name).write_text(digest)
"""
AFTER = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}


class Batches:
    """Batches that are killed once or twice before they may end."""

    at_once = 2

    def __init__(self, root: Path) -> None:
        self.root = root
        whole = root / "batch-whole"
        if self._start(whole, {}):
            raise RuntimeError("the batch that was left alone failed")
        self.wanted = made(whole)
        self.operations = sum(MOST.values())

    def _start(self, folder: Path, dying: dict) -> int:
        """Run the batch until nobody of it is left; the driver's status."""
        listed = [
            (name, after, CODE.format(root=str(folder), name=name, after=after))
            for name, after in AFTER.items()
        ]
        place = {"PYTHONPATH": os.pathsep.join([str(HERE / "dying"), os.environ.get("PYTHONPATH", "")])}
        environment = {**os.environ, **place, **({"DYING": json.dumps(dying)} if dying else {})}
        status = subprocess.run(
            driver(folder, listed, "How(2)"), env=environment, timeout=SECONDS,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        ).returncode  # fmt: skip
        until = time.monotonic() + SECONDS
        while alive(str(folder)):
            if time.monotonic() > until:
                return -1  # somebody works on unseen
            time.sleep(0.05)
        return status

    def one(self, number: int, of: int) -> dict:
        """The batch ``number`` ``of`` so many: how often one of its processes was killed, and what differs then."""
        folder, rng = self.root / f"batch-{number}", np.random.default_rng([7, number])
        who = WHO[number % len(WHO)]
        killed = 0
        for again in range(self.at_once):
            note = self.root / f"batch-{number}-{again}.note"
            at = int(rng.integers(1, MOST[who] + 1))
            self._start(folder, {"who": who, "at": at, "root": str(folder), "note": str(note)})
            killed += note.exists()
        status = self._start(folder, {})
        found = made(folder) if status == 0 else {"status": str(status)}
        if (
            reasons(todo_of([(name, after, "") for name, after in AFTER.items()]), folder).keys()
            - AFTER.keys()
        ):
            found["left"] = "something"
        shutil.rmtree(folder, ignore_errors=True)
        differing = {n for n in found.keys() | self.wanted.keys() if found.get(n) != self.wanted.get(n)}
        return {"kills": killed, "differing": sorted(differing)}


# Operations on files of a process of each kind in a batch of four: later ones are as good as none.
MOST = {"driver": 6, "snakemake": 30, "node": 10, "notebook": 12}


def made(folder: Path) -> dict[str, str]:
    """What a batch made: the stand-ins' files, which of them have run, and whether two did the same work at once."""
    found = {
        name: sha for name, sha in file_hashes(folder).items() if name in AFTER or name.endswith(".twice")
    }
    tasks = todo_of([(name, after, "") for name, after in AFTER.items()])
    return found | {f"executed {task.name}": "yes" for task in tasks if output(task, folder).exists()}
