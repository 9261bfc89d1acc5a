"""Which of its saved steps a run keeps as its model: the last, or the one that was best on training seeds.

Training against best responses circles, so the last step need not be the best. Scores come from training episodes, or
from enumeration, never from the seeds a table is made with. They have twelve digits, as tables do: the sixteenth
depends on what else was asked of the game's tree before.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from sepo_kit import exact
from sepo_kit.models.dropout import evaluating
from sepo_kit.objective.terms import guaranteed, safety
from sepo_kit.runs import SCORES, Run, append_line, read_lines, twelve_digits
from sepo_kit.training.rollouts import Rollouts


class Scores(TrainerCallback):
    """Writes a score of the agent into the run folder each time a checkpoint is saved.

    The score is Safety; where best responses are in the exploit pool, it is guaranteed Safety. In a game of few
    information states it is exact, as long as enumeration can tell the best response, else the mean over the training
    episodes since the last checkpoint. ``enumerates``: whether this process alone may ask the model, which under FSDP
    it may not.
    """

    def __init__(self, run: Run, rollouts: Rollouts, enumerates: bool = True) -> None:
        self.run = run
        self.rollouts = rollouts
        self.enumerates = enumerates
        self._since: list[float] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step % self.rollouts.settings.updates == 0:
            self._since.append(self._of(self.rollouts.step.terms))

    def on_save(self, args, state, control, model=None, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        number = state.global_step // self.rollouts.settings.updates
        how, score = "exact", self._exact(model)
        if score is None:
            how, score = "training episodes", float(np.mean(self._since)) if self._since else None
        self._since.clear()
        if score is not None:
            row = {"step": number, "score": twelve_digits(score), "how": how}
            append_line(self.run.path / SCORES, row)

    def _of(self, terms) -> float:
        spec = self.rollouts.step.spec
        if self.rollouts.settings.best_responses:
            return guaranteed(spec, terms, spec.eval_weights)
        return safety(spec, terms)

    def _exact(self, model) -> float | None:
        rollouts = self.rollouts
        game, settings = rollouts.game, rollouts.settings
        if (
            not self.enumerates
            or not game.spec.few_states
            or settings.style != "direct"
            or settings.pools is not None
        ):
            return None
        agent = rollouts.player
        with evaluating(model), agent.remember(), suppress(exact.Unsolvable):  # then as where there are many
            agent.ask_all(exact.information_states(game))
            worst = exact.worst_case(game, agent).advantage if settings.best_responses else None
            return self._of(replace(exact.terms(game, agent), worst_case=worst))
        return None


def best_step(folder: Path | str) -> dict[str, Any] | None:
    """The row of the best saved step, the last of equals: step, score and how it came about; None without scores."""
    rows = read_lines(Path(folder) / SCORES, {"step": int, "score": float})
    return max(rows, key=lambda row: (row["score"], row["step"]), default=None)
