"""A SEPO step of replies in free text: token trees against padded rows, and replies that many matches draw from.

Every row is a process of its own that takes a few steps from the base model, so its memory is its own; the first step
warms up and is left out, unless it is the only one. ``padded``, of which one step takes minutes, is what models get
that cannot share prefixes: TRL generates the replies and scores them row by row, prompts and all. ``times`` is its
seconds over those of the row, in the same run, null where it is too slow to wait for. Replies are cut off after so
many tokens as a warm-started model says.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))

from common import conclude, keep, options
from tqdm import tqdm
from transformers import PrinterCallback

import sepo_kit as sk
from sepo_kit.models.quiet import quiet
from sepo_kit.runs import METRICS, Run, read_lines
from sepo_kit.training import styles
from sepo_kit.training.grpo import sepo_trainer
from sepo_kit.training.settings import SEPOSettings
from sepo_kit.training.watch import peak_memory

STEPS = SEPOSettings(
    steps=3, rollouts=4, learning_rate=1e-4, beta=0.02, lora_dropout=0.0, style="reasoned", max_new_tokens=18
)

TOO_SLOW = [
    ("smollm2-135m", "ipd", "padded"),  # three steps were not done in 22 minutes, and took 12 GB
    # One took 523 s: untrained, it gave 657 replies that differ, where a warm-started one repeats itself.
    ("smollm2-135m", "ipd", "token trees, replies used again"),
]


def measure(name: str, game_id: str, way: str, settings: SEPOSettings) -> dict:
    """Train ``name`` on a game for the steps of ``settings``: one row."""
    refuse = {"side_effect": lambda model: False} if way == "padded" else {}
    with (
        tempfile.TemporaryDirectory() as folder,
        quiet(),
        mock.patch.object(styles, "shares_prefixes", **refuse, wraps=styles.shares_prefixes),
        mock.patch.object(styles, "scores_on_trees", **refuse, wraps=styles.scores_on_trees),
    ):
        run = Run(Path(folder) / "run", {}, writes=True)
        trainer = sepo_trainer(sk.load_model(name), sk.get_game(game_id), run, settings)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        rows = read_lines(run.path / METRICS)
    return {
        "model": name,
        "game": game_id,
        "way": way,
        "episodes": len(trainer.rollouts.step.matches),
        "decisions": median(row["sepo/decisions"] for row in rows),
        "replies": median(row["sepo/replies"] for row in rows),
        "seconds": median(row["seconds"] for row in rows[1:] or rows),
        "peak_mib": next(iter(peak_memory().values())),
    }


def cases(smoke: bool) -> list[tuple[str, str, str, SEPOSettings]]:
    """Each game by all ways."""
    if smoke:
        settings, models = replace(STEPS, steps=1, rollouts=2, max_new_tokens=2), [("pico", ("kuhn",))]
    else:
        settings, models = STEPS, [("pico", ("kuhn", "ipd")), ("smollm2-135m", ("kuhn", "ipd"))]
    ways = {
        "padded": replace(settings, steps=1),
        "token trees": settings,
        "token trees, replies used again": replace(settings, replies=8, groups=1 if smoke else 8),
    }
    every = [(name, game, way, s) for name, games in models for game in games for way, s in ways.items()]
    return [case for case in every if case[:3] not in TOO_SLOW]


def main() -> None:
    smoke = options(__doc__).smoke
    rows = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for case in tqdm(cases(smoke), desc="trainings"):
            rows.append(measure(*case) if smoke else pool.submit(measure, *case).result())
            padded = [r for r in rows if (r["model"], r["game"], r["way"]) == (*case[:2], "padded")]
            rows[-1]["times"] = padded[0]["seconds"] / rows[-1]["seconds"] if padded else None
            if not smoke:
                keep("reasoned", rows)
    conclude("reasoned", rows, smoke)


if __name__ == "__main__":
    main()
