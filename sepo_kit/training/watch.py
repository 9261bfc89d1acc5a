"""What both training stages tell their run folder while they train: metrics, progress, sealed checkpoints."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.fsdp import FullyShardedDataParallel
from tqdm import tqdm
from transformers import TrainerCallback

from sepo_kit.models.adapters import combine, describe
from sepo_kit.models.dropout import evaluating
from sepo_kit.models.loading import adapters_of
from sepo_kit.runs import (
    ADAPTER,
    METRICS,
    SCORES,
    Run,
    RunError,
    adapter_of,
    append_line,
    base_of,
    keep_lines,
    last_checkpoint,
    read_lines,
    replacing_folder,
    seal,
    to_disk,
    updates_of,
)
from sepo_kit.training.processes import world
from sepo_kit.training.renewal import TRAINED

CHECKPOINTS = "checkpoints"
ADVICE = "lower the learning rate; the last checkpoint is kept"
UPDATE = "update.safetensors"  # in a checkpoint: the last update of the weights
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class Watch(TrainerCallback):
    """Writes one line of metrics and the progress after every step, and seals every checkpoint."""

    def __init__(self, run: Run, label: str, updates: int = 1) -> None:
        self.run = run
        self.label = label
        self.updates = updates  # of a step
        self.clock = time.perf_counter()
        self.cosine = math.nan
        self.begun = False  # a step: what a checkpoint holds has been read
        self._broken = False  # the weights, by the last update: said once it is known whether the loss was
        self._stopping = False  # a callback asked for it within a step
        self._weights: torch.Tensor | None = None
        self._update: torch.Tensor | None = None

    def _update_cosine(self, model: torch.nn.Module) -> float:
        """Cosine of this update and the one before; near 1 steady progress, near 0 noise, below 0 oscillation."""
        weights = torch.cat(_trained(model))
        self._broken = not torch.isfinite(weights).all()
        update = weights - self._weights if self._weights is not None else None
        cosine = math.nan
        if update is not None and self._update is not None:
            cosine = float(torch.nn.functional.cosine_similarity(update, self._update, dim=0))
        self._weights, self._update = weights.clone(), update
        return cosine

    @staticmethod
    def _after(step: int) -> str:
        return f"after the update of step {step}"

    def _step(self, state) -> int:
        """Training steps taken; TRL and transformers count updates."""
        return state.global_step // self.updates

    def on_train_begin(self, args, state, control, model=None, **kwargs) -> None:
        if state.global_step:  # the run goes on: what its next update is compared with
            self._weights = torch.cat(_trained(model)).clone()
            kept = Path(args.output_dir) / f"checkpoint-{state.global_step}" / UPDATE
            if kept.exists():  # there is none of the first step
                self._update = load_file(kept)["update"].to(self._weights.device)
        # Only on a terminal: a notebook has the run browser, a log file wants no bars.
        hidden = None if state.is_world_process_zero else True
        self.bar = tqdm(
            total=state.max_steps // self.updates,
            initial=self._step(state),
            desc=self.label,
            leave=False,
            disable=hidden,
        )

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.begun = True

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.bar.close()

    def _save_where_it_stops(self, state, control) -> None:
        """A training that another callback stops is saved there, at the end of its step, so that it can go on."""
        self._stopping |= control.should_training_stop and state.global_step < state.max_steps
        if self._stopping:
            whole = state.global_step % self.updates == 0
            control.should_training_stop = control.should_save = whole

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self._save_where_it_stops(state, control)
        if not logs or "loss" not in logs:
            return
        row = {name: value for name, value in logs.items() if isinstance(value, int | float)}
        row = {
            name: value for name, value in row.items() if not name.startswith("train_")
        }  # paces, of this process
        if "num_input_tokens_seen" in row:  # TRL's own count of them begins again where a run goes on
            row["num_tokens"] = float(row["num_input_tokens_seen"])
        if math.isfinite(self.cosine):
            row["update_cosine"] = self.cosine
        if not all(math.isfinite(row[name]) for name in ("loss", "grad_norm") if name in row):
            raise FloatingPointError(
                f"{self.label}: loss {row.get('loss')} and gradient norm {row.get('grad_norm')} at step "
                f"{self._step(state)} are not finite; {ADVICE}"
            )
        if self._broken:
            step = -(-state.global_step // self.updates)
            raise FloatingPointError(
                f"{self.label}: the weights are not finite {self._after(step)}; {ADVICE}"
            )
        if not state.is_world_process_zero:
            return
        now = time.perf_counter()
        append_line(
            self.run.path / METRICS,
            {"step": self._step(state), "seconds": round(now - self.clock, 3), **row},
        )
        self.clock = now

    def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
        number, part = divmod(state.global_step, self.updates)
        self.cosine = self._update_cosine(model)
        self._save_where_it_stops(state, control)
        if state.is_world_process_zero and part == 0:
            self.run.progress(number, state.max_steps // self.updates, self.label)
            self.bar.update(number - self.bar.n)

    def on_save(self, args, state, control, model=None, **kwargs) -> None:
        self._require_sane(model, state)
        world().wait_for_everyone()  # every process writes its random state
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            keep_adapter(checkpoint, self.run, self._step(state))
            if self._update is not None:
                save_file({"update": self._update.cpu()}, checkpoint / UPDATE)
            for name in (
                METRICS,
                SCORES,
            ):  # a checkpoint that outlived a power cut without them could not go on
                if (self.run.path / name).exists():
                    to_disk(self.run.path / name)
            seal(checkpoint)

    def _require_sane(self, model: torch.nn.Module, state) -> None:
        """FloatingPointError, before a checkpoint is sealed, where the model computes nothing any more: the one before
        is the last good one."""
        if isinstance(model, FullyShardedDataParallel):
            return
        device = next(model.parameters()).device
        with torch.no_grad(), evaluating(model):
            logits = model(input_ids=torch.tensor([[0, 1]], device=device)).logits
        if not torch.isfinite(logits).all():
            raise self.broken_logits(state)

    def broken_logits(self, state) -> FloatingPointError:
        """What to raise where the model says nothing that is a number any more, or never did."""
        said = f"{self.label}: the model's logits are not finite"
        if not state.global_step:
            return FloatingPointError(
                f"{said} before the first update; raise the temperature, or use another model"
            )
        return FloatingPointError(f"{said} {self._after(-(-state.global_step // self.updates))}; {ADVICE}")


def _trained(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().float().flatten() for p in model.parameters() if p.requires_grad]


def keep_adapter(checkpoint: Path, run: Run, step: int) -> None:
    """Keep a checkpoint's adapter in the run folder, as one for the raw base model: an earlier self to play against."""
    found = [checkpoint / name for name in ADAPTER_FILES if (checkpoint / name).exists()]
    if len(found) < len(ADAPTER_FILES):  # a sharded checkpoint has no adapter of its own
        return
    with replacing_folder(adapter_of(run.path, step)) as temporary:
        for file in found:
            shutil.copy2(file, temporary)
        _on_the_raw_model(temporary, run)


def _on_the_raw_model(folder: Path, run: Run) -> None:
    """Join the adapter in ``folder`` with those that ``run`` was trained on top of."""
    before = adapters_of(Path(base_of(run.path, run.request))) if "base" in run.request else []
    if before:
        combine([*before, folder], folder)


def resume_point(run: Run, updates: int = 1) -> Path | None:
    """The checkpoint to go on from; metrics written after it are dropped, since those steps come again, and
    so is a last line that was cut short, which the next one would otherwise continue.

    Raises
    ------
    RunError
        The newest checkpoint is damaged, or metrics written before it are gone.
    """
    checkpoint = last_checkpoint(run.path / CHECKPOINTS)
    if not world().is_main_process:
        return checkpoint
    step = updates_of(checkpoint) // updates
    for name in (METRICS, SCORES):
        keep_lines(run.path / name, lambda row: row["step"] <= step, {"step": int})
    rows = read_lines(run.path / METRICS, {"step": int})
    if checkpoint and (not rows or rows[-1]["step"] != step):
        last = f"ends with step {rows[-1]['step']}" if rows else "is empty"
        raise RunError(
            f"{run.path / METRICS} {last} and {checkpoint.name} is of step {step}: lines were lost; put them back, or "
            f"delete {run.path} to start again"
        )
    return checkpoint


def save_adapter(trainer, run: Run, chain: Sequence[dict[str, Any]], step: int | None = None) -> None:
    """Write what was trained into the run folder, whole or not at all, as an adapter for the raw base model.

    ``chain``: what the run came from, the base first, and itself last. ``step``: the saved step to take, None for what
    ``trainer`` has now.
    """
    weights = trainer.accelerator.get_state_dict(trainer.model) if trainer.is_fsdp_enabled else None
    if not world().is_main_process:
        return
    with replacing_folder(run.path / ADAPTER) as temporary:
        if step is not None:
            shutil.copytree(adapter_of(run.path, step), temporary, dirs_exist_ok=True)
        else:
            trainer.model.save_pretrained(
                temporary, state_dict=weights, safe_serialization=True, selected_adapters=[TRAINED]
            )
            _on_the_raw_model(temporary, run)
        describe(temporary, chain)


def remove_checkpoints(run: Run) -> None:
    """Rename, then delete: a run that is killed meanwhile has no damaged ones."""
    for rest in run.path.glob(f".{CHECKPOINTS}.*"):
        shutil.rmtree(rest, ignore_errors=True)
    if (run.path / CHECKPOINTS).exists():
        gone = run.path / f".{CHECKPOINTS}.{os.getpid()}"
        (run.path / CHECKPOINTS).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def peak_memory() -> dict[str, float]:
    """Peak memory so far in MiB: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return {"peak_gpu_mib": round(torch.cuda.max_memory_allocated() / 2**20)}
    import resource

    return {"peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def quiet_arguments(updates: int = 1) -> dict:
    """Trainer arguments both stages share: no reports to services, no output, CPU where no GPU; a row of metrics per
    step of so many ``updates``."""
    return {
        "report_to": "none",
        "logging_steps": updates,
        "logging_first_step": updates == 1,
        "logging_nan_inf_filter": False,  # a loss that is no number must be seen
        "disable_tqdm": True,  # the watch has a bar of its own
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "fp16": False,
        "dataloader_pin_memory": False,
        "ddp_find_unused_parameters": False,
        "save_strategy": "steps",
        "save_total_limit": 2,
        "save_only_model": False,
    }
