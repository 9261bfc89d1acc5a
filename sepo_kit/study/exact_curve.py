"""The exact terms of a language model while it trains, in games whose information states are few (Kuhn poker).

What a training step samples is noisy, and of a few episodes even biased: exploit is the largest of several means.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd
from transformers import TrainerCallback

from sepo_kit import exact
from sepo_kit.games.base import Game
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.objective.terms import objective
from sepo_kit.runs import RunError, append_line, keep_lines, read_lines
from sepo_kit.training.rollouts import evaluating

EXACT_CURVE = "exact.jsonl"


class ExactCurve(TrainerCallback):
    """Writes the terms into ``run_folder`` before the first step, every ``every`` steps and after the last."""

    def __init__(self, game: Game, run_folder: Path | str, temperature: float, every: int) -> None:
        self.game = game
        self.path = Path(run_folder) / EXACT_CURVE
        self.temperature = temperature
        self.every = every

    def on_train_begin(self, args, state, control, model=None, processing_class=None, **kwargs) -> None:
        if state.is_world_process_zero:
            keep_lines(self.path, lambda row: row["step"] < state.global_step)
        self._write(state, model, processing_class)

    def on_step_end(self, args, state, control, model=None, processing_class=None, **kwargs) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._write(state, model, processing_class)

    def _write(self, state, model, tokenizer) -> None:
        if not state.is_world_process_zero:
            return
        agent = LanguageModel(model, tokenizer, self.game, temperature=self.temperature)
        with evaluating(model):
            found = exact.terms(self.game, agent)
        safety = objective(self.game.spec, found, self.game.spec.eval_weights)
        append_line(self.path, {"step": state.global_step, "safety": safety, **asdict(found)})


def read_exact_curve(run_folder: Path | str) -> pd.DataFrame:
    """A row per evaluated step: step, safety and the terms. Steps that a resumed run took again stand once.

    Raises
    ------
    RunError
        The run was not watched.
    """
    rows = read_lines(Path(run_folder) / EXACT_CURVE)
    if not rows:
        raise RunError(
            f"{run_folder} has no {EXACT_CURVE}: it was trained without; delete it to train it again"
        )
    return pd.DataFrame(rows).drop_duplicates("step", keep="last", ignore_index=True)
