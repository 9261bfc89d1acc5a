"""A training stage in processes of its own: one, or one per GPU. For notebooks, which draw meanwhile.

What is trained is what ``sepo-kit train-sft`` and ``train-sepo`` train; the run folder tells how it goes.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sepo_kit.games import get_game
from sepo_kit.pipeline.children import Child
from sepo_kit.pipeline.plans import EACH_SEED, Plan, Profile
from sepo_kit.pipeline.settings_file import write_settings
from sepo_kit.runs import MANIFEST, RunError, outdated, read_manifest
from sepo_kit.runs.project import PROJECT
from sepo_kit.training.request import request_of

POLL_SECONDS = 0.25
DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of GPUs that torch can use on Linux


class TrainingFailed(RuntimeError):
    """A training process ended with an error."""


def launch(
    stage: str,
    plan: Plan,
    root: Path | str,
    seeds: Sequence[int],
    processes: int = 0,
    meanwhile: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Train one stage of ``plan`` to its end, or go on where it was stopped, one seed after the other.

    An interrupt, or an error in ``meanwhile``, ends the training first.

    Parameters
    ----------
    stage
        One of ``plan.trained``: "sft", "sepo" or "worst-case".
    root
        Where the profile's runs go.
    seeds
        Seeds of the plan; those that are done are left alone.
    processes
        Training processes; 0: one per GPU, and one where there is none.
    meanwhile
        Called several times a second while the training runs, and once after it.

    Returns
    -------
    list of Path
        The finished run folders.

    Raises
    ------
    ValueError
        There is no warm start to train from.
    TrainingFailed
        The training ended with an error; the message has it and where the log is.
    """
    if processes < 0:
        raise ValueError(f"processes must be >= 0, got {processes}; 0 means one per GPU")
    root = Path(root).resolve()
    sources = [Path(plan.source(root, "sft", seed)) for seed in seeds]
    missing = [str(source) for source in sources if not source.exists()]
    if stage != "sft" and missing:
        raise ValueError(f"{', '.join(missing)} is missing: train the warm start first (notebook 04)")
    folders = [plan.stage_folder(root, stage, seed) for seed in seeds]
    left = [seed for seed, f in zip(seeds, folders, strict=True) if not _finished(f, plan, root, stage, seed)]
    if not left:
        meanwhile()
        return folders
    for seed in left:
        if old := _outdated(plan, root, stage, seed):
            print(f"{old}: it is put aside, and made anew")
    write_settings(settings_file(plan, root, stage), plan.trained[stage])
    log = plan.folder(root) / f"{stage}.log"
    training = Child(
        command(stage, plan, root, left, processes or len(gpus()) or 1), log, folder=PROJECT,
        orphaned=signal.SIGTERM,  # accelerate ends its own processes then
    )  # fmt: skip
    try:
        while training.runs(POLL_SECONDS):
            meanwhile()
        meanwhile()
    finally:
        training.stop()
    if training.failed:
        raise TrainingFailed(f"{training.error()}\nthe log of this training: {log}")
    return folders


def require_trained(plan: Plan, root: Path | str, stages: Sequence[str]) -> None:
    """ValueError that says what to run first, where a run of ``stages`` of ``plan`` is missing."""
    for stage in stages:
        notebook = "04" if stage == "sft" else "05"
        for seed in plan.seeds if stage != "base" else ():
            if not (folder := plan.stage_folder(root, stage, seed)).exists():
                raise ValueError(
                    f"{folder} is missing: train it first, by notebook {notebook} with the same parameters"
                )


def settings_file(plan: Plan, root: Path | str, stage: str) -> Path:
    """Where ``launch`` writes what it trains with, for the process that trains."""
    return plan.folder(root) / f"{stage}.settings.json"


def command(stage: str, plan: Plan, root: Path | str, seeds: Sequence[int], processes: int) -> list[str]:
    """The command line that trains; several processes go through ``accelerate launch``."""
    start = [sys.executable, "-m"]
    if processes > 1:
        settings = PROJECT / "configs" / "accelerate" / ("gpus.yaml" if gpus() else "cpu-2.yaml")
        start += [
            "accelerate.commands.launch", "--config_file", str(settings), "--num_processes", str(processes),
            "--main_process_port", "0", "-m",
        ]  # fmt: skip
    model = plan.model if stage == "sft" else str(plan.stage_folder(root, "sft", EACH_SEED))
    return [
        *start, "sepo_kit", "train-sft" if stage == "sft" else "train-sepo", model, plan.game,
        str(plan.stage_folder(root, stage, EACH_SEED)),
        "--settings", str(settings_file(plan, root, stage)), "--seeds", *map(str, seeds),
    ]  # fmt: skip


def _finished(folder: Path, plan: Plan, root: Path, stage: str, seed: int) -> bool:
    """Whether just this was trained to its end before: no process has to start to find that out."""
    if not (folder / MANIFEST).exists():
        return False
    manifest = read_manifest(folder)
    request = _request(plan, root, stage, seed)
    same = manifest["request"].get("settings") == request["settings"]
    return same and manifest["status"] == "done" and not outdated(folder, request)


def _outdated(plan: Plan, root: Path, stage: str, seed: int) -> str | None:
    folder = plan.stage_folder(root, stage, seed)
    return outdated(folder, _request(plan, root, stage, seed)) if (folder / MANIFEST).exists() else None


def _request(plan: Plan, root: Path, stage: str, seed: int) -> dict:
    """What the training process will ask of its run folder."""
    before = "base" if stage == "sft" else "sft"
    settings = plan.trained[stage]
    folder = plan.stage_folder(root, stage, seed)
    return request_of(stage, plan.source(root, before, seed), get_game(plan.game), folder, settings, seed)


def old_runs(profile: Profile, root: Path | str) -> list[str]:
    """One line for every run of a profile under ``root`` that other code made; none where they are to be kept."""
    found = []
    for plan in profile.plans:
        for stage in plan.trained:
            for seed in plan.seeds:
                try:
                    old = _outdated(plan, Path(root), stage, seed)
                except RunError:  # whoever opens it says what is wrong with it
                    continue
                if old:
                    found.append(f"{old}: it is put aside, and made anew; to keep it, add --keep")
    return found


def gpus() -> list[str]:
    """The GPUs that are there for this process, as CUDA_VISIBLE_DEVICES names them."""
    if sys.platform == "linux" and not any(map(os.path.exists, DRIVERS)):
        return []
    import torch  # slow to import

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]
