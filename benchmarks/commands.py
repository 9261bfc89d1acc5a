"""The commands that a newcomer types, timed in a fresh clone with nothing built before: ``make install``, ``make
test``, ``make reproduce``.

``python benchmarks/commands.py`` times all three, ``... commands.py test`` one of them; a row of another commit stays
until its command is timed again. ``--folder`` keeps the clone, with what the commands made, to look at. ``seconds``: of
the command alone, since all but the first find the environment installed. ``tests``: how many passed. Whatever else
runs on the machine is in the times.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from common import RESULTS, conclude

from sepo_kit.runs import provenance, read_json

PROJECT = Path(__file__).parents[1]
COMMANDS = ("install", "test", "reproduce")
PASSED = re.compile(r"\b(\d+) passed")


def timed(target: str, clone: Path, cache: Path, commit: str) -> dict:
    """One row: ``make target`` in ``clone``, with models built in ``cache``."""
    log = clone.parent / f"{target}.log"
    began = time.perf_counter()
    with open(log, "w") as told:
        ended = subprocess.run(
            ["make", target], cwd=clone, env={**os.environ, "SEPO_KIT_CACHE": str(cache)},
            stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT,
        )  # fmt: skip
    seconds = time.perf_counter() - began
    said = log.read_text(errors="replace")
    if ended.returncode:
        sys.exit(f"make {target} failed after {seconds:.0f} s:\n" + "\n".join(said.splitlines()[-30:]))
    passed = PASSED.findall(said) if target == "test" else []
    return {
        "command": f"make {target}",
        "seconds": round(seconds, 1),
        "tests": int(passed[-1]) if passed else None,
        "commit": commit,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", default=list(COMMANDS), help="of " + ", ".join(COMMANDS))
    parser.add_argument(
        "--smoke", action="store_true", help="make help in place of all three, nothing written"
    )
    parser.add_argument("--folder", type=Path, help="where to clone to and to keep it (default: nowhere)")
    asked = parser.parse_args()
    if asked.folder and asked.folder.exists():
        parser.error(f"--folder: {asked.folder} exists already; name one that does not")
    if unknown := set(asked.commands) - set(COMMANDS):
        parser.error(f"unknown command {', '.join(sorted(unknown))}; known: {', '.join(COMMANDS)}")
    todo = ["help"] if asked.smoke else [name for name in COMMANDS if name in asked.commands]
    if todo[0] in ("test", "reproduce"):
        todo = ["install", *todo]  # so that it is not in their time
    file = RESULTS / "commands.json"
    before = read_json(file)["rows"] if file.exists() and not asked.smoke else []
    rows = {row["command"]: row for row in before}
    with tempfile.TemporaryDirectory() as passing:
        folder = asked.folder or Path(passing)
        clone, cache = folder / "clone", folder / "cache"
        subprocess.run(["git", "clone", "-q", str(PROJECT), str(clone)], check=True)
        commit = provenance()["commit"].rstrip("+")  # what was cloned, without what lies beside it
        for target in todo:  # each is written before the next begins, which may fail
            row = timed(target, clone, cache, commit)
            rows[row["command"]] = row
            conclude("commands", list(rows.values()), asked.smoke)


if __name__ == "__main__":
    main()
