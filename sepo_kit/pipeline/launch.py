"""A training stage in processes of its own: one, or one per GPU. For notebooks, which draw meanwhile.

What is trained is what ``sepo-kit train-sft`` and ``train-sepo`` train; the run folder tells how it goes.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sepo_kit.pipeline.children import die_with_parent
from sepo_kit.pipeline.notebooks import PROJECT, last_error
from sepo_kit.pipeline.profiles import EACH_SEED, Plan
from sepo_kit.runs import MANIFEST, read_manifest

POLL_SECONDS = 0.25
GRACE_SECONDS = 20  # for ``accelerate launch`` to end its own processes


class TrainingFailed(RuntimeError):
    """A training process ended with an error."""


def launch(
    stage: str,
    profile: str,
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
        "sft" or "sepo".
    profile
        Name of the profile that ``plan`` belongs to; only the weights of SEPO may differ from it.
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
    if stage == "sepo" and missing:
        raise ValueError(f"{', '.join(missing)} is missing: train the warm start first (notebook 04)")
    folders = [plan.stage_folder(root, stage, seed) for seed in seeds]
    left = [seed for seed, f in zip(seeds, folders, strict=True) if not _finished(f, plan, stage)]
    if not left:
        meanwhile()
        return folders
    log = plan.folder(root) / f"{stage}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as file:
        training = subprocess.Popen(
            command(stage, profile, plan, root, left, processes or _gpus() or 1),
            stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=PROJECT,
            preexec_fn=partial(die_with_parent, signal.SIGTERM), start_new_session=True,
        )  # fmt: skip
    try:
        while _runs(training):
            meanwhile()
        meanwhile()
    finally:
        _end(training)
    if training.returncode:
        raise TrainingFailed(f"{last_error(log)}\nthe log of this training: {log}")
    return folders


def command(
    stage: str, profile: str, plan: Plan, root: Path | str, seeds: Sequence[int], processes: int
) -> list[str]:
    """The command line that trains; several processes go through ``accelerate launch``."""
    start = [sys.executable, "-m"]
    if processes > 1:
        settings = PROJECT / "configs" / "accelerate" / ("gpus.yaml" if _gpus() else "cpu-2.yaml")
        start += [
            "accelerate.commands.launch", "--config_file", str(settings), "--num_processes", str(processes),
            "--main_process_port", "0", "-m",
        ]  # fmt: skip
    model = plan.model if stage == "sft" else str(plan.stage_folder(root, "sft", EACH_SEED))
    weights = vars(plan.sepo.weights).values() if stage == "sepo" and plan.sepo.weights else ()
    return [
        *start, "sepo_kit", f"train-{stage}", model, plan.game, str(plan.stage_folder(root, stage, EACH_SEED)),
        "--profile", profile, "--like", plan.model, "--seeds", *map(str, seeds),
        *(["--weights", *map(str, weights)] if weights else []),
    ]  # fmt: skip


def _finished(folder: Path, plan: Plan, stage: str) -> bool:
    """Whether just this was trained to its end before: no process has to start to find that out."""
    if not (folder / MANIFEST).exists():
        return False
    manifest = read_manifest(folder)
    settings = plan.sepo if stage == "sepo" else plan.sft
    same = manifest["request"].get("settings") == json.loads(json.dumps(settings.as_request()))
    return same and manifest["status"] == "done"


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _runs(training: subprocess.Popen) -> bool:
    """Whether it still runs, after a moment's wait."""
    try:
        training.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _end(training: subprocess.Popen) -> None:
    if training.poll() is None:
        training.terminate()
        try:
            training.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            training.kill()
            training.wait()
