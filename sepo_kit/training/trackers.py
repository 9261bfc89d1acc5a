"""Where a training's curves may go as well: trackers, through transformers' own callbacks.

TensorBoard writes into the run folder, trackio into its own store on this machine, W&B where its environment says. They
get what ``metrics.jsonl`` gets, under the same keys, and some matches as text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from transformers import Trainer, TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from sepo_kit.engine.episode import Episode
from sepo_kit.runs import Run

PACKAGES = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}  # by tracker
FOLLOWING = (TensorBoardCallback, TrackioCallback, WandbCallback)
TOLD = 3  # matches of a saved step, each against another opponent


def require_trackers(names: Sequence[str]) -> None:
    """ValueError where the package of a tracker is not installed."""
    for name in names:
        if find_spec(PACKAGES[name]) is None:
            extra = "pip install wandb" if name == "wandb" else "pip install 'sepo_kit[trackers]'"
            raise ValueError(f"{name} is not installed: {extra}, or leave it out of report_to")


def tracker_arguments(run: Run) -> dict[str, str]:
    """Trainer arguments by which trackers know the run."""
    parts = run.path.absolute().parts[-3:]
    return {"project": os.environ.get("TRACKIO_PROJECT", "sepo_kit"), "run_name": "/".join(parts)}


def follow(trainer: Trainer, run: Run, names: Sequence[str], step: int = 0) -> None:
    """Let the trackers called ``names`` watch ``trainer``, which goes on after update number ``step``."""
    for name in names:
        trainer.add_callback(_callback(name, run, step))


class Told(TrainerCallback):
    """Tells the trackers of a SEPO ``trainer`` a match against each of the first opponents at every saved step."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_save(self, args, state, control, model=None, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        shown: dict[str, Episode] = {}
        for episode in self.trainer.rollouts.step.episodes:
            shown.setdefault(f"match/{episode.pool}/{episode.opponent}", episode)
        texts = {name: as_text(episode) for name, episode in list(shown.items())[:TOLD]}
        for callback in self.trainer.callback_handler.callbacks:
            if isinstance(callback, FOLLOWING):
                callback.on_log(args, state, control, logs=texts, model=model)


def as_text(episode: Episode) -> str:
    """A match in a few lines: each round's moves of the agent, what it said where it said more, and the payoffs."""
    lines = []
    for number, (own, their) in enumerate(zip(episode.own, episode.their, strict=True)):
        made = [decision for decision in episode.decisions if decision.round == number]
        moves = ", ".join(decision.action for decision in made) or "no move"
        lines.append(f"{number + 1}. {moves} ({own:g} to {their:g})")
        lines += [f"   > {d.reply}" for d in made if d.reply and d.reply.strip() != d.action]
    return "\n\n".join(lines)


def _callback(name: str, run: Run, step: int) -> TrainerCallback:
    if name == "tensorboard":
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        return TensorBoardCallback(writer(log_dir=str(run.path / "tensorboard"), purge_step=step + 1))
    return TrackioCallback() if name == "trackio" else WandbCallback()
