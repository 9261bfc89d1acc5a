"""SEPO training through TRL's GRPOTrainer.

One GRPO row is one decision, or several that are alike. ``Rollouts`` plays all episodes of a step in lockstep and hands
TRL its rows; ``objective/step.py`` says what each decision earns; ``SepoTrainer`` puts that into TRL's loss.

All departures from TRL's GRPO:
- Advantages are the kit's (``credit.py``), not rewards less their group's mean: ``scale_rewards="none"``, ``dr_grpo``.
  In mode ``credited`` all advantages of a step are divided by one scale, that of the whole batch. TRL needs a reward
  function and gets one that it never asks; what it logs of rewards and of padded rows does not reach our logs.
- Direct replies are scored within the legal actions: the policy that plays is the constrained decode, so its
  log-probabilities are those that must be differentiated. Equal and overlapping contexts are computed once, which
  sums their gradients.
- A reasoned reply that cannot be read is followed by a constrained decode that chooses the action: the row goes on
  with the tokens of that choice, scored within the legal actions, so that the gradient is that of what was done.
- Where a game has so few information states that a step meets them all (Kuhn poker: 12), direct play asks for them at
  once, and the loss is taken of what play computed: with one update, one process, no dropout and no checkpointing of
  activations, its own pass would be the same.
- Reasoned replies are sampled by the kit and scored on token trees, in passes of so many tokens; TRL's generation and
  padded scoring are for vLLM and for models that cannot share prefixes.
- With ``replies`` the matches of all groups draw from a few replies to each prompt (``engine/reuse.py``); what a reply
  earns is the sum over its uses, each less a baseline that has nothing to do with it.
- One update a step unless ``updates`` says more, so the probability ratio is 1 and ``clip`` never acts.
- The reference of the KL penalty changes only where ``renew_reference_every`` says so (``renewal.py``); till then what
  it says of a context is kept from step to step.
- Decisions of one prompt, one reply and advantages of one sign are one row, whose ``env_mask`` counts them and whose
  advantage is their mean. That is the same update: the clipped objective is linear in advantages of one sign. So TRL
  asks for the rows of one group and is given as many as there are, up to whole groups.
- Rows that are padding have an all-zero ``env_mask`` and advantage 0. Rows that cannot train (those, and without a KL
  penalty those of advantage 0) are left out of the forward pass, where the loss has one of its own.
- Where TRL scores padded rows in micro-batches, every decision slot has a row, also those that no episode reached;
  equal ones go through the forward pass once.
- Mixtures of experts are trained without their routers' auxiliary loss, which TRL adds where a model knows one: it is
  no part of J, and rows that stand for several decisions would be weighed as one.
- Where memory runs out, the rows are scored in pieces that are computed again for the backward pass.
- With several processes, each plays its share of the episodes and all know all of them, so that credit is that
  of the whole batch; gradients are averaged once an update.

Departures from arXiv 2605.30854: KL by TRL's k3 estimator (there: one-sided), std floor 1e-4 (there: 1e-8).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig

from sepo_kit.adversaries.opponents import require_there
from sepo_kit.engine.policy import Policy, identities
from sepo_kit.games.base import Game
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.loading import LoadedModel
from sepo_kit.models.lora import lora, training_dtype
from sepo_kit.runs import Run, read_json
from sepo_kit.training.processes import sharded, world
from sepo_kit.training.recording import STATE, Recorder
from sepo_kit.training.renewal import Renewal
from sepo_kit.training.request import checked_seed
from sepo_kit.training.rollouts import Rollouts
from sepo_kit.training.selection import Scores, best_step
from sepo_kit.training.settings import SEPOSettings
from sepo_kit.training.stage import run_stage
from sepo_kit.training.trackers import Told, tracker_arguments
from sepo_kit.training.trainer import SepoTrainer
from sepo_kit.training.watch import CHECKPOINTS, Watch, quiet_arguments

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # rollout_func is experimental in TRL; we know


def train_sepo(
    base: str | Path,
    game: Game | str,
    run_folder: str | Path,
    settings: SEPOSettings,
    seed: int = 0,
    callbacks: Sequence[TrainerCallback] = (),
    opponents: Mapping[str, Policy] | None = None,
) -> Run:
    """Train ``base`` on ``game`` with SEPO; goes on where a stopped run left off.

    Parameters
    ----------
    base
        Anything ``load_model`` takes; for the method, the run folder of the warm start.
    run_folder
        Where the run lives. It becomes a model that ``load_model`` takes.
    callbacks
        Whatever else is to watch the training.
    opponents
        Policies that names of ``settings.pools`` stand for which are none of the grammar. The run folder keeps only the
        names and a hash: a stopped run must be given the same policies again, or it is put aside and begins anew.

    Returns
    -------
    Run
        The finished run; at once where it was finished before. Not ``done`` where a callback stopped the training,
        which goes on by the same call.

    Raises
    ------
    ValueError
        Unknown game or model, a folder that belongs to another request (``RunError``), or rows that the processes
        cannot share evenly.
    FloatingPointError
        The loss, its gradient, or a weight is not finite.
    MemoryError
        One row, or one episode, does not fit into memory.
    ConnectionError
        Another process of the run has ended.
    """
    seed = checked_seed(seed)
    return run_stage(
        "worst-case" if settings.best_responses else "sepo", base, game, run_folder, settings, seed,
        lambda loaded, game, run: sepo_trainer(loaded, game, run, settings, seed, opponents),
        callbacks=callbacks,
        check=lambda loaded, game: _check(loaded, game, settings, seed, opponents),
        resume=lambda trainer, checkpoint: trainer.rollouts.go_on_with(read_json(checkpoint / STATE)),
        results=lambda trainer: {"steps": trainer.state.global_step // settings.updates},
        kept=lambda run: best_step(run.path) if settings.keep == "best" else None,
        made_from={"opponents_sha256": identities(opponents)} if opponents else {},
    )  # fmt: skip


def sepo_trainer(
    loaded: LoadedModel,
    game: Game,
    run: Run,
    settings: SEPOSettings,
    seed: int = 0,
    opponents: Mapping[str, Policy] | None = None,
) -> SepoTrainer:
    """A ``SepoTrainer`` ready to train in ``run``."""
    device = next(loaded.model.parameters()).device
    loaded.model.to(training_dtype(device))
    torch.manual_seed(seed)
    rollouts = Rollouts(game, _player(loaded, game, settings), settings, seed, opponents)
    rows = rollouts.rows // rollouts.of  # of this process
    micro = rollouts.style.micro_rows(rows)
    if rollouts.folds:  # TRL asks for as few rows as it can, and is given what is laid out
        rows = micro = settings.rollouts
    trainer = SepoTrainer(
        rollouts=rollouts,
        model=loaded.model,
        reward_funcs=[_no_reward],
        args=GRPOConfig(
            output_dir=str(run.path / CHECKPOINTS),
            seed=seed,
            max_steps=settings.steps * settings.updates,
            num_iterations=settings.updates,
            learning_rate=settings.learning_rate,
            lr_scheduler_type=settings.schedule,
            beta=settings.beta,
            epsilon=settings.clip,
            max_grad_norm=settings.max_grad_norm,
            temperature=settings.temperature,
            num_generations=settings.rollouts,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=rows // micro,
            steps_per_generation=rows // micro,
            max_completion_length=rollouts.style.longest_reply(),
            loss_type="dr_grpo",
            scale_rewards="none",
            shuffle_dataset=False,
            gradient_checkpointing=settings.gradient_checkpointing,
            router_aux_loss_coef=0.0,
            save_steps=settings.save_every * settings.updates,
            **quiet_arguments(settings.updates),
            **tracker_arguments(run),
        ),
        # Prompts of TRL's are numbers only; what is asked depends on the game so far.
        train_dataset=Dataset.from_dict(
            {"prompt": [str(slot) for slot in range(rows * world().num_processes // settings.rollouts)]}
        ),
        processing_class=loaded.tokenizer,
        peft_config=lora(settings.lora_r, settings.lora_alpha, settings.lora_dropout),
        callbacks=[
            Watch(run, rollouts.label, settings.updates),
            Recorder(run, rollouts),
        ],
    )
    trainer.add_callback(Scores(run, rollouts, enumerates=not trainer.is_fsdp_enabled))
    trainer.add_callback(Told(trainer))
    rollouts.style.attach(trainer)
    if settings.renew_reference_every:
        every = settings.renew_reference_every * settings.updates
        trainer.add_callback(Renewal(trainer.model, rollouts, every))
    return trainer


def _player(loaded: LoadedModel, game: Game, settings: SEPOSettings) -> LanguageModel:
    return LanguageModel(
        loaded.model,
        loaded.tokenizer,
        game,
        temperature=settings.temperature,
        style=settings.style,
        max_new_tokens=settings.max_new_tokens,
    )


def _check(
    loaded: LoadedModel,
    game: Game,
    settings: SEPOSettings,
    seed: int,
    opponents: Mapping[str, Policy] | None,
) -> None:
    """Raise what a training would, before anything is written."""
    rollouts = Rollouts(game, _player(loaded, game, settings), settings, seed, opponents)
    for name in rollouts.others:
        require_there(game, name)
    if sharded() and settings.keep == "best":
        raise ValueError(
            "under FSDP there is no adapter of a single step to keep, so keep must be 'last', got 'best'; or train "
            "with configs/accelerate/gpus.yaml"
        )


def _no_reward(completions, **columns) -> list[float]:
    """What TRL must be given, and never asks: ``SepoTrainer`` says what there is instead of rewards."""
    raise AssertionError("the advantages are the kit's")
