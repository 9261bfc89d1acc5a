"""What Snakemake is given of a batch: a file with the notebook runs that have to run, and a command line.

Which of them have to is decided in ``record.py``, for what a notebook makes, run folders with checkpoints in them, can
be no output of Snakemake's, which deletes outputs before a job. So Snakemake runs all that it is given.
"""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepo_kit.pipeline.notebooks import command
from sepo_kit.pipeline.plans import MOST_THREADS
from sepo_kit.pipeline.record import Task, output, unfinished
from sepo_kit.pipeline.tasks import chains
from sepo_kit.runs import KEEP, RunError, first_line, write_json
from sepo_kit.runs.project import PACKAGE, PROJECT, VARIABLE, slug

SNAKEFILE = PACKAGE / "pipeline" / "Snakefile"
BATCH, FILE = ".batch.json", "config.yaml"
LEAST_MINUTES = 60.0  # that any notebook may take
LONGER = 30  # times its first guess: no machine is that slow, so it hangs
CONFIGS = PROJECT / "configs"
NODE = "node"  # a resource of this machine's: there are as many as notebooks may run at a time
HERE = ("--profile", "none")  # a batch of this machine's is not run as a $SNAKEMAKE_PROFILE says
CLUSTER_JOBS = 100  # in the queue at a time
CARRIED = (KEEP, VARIABLE, "SEPO_KIT_CACHE", "HF_HUB_OFFLINE")  # variables that reach jobs elsewhere too
GONE_SECONDS = 120  # for cancelled jobs


@dataclass(frozen=True)
class How:
    """How a batch runs.

    Parameters
    ----------
    workers
        Notebooks at a time, jobs in the queue on a cluster.
    gpus
        GPUs of this machine, one for each notebook that runs; empty on a cluster, which has its own way.
    retries
        More attempts where a notebook was killed or hung.
    limit_minutes
        That a notebook may take; None: thirty times its first guess, an hour at least.
    on
        None: this machine; else a cluster, whose settings are ``configs/ON/config.yaml``.
    """

    workers: int
    gpus: tuple[str, ...] = ()
    retries: int = 2
    limit_minutes: float | None = None
    on: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if self.limit_minutes is not None and not 0 < self.limit_minutes < math.inf:
            raise ValueError(f"limit_minutes must be > 0 and finite, got {self.limit_minutes}")


def cluster(name: str) -> dict[str, Any]:
    """The settings of a cluster; ValueError where there are none.

    >>> cluster("slurm")["executor"]
    'slurm'
    """
    import yaml

    file = CONFIGS / name / FILE
    if not file.is_file():
        known = ", ".join(sorted(path.parent.name for path in CONFIGS.glob(f"*/{FILE}")))
        raise ValueError(f"no cluster {name!r}, since {file} is missing; known: {known}; see docs/cluster.md")
    try:
        settings = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ValueError(
            f"{file} is not YAML ({first_line(error)}); mend it, or take it from the repository"
        ) from None
    if not isinstance(settings, dict) or not isinstance(settings.get("executor"), str):
        raise ValueError(f"{file} must name an executor, as in executor: slurm")
    return settings


def write_batch(
    todo: Sequence[Task],
    waiting: Collection[str],
    root: Path,
    how: How,
    report: Mapping[Path, str] | None = None,
) -> str:
    """Write down the tasks of ``todo`` that are ``waiting``, for Snakefile and nodes; a new id of this batch.

    ``report``: files that go into a report, and their names there.
    """
    number = uuid.uuid4().hex
    chain = chains(todo)
    nodes = [
        {
            "name": task.name,
            "slug": slug(task.name),
            "notebook": task.notebook,
            "parameters": task.parameters,
            "after": task.after,
            "makes": [str(path) for path in task.makes],
            "inputs": [str(output(each, root)) for each in todo if each.name in task.after and each.name in waiting],
            "output": str(output(task, root)),
            "command": command(task.notebook, task.parameters, unfinished(task, root)),
            "threads": task.threads,
            "games": dict(task.games),
            "limit_minutes": how.limit_minutes or max(LEAST_MINUTES, LONGER * task.minutes),
            "priority": round(100 * chain[task.name]),
        }
        for task in todo
        if task.name in waiting
    ]  # fmt: skip
    batch = {
        "id": number,
        "root": str(root),
        "python": sys.executable,
        "workers": how.workers,
        "gpus": how.gpus,
        "resources": _resources(how),
        "environment": {name: os.environ[name] for name in CARRIED if name in os.environ},
        "report": {str(path): name for path, name in (report or {}).items()},
        "nodes": nodes,
    }
    write_json(root / BATCH, batch)
    (root / "notebooks").mkdir(exist_ok=True)
    return number


def _resources(how: How) -> dict[str, int]:
    """What every node asks for beside its threads. On a cluster its settings say how long a job may take, unless the
    command line does."""
    if how.on is None:
        return {NODE: 1}
    return {"runtime": round(how.limit_minutes + 1)} if how.limit_minutes else {}


def cores(how: How) -> int:
    """Of this machine, that its notebooks share: where their threads need more, fewer run at a time. On GPUs they need
    few."""
    return max(os.cpu_count() or 1, how.workers * (MOST_THREADS if how.gpus else 1))


def engine(root: Path, how: How) -> list[str]:
    """The command line that runs what ``write_batch`` wrote."""
    line = [*_snakemake(root), "--rerun-incomplete", "--keep-incomplete", "--keep-going", "--retries", str(how.retries),
            "--forceall", "--scheduler", "greedy"]  # fmt: skip
    if how.on is None:
        return [*line, *HERE, "--cores", str(cores(how)), "--resources", f"{NODE}={how.workers}"]
    line += ["--profile", str(CONFIGS / how.on), "--jobs", str(how.workers)]
    return [*line, "--slurm-jobname-prefix", prefix(root)] if on_slurm(how) else line


def report_lines(root: Path, file: Path, shown: bool) -> list[list[str]]:
    """Command lines that write a report on the batch in ``root`` to ``file``; where figures and tables are to be
    ``shown`` in it, they are copied first."""
    plain = [*_snakemake(root), *HERE, "--cores", "1"]
    copying = [*plain, "--force", "pictures", "--allowed-rules", "pictures"]
    writing = [*plain, "--report", str(file), "all"]
    return [copying, [*writing, "pictures"]] if shown else [writing]


def _snakemake(root: Path) -> list[str]:
    # The batch's file is named as it is seen from the root, where Snakemake works: a value is read as YAML, which takes
    # " #" and ": " in a path for its own.
    return [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", str(root),
            "--config", f"batch={BATCH}", "--nolock", "--nocolor", "--workflow-profile", "none",
            "--rerun-triggers", "mtime"]  # fmt: skip


# --- on SLURM -------------------------------------------------------------------------------------


def on_slurm(how: How) -> bool:
    """Whether its jobs go into a queue of SLURM's."""
    return how.on is not None and cluster(how.on)["executor"] == "slurm"


def prefix(root: Path) -> str:
    """What the names of this batch's jobs begin with, whoever submitted them."""
    return "sepo" + hashlib.sha256(str(root).encode()).hexdigest()[:8]


def cancel(root: Path) -> int:
    """Cancel the jobs that an earlier driver of this batch left in the queue, and wait until they are gone: how many.

    Raises
    ------
    RunError
        They do not go, or SLURM does not answer.
    """
    jobs = _queued(root)
    until = time.monotonic() + GONE_SECONDS
    left = jobs
    while left:
        if time.monotonic() > until:
            raise RunError(
                f"jobs {', '.join(left)} of an earlier batch in {root} do not end; scancel them first"
            )
        _ask("scancel", "--full", *left)
        time.sleep(1)
        left = _queued(root)
    return len(jobs)


def _queued(root: Path) -> list[str]:
    lines = [
        line.split(maxsplit=1)
        for line in _ask("squeue", "--me", "--noheader", "--format", "%A %j").splitlines()
    ]
    return [job for job, name in lines if name.startswith(prefix(root))]


def _ask(*line: str) -> str:
    try:
        return subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout
    except FileNotFoundError:
        raise RunError(
            f"{line[0]} is not on the PATH; batches on SLURM start where SLURM's commands are"
        ) from None
    except subprocess.TimeoutExpired:
        raise RunError(f"{line[0]} gave no answer in a minute; is SLURM's controller up?") from None
    except subprocess.CalledProcessError as error:
        raise RunError(f"{line[0]} failed: {(error.stderr.strip() or str(error)).splitlines()[-1]}") from None
