"""The kill loop: trainings and batches whose processes are killed (SIGKILL) at chosen operations on their files, again
and again, and whether what they come to is what it is without.

Weights, metrics, scores and episodes must be the same bytes, times aside. Stopped, the same command goes on: what was
tried lies in ``runs/kills.jsonl``. ``--smoke``: few kills, nothing written.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

PROJECT = Path(__file__).parents[1]
for place in ("tests", "benchmarks", "."):
    sys.path.insert(0, str(PROJECT / place))

import several  # noqa: E402
import tiny  # noqa: E402
from common import conclude, options  # noqa: E402
from killed_batch import Batches  # noqa: E402
from watching import watched  # noqa: E402

from sepo_kit.pipeline.children import ended_by_sigterm  # noqa: E402
from sepo_kit.runs import (  # noqa: E402
    LOCK,
    append_line,
    code_fingerprint,
    file_hashes,
    keep_lines,
    read_json,
    read_lines,
)
from sepo_kit.training.request import ROOMS as OF_TRAINING  # noqa: E402

LOG = PROJECT / "runs" / "kills.jsonl"
STEPS = 3
BATCH = "batch"
SEPO = replace(several.SEPO, steps=STEPS, save_every=1, lora_dropout=0.1)
STAGES = {
    "sft": replace(several.SFT, records=STEPS * 8, save_every=1, lora_dropout=0.1),
    "sepo, limits": replace(SEPO, limits={"exploit": 0.1}),
    "sepo, worst-case": replace(SEPO, exploiters="worst-case", keep="best"),
    "sepo, reasoned": replace(SEPO, style="reasoned", max_new_tokens=3, rollouts=2),
}
TIMES = {"seconds", "step_time", "wall_seconds", "peak_memory_mib", "peak_gpu_mib", "files", "sha256"}
# What was tried of other code is tried again.
CODE = code_fingerprint((*OF_TRAINING["sepo"], "runs", "pipeline"), PROJECT / "tests" / "several.py")
OF_THE_CHECKOUT = "commit"  # which may change while runs are compared; what they depend on is "code"


def train(
    stage: str, model: Path, folder: Path, at: int | None, count: Path, by: int = signal.SIGKILL
) -> None:
    """Train in ``folder``; at operation ``at`` on a file there the process gets the signal ``by``. Writes how many
    there were into ``count``."""

    def stop(number: int) -> None:
        if number == at:
            os.kill(os.getpid(), by)

    with watched(folder, stop) as counted:
        several.run(stage.split(",")[0], model, folder, STAGES[stage])
    count.write_text(str(counted()))


def made(folder: Path) -> dict[str, str]:
    """What a run made, file by file, times aside."""
    found = {
        name: sha
        for name, sha in file_hashes(folder).items()
        if name not in ("manifest.json", "progress.json", "metrics.jsonl")
    }
    rows = [{n: v for n, v in row.items() if n not in TIMES} for row in read_lines(folder / "metrics.jsonl")]
    manifest = {n: v for n, v in read_json(folder / "manifest.json").items() if n not in TIMES}
    for told in (manifest, *manifest.get("chain", [])):
        told.pop(OF_THE_CHECKOUT, None)
    for name, value in (("metrics.jsonl", rows), ("manifest.json", manifest)):
        found[name] = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    # A lock that nobody holds says nothing.
    left = sorted(path.name for path in folder.rglob(".*") if path.name != LOCK)
    return found | ({"left behind": " ".join(left)} if left else {})


class Trainings:
    """Runs of one stage that are killed up to three times before they may end. ``root`` holds a model."""

    at_once = 3

    def __init__(self, stage: str, root: Path, context) -> None:
        self.stage, self.root, self.context = stage, root, context
        self.name = stage.replace(", ", "-")
        if self._start(whole := root / f"{self.name}-whole", None):
            raise RuntimeError(f"{stage}: the run that was left alone failed")
        self.operations = int((root / f"{self.name}.count").read_text())
        self.wanted = made(whole)

    def _start(self, folder: Path, at: int | None) -> int:
        arguments = (self.stage, self.root / "model", folder, at, self.root / f"{self.name}.count")
        process = self.context.Process(target=train, args=arguments)
        process.start()
        process.join(timeout=600)
        return process.exitcode

    def one(self, number: int, of: int) -> dict:
        """The run ``number`` ``of`` so many: how often it was killed, and what differs then."""
        folder, rng = self.root / f"{self.name}-{number}", np.random.default_rng([len(self.stage), number])
        killed = 0
        for again in range(self.at_once):
            # Every k-th operation of a process that begins anew, and any of those that go on.
            place = round(np.linspace(1, self.operations, of)[number % of])
            if again:
                place = int(rng.integers(1, max(2, self.operations // (again + 2))))
            if self._start(folder, place) != -signal.SIGKILL:
                break  # it had come to its end before
            killed += 1
        status = self._start(folder, None)
        found = made(folder) if status == 0 else {"status": str(status)}
        shutil.rmtree(folder, ignore_errors=True)
        differing = {n for n in found.keys() | self.wanted.keys() if found.get(n) != self.wanted.get(n)}
        return {"kills": killed, "differing": sorted(differing)}


def go_on(
    rows: list[dict],
    make: dict[str, Callable[[], Trainings | Batches]],
    wanted: dict[str, int],
    write: Callable[[dict], None],
) -> None:
    """Kill until there are as many kills of each kind as ``wanted``; ``rows``: what was tried, which grows."""
    kinds: dict[str, Trainings | Batches] = {}
    bar = tqdm(total=sum(wanted.values()), desc="kills", disable=None)
    while left := [name for name in wanted if _kills(rows, name) < wanted[name]]:
        for name in left:  # in turns: where it is stopped early there are some of each
            kind = kinds[name] = kinds.get(name) or make[name]()
            number = sum(row["stage"] == name for row in rows)
            found = kind.one(number, -(-wanted[name] // kind.at_once))
            rows.append({"stage": name, "code": CODE, "file operations": kind.operations, **found})
            write(rows[-1])
            bar.update(sum(_kills(rows, each) for each in wanted) - bar.n)
    bar.close()


def main() -> None:
    smoke = options(__doc__).smoke
    wanted = dict.fromkeys(STAGES, 2 if smoke else 80) | {BATCH: 2 if smoke else 40}
    rows: list[dict] = []
    if not smoke:
        LOG.parent.mkdir(exist_ok=True)
        keep_lines(LOG, lambda row: row["code"] == CODE)
        rows += read_lines(LOG)
    context = multiprocessing.get_context("forkserver")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(PROJECT), str(PROJECT / "tests"), str(PROJECT / "benchmarks")]
    )
    context.set_forkserver_preload(["several"])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tokenizer = tiny.tokenizer()
        tiny.model(tokenizer).save_pretrained(root / "model")
        tokenizer.save_pretrained(root / "model")
        make = {stage: partial(Trainings, stage, root, context) for stage in STAGES}
        make[BATCH] = partial(Batches, root)
        try:
            with ended_by_sigterm():
                go_on(rows, make, wanted, lambda row: None if smoke else append_line(LOG, row))
        except KeyboardInterrupt:
            print("stopped; the same command goes on", file=sys.stderr)
    conclude("kills", [_row(rows, stage, wanted[stage]) for stage in wanted], smoke)
    if any(row["differing"] for row in rows):
        sys.exit("a run that was killed ended otherwise than one that was left alone")


def _kills(rows: list[dict], stage: str) -> int:
    return sum(row["kills"] for row in rows if row["stage"] == stage)


def _row(rows: list[dict], stage: str, wanted: int) -> dict:
    runs = [row for row in rows if row["stage"] == stage]
    differing = sorted({name for row in runs for name in row["differing"]})
    return {
        "stage": stage,
        "file operations": runs[0]["file operations"] if runs else None,
        "kills": _kills(rows, stage),
        "of": wanted,
        "runs": len(runs),
        "the same": sum(not row["differing"] for row in runs),
        "differing": ", ".join(differing) or "nothing",
    }


if __name__ == "__main__":
    main()
