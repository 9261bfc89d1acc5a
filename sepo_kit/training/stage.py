"""What both training stages do around their trainer: check, open the run folder, go on where it stopped, finish.

With several processes (``accelerate launch``) all of them come through here; only the main one writes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, Trainer

from sepo_kit.games import checked_game
from sepo_kit.games.base import Game
from sepo_kit.models.loading import ADAPTER, LoadedModel, load_model, quiet
from sepo_kit.runs import MANIFEST, Run
from sepo_kit.training.processes import lost_processes_named, world
from sepo_kit.training.settings import SEPOSettings, SFTSettings
from sepo_kit.training.watch import peak_memory, resume_point, save_adapter

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
    check: Callable[[LoadedModel, Game], None] = lambda loaded, game: None,
    resume: Callable[[Trainer, Run], None] = lambda trainer, run: None,
    results: Callable[[Trainer], dict[str, Any]] = lambda trainer: {},
) -> Run:
    """Train what ``build`` makes, in ``run_folder``, to its end; the parameters are those of ``train_sepo``.

    ``check`` raises ValueError where the request will not do, before anything is written; ``resume`` tells a new
    trainer what its checkpoint does not; ``results`` is what the manifest keeps of the finished one.
    """
    game = checked_game(game)
    request = {
        "stage": stage, "base": str(base), "game": game.spec.id, "seed": seed, "settings": settings.as_request()
    }  # fmt: skip
    processes = world()
    with processes.main_process_first():
        loaded = None
        if not (Path(run_folder) / MANIFEST).exists():
            loaded = load_model(base)
            check(loaded, game)
        run = Run(run_folder, request)
        if run.done:
            return run
        loaded = loaded or load_model(base)
    with lost_processes_named(), quiet():
        trainer = build(loaded, game, run)
        trainer.remove_callback(PrinterCallback)  # the run folder keeps what it would print
        with processes.main_process_first():
            checkpoint = resume_point(run, getattr(settings, "updates", 1))
        if checkpoint:
            resume(trainer, run)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        save_adapter(trainer, run, ADAPTER)
        if processes.is_main_process:
            run.finish(**results(trainer), **peak_memory())
        processes.wait_for_everyone()
    return run if processes.is_main_process else Run(run_folder, request)
