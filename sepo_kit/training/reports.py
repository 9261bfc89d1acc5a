"""``report_to``: where a training's curves go beside its run folder, through the callbacks of transformers.

The names are those of ``metrics.jsonl`` with "train/" before them: the loss, and of SEPO ``sepo/payoff`` and the other
terms, ``sepo/safety``, ``sepo/worst_case``, ``sepo/guaranteed``. Each time a checkpoint is saved SEPO also tells one
match against every opponent, as text.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib.util import find_spec

from transformers import TrainerCallback

from sepo_kit.engine.episode import Episode
from sepo_kit.engine.rollout import Match
from sepo_kit.engine.sitting import replayed
from sepo_kit.games.base import Game
from sepo_kit.runs import Run
from sepo_kit.training.settings import TRACKERS

PROJECT = "sepo_kit"  # what trackers that know projects call ours
MATCHES = "matches"


def require_trackers(names: Sequence[str]) -> None:
    """ValueError where a tracker is asked for that is not installed."""
    for name in names:
        if find_spec(name) is None:
            how = "pip install 'sepo_kit[trackers]'" if name != "wandb" else "pip install wandb"
            raise ValueError(f"report_to has {name!r}, which is not installed; run: {how}")


def report_arguments(names: Sequence[str], run: Run, label: str) -> dict:
    """What a trainer is told of them; TensorBoard's callback is made by ``trackers``, since it needs a folder."""
    others = [name for name in names if name != "tensorboard"]
    named = f"{label} {run.path.parent.name}/{run.path.name}"
    return {"report_to": others or "none", "project": PROJECT, "run_name": named}


def trackers(names: Sequence[str], run: Run) -> list[TrainerCallback]:
    """The callbacks that a trainer needs beside those it makes itself."""
    return [_tensorboard(run)] if "tensorboard" in names else []


def _tensorboard(run: Run) -> TrainerCallback:
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    class IntoTheRun(TensorBoardCallback):
        """Writes beside the metrics, and takes back the steps that a stopped run does again."""

        def on_train_begin(self, args, state, control, **kwargs) -> None:
            if state.is_world_process_zero:
                again = state.global_step + 1 if state.global_step else None
                self.tb_writer = SummaryWriter(run.path / TRACKERS[0], purge_step=again)
                super().on_train_begin(args, state, control, **kwargs)

    return IntoTheRun()


class Matches(TrainerCallback):
    """Tells the trackers ``names`` one match of the step against every opponent, each time a checkpoint is saved."""

    def __init__(self, names: Sequence[str], run: Run, rollouts) -> None:
        self.names = names
        self.run = run
        self.rollouts = rollouts

    def on_save(self, args, state, control, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        number = state.global_step // self.rollouts.settings.updates - 1
        text = "\n\n".join(self._told(number))
        if "tensorboard" in self.names:
            from torch.utils.tensorboard import SummaryWriter

            with SummaryWriter(self.run.path / TRACKERS[0]) as writer:
                writer.add_text(MATCHES, text, state.global_step)
        if "trackio" in self.names:
            import trackio

            trackio.log({MATCHES: trackio.Markdown(text)})
        if "wandb" in self.names:
            import wandb

            wandb.log({MATCHES: wandb.Html(f"<pre>{html.escape(text)}</pre>")})

    def _told(self, number: int) -> list[str]:
        rollouts = self.rollouts
        first: dict[tuple[str, str], Episode] = {}
        for episode in rollouts.step.episodes:
            if episode.owner is None:
                first.setdefault((episode.pool, episode.opponent), episode)
        shared = rollouts.settings.common_random_numbers
        return [told(rollouts.game, episode, number, shared) for episode in first.values()]


def told(game: Game, episode: Episode, step: int, common_random_numbers: bool) -> str:
    """A match as Markdown: who moved how, the agent's words where it used some, and what each round paid.

    ``step``: from 0, the training step it was played in.
    """
    match = Match(episode.pool, episode.opponent, episode.index, episode.group)
    sitting = replayed(
        game,
        match,
        [decision.action for decision in episode.decisions],
        episode.seed,
        answers=episode.answers or None,
        step=step,
        common_random_numbers=common_random_numbers,
    )
    replies = iter(episode.decisions)
    lines = [f"**Against {episode.opponent} ({episode.pool} pool)**", ""]
    for number, (own, their) in enumerate(zip(episode.own, episode.their, strict=True)):
        moves = []
        for turn in (turn for turn in sitting.turns if turn.round == number):
            said = turn.action
            if turn.seat == 0 and (reply := next(replies).reply) and reply.strip() != said:
                said += f" ({' '.join(reply.split())})"
            moves.append(f"{'agent' if turn.seat == 0 else 'opponent'} {said}")
        lines.append(
            f"- {game.spec.unit} {number + 1}: {', '.join(moves) or 'nobody moved'}; {own:g} to {their:g}"
        )
    return "\n".join(lines)
