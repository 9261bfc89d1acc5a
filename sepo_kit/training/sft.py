"""The supervised warm start: TRL's SFTTrainer with LoRA, loss on the assistant's tokens only.

Source of the method's settings: arXiv 2605.30854 (values in ``profiles.py``). Departures: demonstrations are the
kit's own.
"""

from __future__ import annotations

from pathlib import Path

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from sepo_kit.games import checked_game
from sepo_kit.games.base import Game
from sepo_kit.runs import Run
from sepo_kit.training.demonstrations import conversations, demonstrations
from sepo_kit.training.models import ADAPTER, LoadedModel, load_model, lora, training_dtype
from sepo_kit.training.settings import SFTSettings
from sepo_kit.training.watch import (
    CHECKPOINTS,
    Watch,
    peak_memory,
    quiet_arguments,
    resume_point,
    save_adapter,
)


def train_sft(
    base: str | Path, game: Game | str, run_folder: str | Path, settings: SFTSettings, seed: int = 0
) -> Run:
    """Fine-tune ``base`` on demonstrations of ``game``; goes on where a stopped run left off.

    Parameters
    ----------
    base
        Anything ``load_model`` takes.
    run_folder
        Where the run lives. It becomes a model that ``load_model`` takes.

    Returns
    -------
    Run
        The finished run; at once where it was finished before.

    Raises
    ------
    ValueError
        Unknown game or model, or a folder that belongs to another request (``RunError``).
    FloatingPointError
        The loss or its gradient is not finite.
    """
    game = checked_game(game)
    request = {
        "stage": "sft", "base": str(base), "game": game.spec.id, "seed": seed, "settings": settings.as_request()
    }  # fmt: skip
    loaded = None if (Path(run_folder) / "manifest.json").exists() else load_model(base)
    if loaded is not None:
        _require_room(loaded, _rows(game, settings, seed), settings.max_length)
    run = Run(run_folder, request)
    if run.done:
        return run
    trainer = _trainer(loaded or load_model(base), game, run, settings, seed)
    trainer.train(resume_from_checkpoint=_text(resume_point(run)))
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    save_adapter(trainer, run, ADAPTER)
    run.finish(
        final_loss=losses[-1] if losses else None,
        train_tokens=int(trainer.state.num_input_tokens_seen),
        **peak_memory(),
    )
    return run


def _rows(game: Game, settings: SFTSettings, seed: int) -> list[dict]:
    """The demonstrations to train on, as conversations."""
    frame = demonstrations(game)
    frame = frame[frame["split"] == "train"]
    frame = frame.sample(n=min(settings.records, len(frame)), random_state=seed)
    return conversations(frame, settings.style)


def _require_room(loaded: LoadedModel, rows: list[dict], max_length: int) -> None:
    """ValueError if a conversation has more tokens than ``max_length``: what is cut off is the action."""
    distinct = {str(row): row["prompt"] + row["completion"] for row in rows}
    lengths = [
        len(loaded.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))
        for messages in distinct.values()
    ]
    if max(lengths) > max_length:
        raise ValueError(
            f"max_length must be >= {max(lengths)}, got {max_length}: the longest demonstration has "
            f"{max(lengths)} tokens, and its action comes last"
        )


def _trainer(loaded: LoadedModel, game: Game, run: Run, settings: SFTSettings, seed: int) -> SFTTrainer:
    device = next(loaded.model.parameters()).device
    loaded.model.to(training_dtype(device))
    torch.manual_seed(seed)
    return SFTTrainer(
        model=loaded.model,
        args=SFTConfig(
            output_dir=str(run.path / CHECKPOINTS),
            seed=seed,
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=settings.warm_up,  # a share of all steps where it is below 1
            per_device_train_batch_size=settings.batch,
            gradient_accumulation_steps=settings.accumulation,
            max_length=settings.max_length,
            completion_only_loss=True,
            gradient_checkpointing=settings.gradient_checkpointing,
            save_steps=settings.save_every,
            **quiet_arguments(),
        ),
        train_dataset=Dataset.from_list(_rows(game, settings, seed)),
        processing_class=loaded.tokenizer,
        peft_config=lora(settings.lora_r, settings.lora_alpha, settings.lora_dropout),
        callbacks=[Watch(run, f"SFT {game.spec.id}")],
    )


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
