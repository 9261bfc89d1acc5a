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
from tqdm import tqdm
from transformers import TrainerCallback

from sepo_kit.models.adapters import combine, describe
from sepo_kit.models.loading import adapters_of
from sepo_kit.runs import (
    ADAPTER,
    METRICS,
    Run,
    append_line,
    base_of,
    keep_lines,
    last_checkpoint,
    replacing_folder,
    seal,
)
from sepo_kit.training.processes import world

CHECKPOINTS = "checkpoints"


class Watch(TrainerCallback):
    """Writes one line of metrics and the progress after every step, and seals every checkpoint."""

    def __init__(self, run: Run, label: str) -> None:
        self.run = run
        self.label = label
        self.clock = time.perf_counter()
        self.cosine = math.nan
        self._weights: torch.Tensor | None = None
        self._update: torch.Tensor | None = None

    def _update_cosine(self, model: torch.nn.Module) -> float:
        """Cosine of this update and the one before; near 1 steady progress, near 0 noise, below 0 oscillation."""
        trained = [p.detach().float().flatten() for p in model.parameters() if p.requires_grad]
        weights = torch.cat(trained)
        update = weights - self._weights if self._weights is not None else None
        cosine = math.nan
        if update is not None and self._update is not None:
            cosine = float(torch.nn.functional.cosine_similarity(update, self._update, dim=0))
        self._weights, self._update = weights.clone(), update
        return cosine

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        # Only on a terminal: a notebook has the run browser, a log file wants no bars.
        hidden = None if state.is_world_process_zero else True
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc=self.label, leave=False, disable=hidden
        )

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.bar.close()

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if not logs or "loss" not in logs:
            return
        row = {name: value for name, value in logs.items() if isinstance(value, int | float)}
        row = {
            name: value for name, value in row.items() if not name.startswith("train_")
        }  # paces, of this process
        if math.isfinite(self.cosine):
            row["update_cosine"] = self.cosine
        if not all(math.isfinite(row[name]) for name in ("loss", "grad_norm") if name in row):
            raise FloatingPointError(
                f"{self.label}: loss {row.get('loss')} and gradient norm {row.get('grad_norm')} at step "
                f"{state.global_step} are not finite; lower the learning rate; the last checkpoint is kept"
            )
        if not state.is_world_process_zero:
            return
        now = time.perf_counter()
        append_line(
            self.run.path / METRICS, {"step": state.global_step, "seconds": round(now - self.clock, 3), **row}
        )
        self.clock = now

    def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
        self.cosine = self._update_cosine(model)
        if state.is_world_process_zero:
            self.run.progress(state.global_step, state.max_steps, self.label)
            self.bar.update(state.global_step - self.bar.n)

    def on_save(self, args, state, control, **kwargs) -> None:
        world().wait_for_everyone()  # every process writes its random state
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def resume_point(run: Run) -> Path | None:
    """The checkpoint to go on from; metrics written after it are dropped, since those steps come again, and
    so is a last line that was cut short, which the next one would otherwise continue."""
    checkpoint = last_checkpoint(run.path / CHECKPOINTS)
    if not world().is_main_process:
        return checkpoint
    step = int(checkpoint.name.split("-")[-1]) if checkpoint else 0
    keep_lines(run.path / METRICS, lambda row: row["step"] <= step)
    return checkpoint


def save_adapter(trainer, run: Run, chain: Sequence[dict[str, Any]]) -> None:
    """Write what was trained into the run folder, whole or not at all, as an adapter for the raw base model.

    ``chain``: what the run came from, the base first, and itself last.
    """
    weights = trainer.accelerator.get_state_dict(trainer.model) if trainer.is_fsdp_enabled else None
    if not world().is_main_process:
        return
    with replacing_folder(run.path / ADAPTER) as temporary:
        trainer.model.save_pretrained(temporary, state_dict=weights, safe_serialization=True)
        before = adapters_of(Path(base_of(run.path, run.request)))
        if before:
            combine([*before, temporary], temporary)
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


def quiet_arguments() -> dict:
    """Trainer arguments both stages share: no reports to services, no output, CPU where no GPU."""
    return {
        "report_to": "none",
        "logging_steps": 1,
        "logging_first_step": True,
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
