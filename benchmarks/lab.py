"""The penalty lab: what a slider move costs with 100,000 stored decisions, and what reading them costs once.

A move is all that happens in the kernel: ranking, flips, three pictures and two tables. ``limit_ms`` is what the kit
promises of it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))

from common import conclude, options, seconds

import sepo_kit as sk
from sepo_kit import figures
from sepo_kit.evaluation.contenders import scripted, stored
from sepo_kit.evaluation.reference import reference
from sepo_kit.evaluation.results import EvaluationSettings, write_result
from sepo_kit.widgets.lab import PenaltyLab

STAGES = {("base", None): "uniform", ("sft", 0): "generous-tit-for-tat", ("sepo", 0): "tit-for-tat"}


def store(runs: Path, decisions: int) -> None:
    """Finished evaluations of three stages with at least ``decisions`` decisions in all."""
    game = sk.get_game("ipd")
    each = -(-decisions // (len(STAGES) * len(game.opponents) * game.spec.rounds))
    for (stage, seed), strategy in STAGES.items():
        settings = EvaluationSettings(episodes=each, exact=False)
        report = sk.evaluate(sk.scripted(game, strategy), game, each, settings.seed)
        label = {"model": "pico", "game": "ipd", "stage": stage, "seed": seed}
        write_result(runs / "bench" / "pico" / "ipd" / "results", label, settings, report, report.episodes)


def main() -> None:
    smoke = options(__doc__).smoke
    decisions, repeats = (2_000, 2) if smoke else (100_000, 40)
    figures.style()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        store(runs, decisions)
        read = stored([runs / "bench"], "ipd").decisions
        scripted("ipd")  # builds the trees
        lab = PenaltyLab(runs, "ipd", "bench")
        slider = lab.sliders["exploit"].linear
        places = iter(range(10_000))

        def move() -> None:
            slider.value = 0.5 + 0.05 * (next(places) % 150)

        moves = [1e3 * seconds(move, 1) for _ in range(repeats)]
        rows = [
            {"what": "slider move, median", "decisions": read, "ms": pd.Series(moves).median(), "limit_ms": 150},
            {"what": "slider move, slowest", "decisions": read, "ms": max(moves), "limit_ms": 150},
            {"what": "reading the runs", "decisions": read,
             "ms": 1e3 * seconds(lambda: stored([runs / "bench"], "ipd"), 3)},
            {"what": "training the exact policy", "decisions": read,
             "ms": 1e3 * seconds(lambda: reference("ipd", lab.weights), 3), "limit_ms": 2000},
        ]  # fmt: skip
    conclude("lab", rows, smoke)


if __name__ == "__main__":
    main()
