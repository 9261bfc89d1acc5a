"""The supervised warm start: TRL's SFTTrainer with LoRA, loss on the assistant's tokens only.

Source of the method's settings: arXiv 2605.30854 (values in ``pipeline/profiles.py``). Departures: demonstrations are
the kit's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from math import gcd
from pathlib import Path
from types import SimpleNamespace

import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from sepo_kit.games.base import Game
from sepo_kit.models.chat import opening, thinking_off
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.loading import LoadedModel
from sepo_kit.models.lora import lora, training_dtype
from sepo_kit.models.scoring import score_replies, scores_on_trees
from sepo_kit.runs import Run
from sepo_kit.training.demonstrations import conversations, demonstrations
from sepo_kit.training.memory import Gradients, until_it_fits
from sepo_kit.training.processes import world
from sepo_kit.training.request import checked_seed
from sepo_kit.training.settings import SFTSettings
from sepo_kit.training.stage import run_stage
from sepo_kit.training.trackers import tracker_arguments
from sepo_kit.training.watch import CHECKPOINTS, Watch, quiet_arguments

IGNORED = -100  # a label that is not learned


def train_sft(
    base: str | Path,
    game: Game | str,
    run_folder: str | Path,
    settings: SFTSettings,
    seed: int = 0,
    callbacks: Sequence[TrainerCallback] = (),
) -> Run:
    """Fine-tune ``base`` on demonstrations of ``game``; goes on where a stopped run left off.

    Parameters
    ----------
    base
        Anything ``load_model`` takes.
    run_folder
        Where the run lives. It becomes a model that ``load_model`` takes.
    callbacks
        Whatever else is to watch the training.

    Returns
    -------
    Run
        The finished run; at once where it was finished before. Not ``done`` where a callback stopped the training,
        which goes on by the same call.

    Raises
    ------
    ValueError
        Unknown game or model, more records than there are or too long ones, or a folder that belongs to another
        request (``RunError``).
    FloatingPointError
        The loss, its gradient, or a weight is not finite.
    MemoryError
        One row does not fit into memory.
    ConnectionError
        Another process of the run has ended.
    """
    seed = checked_seed(seed)
    return run_stage(
        "sft", base, game, run_folder, settings, seed,
        lambda loaded, game, run: _trainer(loaded, game, run, settings, seed),
        callbacks=callbacks,
        check=lambda loaded, game: _check(loaded, game, settings, seed),
        results=_results,
    )  # fmt: skip


def _results(trainer: SFTTrainer) -> dict:
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        "final_loss": losses[-1] if losses else None,
        "train_tokens": int(trainer.state.num_input_tokens_seen),
    }


@lru_cache(maxsize=1)  # they are checked before anything is written, and then trained on
def _rows(game: Game, settings: SFTSettings, seed: int) -> list[dict]:
    """The demonstrations to train on, as conversations."""
    frame = demonstrations(game)
    frame = frame[frame["split"] == "train"]
    if settings.records > len(frame):
        raise ValueError(
            f"records must be <= {len(frame)}, got {settings.records}: the corpus of {game.spec.id} has no more for "
            "training"
        )
    frame = frame.sample(n=settings.records, random_state=seed)
    return conversations(frame, settings.style)


def _asked(loaded: LoadedModel, rows: list[dict]) -> list[dict]:
    """The conversations as the model is asked in play."""
    return [
        {**row, "prompt": opening(loaded.tokenizer, *(message["content"] for message in row["prompt"]))}
        for row in rows
    ]


def _check(loaded: LoadedModel, game: Game, settings: SFTSettings, seed: int) -> None:
    LanguageModel(loaded.model, loaded.tokenizer, game, style=settings.style)  # says what it lacks
    _require_room(loaded, _asked(loaded, _rows(game, settings, seed)), settings.max_length)
    _shared(settings, world().num_processes)


def _shared(settings: SFTSettings, processes: int) -> tuple[int, int]:
    """Rows of a forward pass, and passes of an update, for each of ``processes``; ValueError where an update of
    ``batch * accumulation`` rows cannot be shared evenly."""
    accumulation = settings.accumulation // gcd(settings.accumulation, processes)
    batch, rest = divmod(settings.batch * settings.accumulation, processes * accumulation)
    if rest:
        raise ValueError(
            f"{processes} processes cannot share the {settings.batch * settings.accumulation} rows of an update (batch "
            "* accumulation) evenly; use a number of processes that divides them, or other settings"
        )
    return batch, accumulation


def _require_room(loaded: LoadedModel, rows: list[dict], max_length: int) -> None:
    """ValueError if a conversation has more tokens than ``max_length``: what is cut off is the action."""
    distinct = {str(row): row["prompt"] + row["completion"] for row in rows}
    lengths = [
        len(
            loaded.tokenizer.apply_chat_template(
                messages, tokenize=True, return_dict=False, **thinking_off(loaded.tokenizer)
            )
        )
        for messages in distinct.values()
    ]
    if max(lengths) > max_length:
        raise ValueError(
            f"max_length must be >= {max(lengths)}, got {max_length}: the longest demonstration has "
            f"{max(lengths)} tokens, and its action comes last"
        )


class OnTrees:
    """``model`` as TRL's loss asks it, its rows laid out as token trees: what they begin with is read once."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def __call__(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **_) -> SimpleNamespace:
        said = []
        rows = (part.cpu() for part in (input_ids, attention_mask.bool(), labels != IGNORED))
        for ids, real, learned in zip(*rows, strict=True):
            row, reply = ids[real].tolist(), int(learned.sum())  # which comes last
            said.append((tuple(row[:-reply]), tuple(row[-reply:])))
        scored = score_replies(self.model, said, temperature=1.0)
        lengths = torch.tensor([len(reply) for _, reply in said], device=input_ids.device)
        places = torch.arange(scored.log_probs.shape[1], device=input_ids.device)
        return SimpleNamespace(
            log_probs=scored.log_probs,
            entropy=scored.entropies,
            is_top1=scored.likeliest.bool(),
            label_mask=places < lengths[:, None],
        )


class WarmStart(SFTTrainer):
    """SFTTrainer that lays out its rows as token trees where the model allows, takes a batch in ``pieces`` where memory
    runs out, and names the rows of a loss that is no number."""

    pieces = 1
    label = "SFT"

    @cached_property
    def on_trees(self) -> bool:
        """Whether rows share what they begin with; processes exchange gradients of padded rows."""
        return self.accelerator.num_processes == 1 and scores_on_trees(self.model)

    def compute_loss(self, model, inputs, *args, **kwargs):
        return super().compute_loss(OnTrees(model) if self.on_trees else model, inputs, *args, **kwargs)

    def training_step(self, model, inputs, num_items_in_batch=None):
        step, before = super().training_step, Gradients(model)
        tensors = {name: value for name, value in inputs.items() if torch.is_tensor(value)}
        rows = len(tensors["input_ids"])

        def attempt(pieces: int) -> torch.Tensor:
            before.restore()
            self.pieces = pieces
            parts = zip(*(value.chunk(pieces) for value in tensors.values()), strict=True)
            # The loss is a sum over tokens, divided by those of the whole update: those of the pieces add up to it.
            return sum(
                step(model, dict(zip(tensors, part, strict=True)), num_items_in_batch) for part in parts
            )

        # The processes talk to each other during a step, so none can repeat it alone.
        most = rows if self.accelerator.num_processes == 1 else self.pieces
        loss = until_it_fits(attempt, self.pieces, most, f"{self.label}: a batch of {rows} rows")
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"{self.label}: the loss of step {self.state.global_step + 1} is not finite, for "
                f"{self._broken_rows(model, tensors)}; lower the learning rate; the last checkpoint is kept"
            )
        return loss

    def _broken_rows(self, model, tensors: dict[str, torch.Tensor]) -> str:
        """The ends of the rows whose own loss is not finite."""
        ids, mask = tensors["input_ids"].to(model.device), tensors["attention_mask"].to(model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits
        broken = ~logits.isfinite().all(-1) & mask.bool()
        texts = [
            self.processing_class.decode(ids[row][mask[row] == 1]) for row in broken.any(1).nonzero()[:, 0]
        ]
        return " and ".join(repr(text.strip()[-80:]) for text in dict.fromkeys(texts[:2])) or "no row alone"


def _trainer(loaded: LoadedModel, game: Game, run: Run, settings: SFTSettings, seed: int) -> WarmStart:
    device = next(loaded.model.parameters()).device
    loaded.model.to(training_dtype(device))
    torch.manual_seed(seed)
    batch, accumulation = _shared(settings, world().num_processes)
    trainer = WarmStart(
        model=loaded.model,
        args=SFTConfig(
            output_dir=str(run.path / CHECKPOINTS),
            seed=seed,
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=settings.warm_up,  # a share of all steps where it is below 1
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_length=settings.max_length,
            completion_only_loss=True,
            gradient_checkpointing=settings.gradient_checkpointing,
            router_aux_loss_coef=0.0,  # token trees show a router every token once, however often it was said
            save_steps=settings.save_every,
            include_num_input_tokens_seen="non_padding",  # counted on where a stopped run goes on
            **quiet_arguments(),
            **tracker_arguments(run),
        ),
        train_dataset=Dataset.from_list(
            [
                {**row, "chat_template_kwargs": thinking_off(loaded.tokenizer)}
                for row in _asked(loaded, _rows(game, settings, seed))
            ]
        ),
        processing_class=loaded.tokenizer,
        peft_config=lora(settings.lora_r, settings.lora_alpha, settings.lora_dropout),
        callbacks=[Watch(run, f"SFT {game.spec.id}")],
    )
    trainer.label = f"SFT {game.spec.id}"
    return trainer
