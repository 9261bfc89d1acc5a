"""What a run keeps of every saved step: some episodes, to be read, and what it needs to go on from there.

``episodes/step-000025.parquet`` in the run folder holds what step 25 trained on, its rounds beside it, bounded to
the first few rollouts against each opponent. Nothing reads it back into training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import TrainerCallback

from sepo_kit.engine.episode import Episode, decision_frame, round_frame
from sepo_kit.engine.tables import write_tables
from sepo_kit.objective.credit import Credit
from sepo_kit.runs import EPISODES, Run, write_json

STATE = "step.json"  # in a checkpoint: what Rollouts.state says
ROLLOUTS = 4  # kept per opponent: the first of its first group, which share all draws but their own


class Recorder(TrainerCallback):
    """Writes episodes of ``rollouts``, and its state into the checkpoint, each time one is saved."""

    def __init__(self, run: Run, rollouts) -> None:
        self.run = run
        self.rollouts = rollouts

    def on_save(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            step = self.rollouts.step
            number = state.global_step // self.rollouts.settings.updates
            common = self.rollouts.settings.common_random_numbers
            record_episodes(self.run.path, number, step.episodes, step.credit, common)
            write_json(
                Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE, self.rollouts.state()
            )


def record_episodes(
    folder: Path | str,
    step: int,
    episodes: Sequence[Episode],
    credit: Credit,
    common_random_numbers: bool = True,
) -> Path:
    """Write the first episodes against each opponent into ``folder``; the file.

    Columns: those of ``decision_frame``; ``step`` (from 1); ``reward`` (scaled payoff, before the baseline),
    ``advantage``, ``trained`` (whether the credit mode trains on the decision); the other seat earns no credit: NaN,
    and not trained. Beside it ``step-NNNNNN.rounds.parquet``: the columns of ``round_frame``, ``step``, and
    ``common_random_numbers``: whether the rollouts of a group had their draws in common.
    """
    places = np.concatenate([[0], np.cumsum([len(e.decisions) for e in episodes])])
    kept, rows = [], []  # of the credit; answers have none
    for episode, first in zip(episodes, places[:-1], strict=True):
        if episode.owner is None and episode.group == 0 and episode.index < ROLLOUTS:
            kept.append(episode)
            rows += [*range(first, first + len(episode.decisions)), *[-1] * len(episode.answers)]
    mine = np.array(rows) >= 0
    frame = decision_frame(kept).assign(
        step=step,
        reward=np.where(mine, credit.reward[rows], np.nan),
        advantage=np.where(mine, credit.advantage[rows], np.nan),
        trained=mine & credit.trained[rows],
    )
    path = Path(folder) / EPISODES / f"step-{step:06d}.parquet"
    rounds = round_frame(kept).assign(step=step, common_random_numbers=common_random_numbers)
    write_tables(path, frame, rounds)
    return path
