"""What both training stages do around their trainer: check, open the run folder, go on where it stopped, finish.

With several processes (``accelerate launch``) all of them come through here; only the main one writes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback

from sepo_kit.games import checked_game
from sepo_kit.games.base import Game
from sepo_kit.models.generation import BrokenLogits
from sepo_kit.models.loading import LoadedModel, chain_of, identity, load_model, origin, raw_model
from sepo_kit.models.lora import require_targets
from sepo_kit.models.quiet import quiet
from sepo_kit.runs import (
    ADAPTER,
    MANIFEST,
    PARTS,
    WEIGHTS,
    Run,
    RunError,
    by_name,
    file_hash,
    first_line,
    full_disks_named,
    is_out_of_memory,
    outdated,
    updates_of,
)
from sepo_kit.training.memory import no_memory_named
from sepo_kit.training.processes import lost_processes_named, world
from sepo_kit.training.request import request_of
from sepo_kit.training.settings import SEPOSettings, SFTSettings
from sepo_kit.training.trackers import follow, require_trackers
from sepo_kit.training.watch import Watch, peak_memory, remove_checkpoints, resume_point, save_adapter

Build = Callable[[LoadedModel, Game, Run], Trainer]


def run_stage(
    stage: str,
    base: str | Path,
    game: Game | str,
    run_folder: str | Path,
    settings: SFTSettings | SEPOSettings,
    seed: int,
    build: Build,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    check: Callable[[LoadedModel, Game], None] = lambda loaded, game: None,
    resume: Callable[[Trainer, Path], None] = lambda trainer, checkpoint: None,
    results: Callable[[Trainer], dict[str, Any]] = lambda trainer: {},
    kept: Callable[[Run], dict[str, Any] | None] = lambda run: None,
    made_from: Mapping[str, str] = MappingProxyType({}),
) -> Run:
    """Train what ``build`` makes, in ``run_folder``, to its end; the parameters are those of ``train_sepo``.

    ``check`` raises ValueError where the request will not do, before anything is written; ``resume`` tells a new
    trainer what its checkpoint does not; ``results`` is what the manifest keeps of the finished one; ``kept`` names the
    saved step that becomes the run's model, None for the last; ``made_from``: of its request, beside the code and the
    base. Where a callback stopped the training, the run is
    returned unfinished.
    """
    game, run_folder = checked_game(game), by_name(run_folder)

    def asked() -> dict[str, Any]:
        return {**request_of(stage, base, game, run_folder, settings, seed), **made_from}

    request = asked()
    processes = world()
    run = None
    try:
        with no_memory_named(f"{stage} {game.spec.id}"):
            with processes.main_process_first():
                loaded = None
                if not (Path(run_folder) / MANIFEST).exists() or outdated(run_folder, request):
                    loaded = load_model(base)
                    require_targets(loaded)
                    _require_finite(loaded)
                    require_trackers(settings.report_to)
                    check(loaded, game)
                    request = asked()  # by now all that a hub had to send is there
                run = Run(run_folder, request, writes=processes.is_main_process)
                if run.done:
                    if processes.is_main_process:
                        # Which the process that finished the run may not have come to.
                        remove_checkpoints(run)
                    return run
                if loaded is None:
                    loaded = load_model(base)
                    if old := outdated(run.path, asked()):  # a hub has sent another model than the one before
                        raise RunError(f"{old}; the same call puts it aside and trains anew")
                chain = _chain(base, loaded, run)
            with lost_processes_named(), full_disks_named(run.path), quiet():
                trainer = build(loaded, game, run)
                for callback in callbacks:
                    trainer.add_callback(callback)
                trainer.remove_callback(PrinterCallback)  # the run folder keeps what it would print
                # A checkpoint is sealed last: a step that is not done again has left all it leaves.
                trainer.callback_handler.callbacks.sort(key=lambda callback: isinstance(callback, Watch))
                with processes.main_process_first():
                    checkpoint = resume_point(run, getattr(settings, "updates", 1))
                    _require_steps_left(run, checkpoint, settings)
                    run.take_steps()
                with _named(checkpoint, trainer):
                    if checkpoint:
                        resume(trainer, checkpoint)
                    if processes.is_main_process:
                        follow(trainer, run, settings.report_to, updates_of(checkpoint))
                    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
                if trainer.state.global_step < trainer.state.max_steps:
                    if processes.is_main_process:
                        _say_stopped(run, trainer, getattr(settings, "updates", 1))
                    return run if processes.is_main_process else Run(run_folder, request)
                best = kept(run)
                save_adapter(trainer, run, chain, best and best["step"])
                if processes.is_main_process:
                    sha256 = file_hash(run.path / ADAPTER / WEIGHTS)
                    chain[-1]["adapter_sha256"] = sha256
                    named = {"kept": best} if best else {}
                    run.finish(
                        adapter_sha256=sha256, chain=chain, **results(trainer), **named, **peak_memory()
                    )
                    remove_checkpoints(run)
                processes.wait_for_everyone()
            return run if processes.is_main_process else Run(run_folder, request)
    finally:
        if run is not None:
            run.release()


def _require_finite(loaded: LoadedModel) -> None:
    """FloatingPointError where a weight is no number: training spreads it."""
    for name, weights in loaded.model.named_parameters():
        if not torch.isfinite(weights.sum(dtype=torch.float32)):  # infinities and NaN outlast a sum
            raise FloatingPointError(
                f"model {loaded.name!r} has weights that are not finite, in {name}; use another model"
            )


def _say_stopped(run: Run, trainer: Trainer, updates: int) -> None:
    step, steps = trainer.state.global_step // updates, trainer.state.max_steps // updates
    print(
        f"{run.path}: a callback stopped the training at step {step} of {steps}, which is saved (run:{run.path}@{step} "
        "plays it); the same call goes on from there",
        file=sys.stderr,
    )


def _require_steps_left(run: Run, checkpoint: Path | None, settings: SFTSettings | SEPOSettings) -> None:
    """RunError where the run has gone further than it is asked to."""
    step = updates_of(checkpoint) // getattr(settings, "updates", 1)
    if step > getattr(settings, "steps", step):
        raise RunError(
            f"{run.path} has taken {step} steps and is asked for {settings.steps}; ask for at least {step}, or choose "
            f"another folder (run:{run.path}@STEP plays a step it saved)"
        )


@contextmanager
def _named(checkpoint: Path | None, trainer: Trainer) -> Iterator[None]:
    """RunError in one line where ``checkpoint`` cannot be read, whatever the libraries raise of what is in it."""
    try:
        yield
    except BrokenLogits as error:
        watch = next(c for c in trainer.callback_handler.callbacks if isinstance(c, Watch))
        raise watch.broken_logits(trainer.state) from error
    except (OSError, MemoryError, FloatingPointError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        begun = any(isinstance(c, Watch) and c.begun for c in trainer.callback_handler.callbacks)
        if checkpoint is None or begun or isinstance(error, RunError):
            raise
        raise RunError(
            f"{checkpoint} cannot be read ({first_line(error)}); delete it to go on from the one before"
        ) from error


def _chain(base: str | Path, loaded: LoadedModel, run: Run) -> list[dict[str, Any]]:
    """Where ``run`` comes from, the raw model first, and itself."""
    before = list(origin(loaded)) if loaded.chain else [_raw_base(base, loaded), *chain_of(Path(base))]
    first = dict(before[0])
    if Path(first["model"]).is_dir():
        first["beside"] = os.path.relpath(Path(first["model"]).absolute(), run.path.absolute())
    own = {name: run.manifest["request"].get(name) for name in ("stage", "game", "seed", "code")}
    made = {name: run.manifest[name] for name in ("commit", PARTS) if name in run.manifest}
    return [first, *before[1:], {**own, **made}]


def _raw_base(base: str | Path, loaded: LoadedModel) -> dict[str, Any]:
    """The identity of the model that a chain of older runs began with."""
    is_run = (Path(base) / MANIFEST).exists()
    return identity(load_model(raw_model(Path(base))) if is_run else loaded)
