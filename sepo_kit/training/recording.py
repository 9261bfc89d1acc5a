"""Some episodes of every saved step, kept to be read: decisions with their rewards and advantages.

``episodes/step-000025.parquet`` in the run folder holds what step 25 trained on, bounded to the first few rollouts
against each opponent. Nothing reads it back into training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import TrainerCallback

from sepo_kit.engine.episode import Episode, decision_frame
from sepo_kit.objective.credit import Credit
from sepo_kit.runs import EPISODES, Run, replacing

ROLLOUTS = 4  # kept per opponent: the first of its first group, which share all draws but their own


class Recorder(TrainerCallback):
    """Writes the episodes of ``rollouts`` each time a checkpoint is saved."""

    def __init__(self, run: Run, rollouts) -> None:
        self.run = run
        self.rollouts = rollouts

    def on_save(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            step = self.rollouts.step
            number = state.global_step // self.rollouts.settings.updates
            record_episodes(self.run.path, number, step.episodes, step.credit)


def record_episodes(folder: Path | str, step: int, episodes: Sequence[Episode], credit: Credit) -> Path:
    """Write the first episodes against each opponent into ``folder``; the file.

    Columns: those of ``decision_frame``; ``step`` (from 1); ``reward`` (scaled payoff, before the baseline),
    ``advantage``, ``trained`` (whether the credit mode trains on the decision).
    """
    kept = [e.owner is None and e.group == 0 and e.index < ROLLOUTS for e in episodes]
    rows = np.repeat(kept, [len(e.decisions) for e in episodes])
    frame = decision_frame([e for e, keep in zip(episodes, kept, strict=True) if keep]).assign(
        step=step, reward=credit.reward[rows], advantage=credit.advantage[rows], trained=credit.trained[rows]
    )
    path = Path(folder) / EPISODES / f"step-{step:06d}.parquet"
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)
    return path
