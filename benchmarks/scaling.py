"""What a SEPO step costs as rollouts, rounds and processes grow: pico in the prisoner's dilemma.

``times`` is the cost over that of the first row of its kind. More rollouts meet the same prompts more often, so they
cost less than they are; more rounds make more and longer prompts. Processes share the cores there are: the machine's
threads are divided among them.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

from common import conclude, options

import sepo_kit as sk
from sepo_kit.runs import METRICS, read_lines
from sepo_kit.training.settings import SEPOSettings

SETTINGS = SEPOSettings(steps=6, rollouts=4, learning_rate=1e-4, beta=0.02, lora_dropout=0.0)
LAUNCH = Path(__file__).parents[1] / "configs" / "accelerate" / "cpu-2.yaml"


def train(folder: str, steps: int, rollouts: int = SETTINGS.rollouts, rounds: int = 8) -> None:
    """Train for a few steps in ``folder``, in a process of its own: it changes the game."""
    game = sk.get_game("ipd")
    model = "pico"
    if rounds != game.spec.rounds:  # by its name, another would be built, of the words of that game
        loaded, model = sk.load_model("pico"), Path(folder).parent / "pico"
        for part in (loaded.model, loaded.tokenizer):
            part.save_pretrained(model)
    sys.modules[type(game).__module__].SPEC = game.spec = replace(game.spec, rounds=rounds)
    sk.train_sepo(model, game, folder, replace(SETTINGS, steps=steps, rollouts=rollouts))


def launch(folder: str, steps: int, rollouts: int, processes: int) -> None:
    """The same in several processes, which find themselves in ``main``."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(LAUNCH), "--num_processes",
         str(processes), __file__, folder, str(steps), str(rollouts)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)}, check=True,
    )  # fmt: skip


def measure(kind: str, number: int, steps: int = SETTINGS.steps, rollouts: int = SETTINGS.rollouts) -> dict:
    """One row: ``number`` of what ``kind`` says."""
    with tempfile.TemporaryDirectory() as base:
        folder = str(Path(base) / "run")
        if kind == "processes":
            launch(folder, steps, rollouts, number)
        else:
            train(folder, steps, **{"rollouts": rollouts, kind: number})
        rows = read_lines(Path(folder) / METRICS)
    return {
        "kind": kind,
        "number": number,
        "seconds": median(row["seconds"] for row in rows[1:]),
        "decisions": rows[-1]["sepo/decisions"],
        "prompts": rows[-1]["sepo/prompts"],
    }


def main() -> None:
    if "RANK" in os.environ:  # started by ``launch``
        train(sys.argv[1], *map(int, sys.argv[2:]))
        return
    smoke = options(__doc__).smoke
    kinds = {"rollouts": (2, 4, 8, 16), "rounds": (4, 8, 16), "processes": (1, 2)}
    if smoke:
        kinds = {"rounds": (2,), "processes": (2,)}
    rows = []
    with ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        for kind, numbers in kinds.items():
            found = [
                measure(kind, n, 2, 2) if smoke else pool.submit(measure, kind, n).result() for n in numbers
            ]
            rows += [{**row, "times": row["seconds"] / found[0]["seconds"]} for row in found]
    conclude("scaling", rows, smoke)


if __name__ == "__main__":
    main()
