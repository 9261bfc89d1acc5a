"""The kill loop: training processes that are killed (SIGKILL) at a chosen operation on a file of their run, again and
again, and what the run that comes of it has in common with one that was left alone.

Weights, metrics, scores and episodes must be the same bytes, times aside. ``--smoke``: few kills, nothing written.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
from tqdm import tqdm

PROJECT = Path(__file__).parents[1]
for place in ("tests", "benchmarks", "."):
    sys.path.insert(0, str(PROJECT / place))

import several  # noqa: E402
import tiny  # noqa: E402
from common import conclude, options  # noqa: E402

from sepo_kit.runs import LOCK, file_hashes, read_json, read_lines  # noqa: E402

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}
STEPS = 3
SEPO = replace(several.SEPO, steps=STEPS, save_every=1, lora_dropout=0.1)
STAGES = {
    "sft": replace(several.SFT, records=STEPS * 8, save_every=1, lora_dropout=0.1),
    "sepo, limits": replace(SEPO, limits={"exploit": 0.1}),
    "sepo, worst-case": replace(SEPO, exploiters="worst-case", keep="best"),
    "sepo, reasoned": replace(SEPO, style="reasoned", max_new_tokens=3, rollouts=2),
}
TIMES = {"seconds", "step_time", "wall_seconds", "peak_memory_mib", "peak_gpu_mib", "files", "sha256"}
OF_THE_CHECKOUT = "commit"  # which may change while runs are compared; what they depend on is "code"


_watching: tuple[str, Callable[[int], None]] | None = None
_seen = 0


def _hook(event: str, arguments: tuple) -> None:
    global _seen
    if _watching is None or event not in EVENTS or not str(arguments[0]).startswith(_watching[0]):
        return
    if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        return
    _seen += 1
    _watching[1](_seen)


_hooked: list[Callable] = []  # an audit hook stays as long as the process


@contextmanager
def watched(folder: Path, act: Callable[[int], None]) -> Iterator[Callable[[], int]]:
    """Call ``act`` with its number before every operation on a file in ``folder``; gives how many there were."""
    global _watching, _seen
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(_hook)
    _watching, _seen = (f"{folder}{os.sep}", act), 0
    try:
        yield lambda: _seen
    finally:
        _watching = None


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


def survived(stage: str, model: Path, root: Path, kills: int, at_once: int, context) -> dict:
    """Kill ``stage`` ``kills`` times, up to ``at_once`` of them in a run before it may end."""
    name = stage.replace(", ", "-")

    def start(folder: Path, at: int | None) -> int:
        process = context.Process(target=train, args=(stage, model, folder, at, root / f"{name}.count"))
        process.start()
        process.join(timeout=300)
        return process.exitcode

    whole = root / f"{name}-whole"
    if start(whole, None):
        raise RuntimeError(f"{stage}: the run that was left alone failed")
    operations = int((root / f"{name}.count").read_text())
    wanted, rng = made(whole), np.random.default_rng(len(stage))
    # Every k-th operation of a process that begins anew, and any of those that go on.
    places = cycle(np.linspace(1, operations, -(-kills // at_once)).round().astype(int))
    killed = runs = same = 0
    differing: set[str] = set()
    bar = tqdm(total=kills, desc=stage, leave=False, disable=None)
    while killed < kills:
        folder = root / f"{name}-{runs}"
        for again in range(min(at_once, kills - killed)):
            last = max(2, operations // (again + 2))
            place = int(rng.integers(1, last)) if again else int(next(places))
            if start(folder, place) != -signal.SIGKILL:
                break  # it had come to its end before
            killed += 1
            bar.update()
        status, runs = start(folder, None), runs + 1
        found = made(folder) if status == 0 else {"status": str(status)}
        same += found == wanted
        differing |= {n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n)}
    bar.close()
    return {
        "stage": stage, "file operations": operations, "kills": killed, "runs": runs, "the same": same,
        "differing": ", ".join(sorted(differing)) or "nothing",
    }  # fmt: skip


def main() -> None:
    smoke = options(__doc__).smoke
    kills, at_once = (2, 2) if smoke else (80, 3)
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
        rows = [survived(stage, root / "model", root, kills, at_once, context) for stage in STAGES]
    conclude("kills", rows, smoke)
    if any(row["the same"] < row["runs"] for row in rows):
        sys.exit("a run that was killed ended otherwise than one that was left alone")


if __name__ == "__main__":
    main()
