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
from sepo_kit.engine.rollout import Match
from sepo_kit.engine.sitting import replayed
from sepo_kit.games.base import Game
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
        following = [c for c in self.trainer.callback_handler.callbacks if isinstance(c, FOLLOWING)]
        if not following or not state.is_world_process_zero:
            return
        rollouts = self.trainer.rollouts
        shown: dict[str, Episode] = {}
        for episode in rollouts.step.episodes:
            if episode.owner is None:
                shown.setdefault(f"match/{episode.pool}/{episode.opponent}", episode)
        number, settings = state.global_step // rollouts.settings.updates - 1, rollouts.settings
        texts = {
            name: as_text(rollouts.game, episode, number, settings.common_random_numbers)
            for name, episode in list(shown.items())[:TOLD]
        }
        for callback in following:
            callback.on_log(args, state, control, logs=texts, model=model)


def as_text(game: Game, episode: Episode, step: int = 0, common_random_numbers: bool = False) -> str:
    """A match in a few lines: each round's moves in their order, what the agent said where it said more, the payoffs.

    The moves of strategies are not stored: the match is played again. ``step``: the training step it was played in,
    from 0.
    """
    sitting = replayed(
        game,
        Match(episode.pool, episode.opponent, episode.index, episode.group),
        [decision.action for decision in episode.decisions],
        episode.seed,
        answers=episode.answers or None,
        step=step,
        common_random_numbers=common_random_numbers,
    )
    lines = []
    for number, (own, their) in enumerate(zip(episode.own, episode.their, strict=True)):
        turns = [turn for turn in sitting.turns if turn.round == number]
        moves = ", ".join(f"{'agent' if turn.seat == 0 else 'opponent'} {turn.action}" for turn in turns)
        lines.append(f"{number + 1}. {moves or 'no move'} ({own:g} to {their:g})")
        made = [decision for decision in episode.decisions if decision.round == number]
        lines += [f"   > {d.reply}" for d in made if d.reply and d.reply.strip() != d.action]
    return "\n\n".join(lines)


def _callback(name: str, run: Run, step: int) -> TrainerCallback:
    if name == "tensorboard":
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        return TensorBoardCallback(writer(log_dir=str(run.path / "tensorboard"), purge_step=step + 1))
    return TrackioCallback() if name == "trackio" else WandbCallback()
