"""What a reproduction runs: one task per notebook run, in an order in which each comes after what it needs, and whether
it has to run. Nothing here runs anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepo_kit.evaluation.results import STAGES
from sepo_kit.pipeline.notebooks import NOTEBOOKS
from sepo_kit.pipeline.profiles import Plan, Profile
from sepo_kit.runs import MANIFEST, RunError, read_json
from sepo_kit.runs.project import PACKAGE

# The notebooks of a plan, in their order, and how they share its minutes.
SHARES = {"04_sft_warm_start": 0.4, "05_sepo_training": 0.45, "06_evaluation": 0.15}


@dataclass
class Task:
    """One notebook run. ``after``: names of tasks that must be done; ``minutes``: a first guess of its time;
    ``watched``: folder under which its stages report progress; ``makes``: files without which it is not done."""

    name: str
    notebook: str
    parameters: dict[str, Any]
    after: tuple[str, ...] = ()
    minutes: float = 0.3
    watched: Path | None = None
    makes: tuple[Path, ...] = ()
    state: str = field(default="waiting", init=False)
    started: float = field(default=0.0, init=False)
    seconds: float = field(default=0.0, init=False)
    again: bool = field(default=False, init=False)  # whether it was started a second time
    gpu: str | None = field(default=None, init=False)  # the one it computes on


def tasks(profile: Profile, root: Path, figures: Path, results: Path) -> list[Task]:
    """The notebook runs of a profile, in an order in which each comes after what it needs."""
    common = {"profile": profile.name, "runs": str(root)}
    data = Task("03_sft_data", "03_sft_data", {**common, "data": str(results.parent / "sft")}, minutes=0.2)
    todo = [data]
    for plan in profile.plans:
        todo += _chain(plan, root, common, data.name)
    last = tuple(task.name for task in todo if task.notebook == "06_evaluation")
    # Nothing waits for these three: they fill the gaps.
    todo.append(Task("01_games", "01_games", common, minutes=0.7))
    todo.append(Task("02_penalties", "02_penalties", common, minutes=0.3))
    todo.append(Task("07_credit_ablation", "07_credit_ablation", common, minutes=0.8))
    todo.append(Task("09_penalty_lab", "09_penalty_lab", common, last, minutes=0.2))
    out = {"figures": str(figures), "results": str(results)}
    todo.append(Task("10_worst_case", "10_worst_case", {**common, **out}, last, minutes=0.6))
    table = results / f"{profile.name}.csv"
    todo.append(Task("08_figures", "08_figures", {**common, **out}, last, minutes=0.4, makes=(table,)))
    return todo


def _chain(plan: Plan, root: Path, common: dict[str, Any], data: str) -> list[Task]:
    chain: list[Task] = []
    for notebook, share in SHARES.items():
        chain.append(
            Task(
                f"{notebook} {plan.name}",
                notebook,
                {**common, "model": plan.model, "game": plan.game},
                (chain[-1].name if chain else data,),
                plan.minutes * share,
                plan.folder(root),
                _made(plan, root, notebook),
            )
        )
    return chain


def _made(plan: Plan, root: Path, notebook: str) -> tuple[Path, ...]:
    """What a notebook of the plan leaves behind: runs, or results."""
    if notebook == "06_evaluation":
        return tuple(results_of(plan, root))
    stages = [stage for stage in plan.trained if (stage == "sft") == (notebook == "04_sft_warm_start")]
    return tuple(plan.stage_folder(root, stage, seed) / MANIFEST for stage in stages for seed in plan.seeds)


def longest_chain_first(todo: Sequence[Task]) -> list[Task]:
    """``todo`` by how long a task and all that must wait for it take one after the other, so that no long chain is
    left alone at the end; among equals the order stays."""
    chain = {task.name: 0.0 for task in todo}
    for task in reversed(todo):  # a task comes after what it needs
        chain[task.name] += task.minutes
        for name in task.after:
            chain[name] = max(chain[name], chain[task.name])
    return sorted(todo, key=lambda task: -chain[task.name])


def result_files(profile: Profile, root: Path | str) -> list[Path]:
    """The result files of a profile that exist, in the order of its plans and of the stages."""
    return [file for plan in profile.plans for file in results_of(plan, root, STAGES) if file.exists()]


def results_of(plan: Plan, root: Path | str, stages: Sequence[str] | None = None) -> list[Path]:
    """Where the results of a plan lie, of all its stages or of ``stages``."""
    found = []
    for stage in plan.stages if stages is None else stages:
        names = [stage] if stage == "base" else [f"{stage}-seed-{seed}" for seed in plan.seeds]
        found += [plan.folder(root) / "results" / f"{name}.json" for name in names]
    return found


# --- files and processes ----------------------------------------------------------------------------


# --- done or not ----------------------------------------------------------------------------------


def _slug(name: str) -> str:
    return name.replace(" ", "_").replace("/", "_")


def output(task: Task, root: Path) -> Path:
    return root / "notebooks" / f"{_slug(task.name)}.ipynb"


def unfinished(task: Task, root: Path) -> Path:
    return root / "notebooks" / f"{_slug(task.name)}.unfinished.ipynb"


def log(task: Task, root: Path) -> Path:
    return root / "notebooks" / f"{_slug(task.name)}.log"


def marker(name: str, root: Path) -> Path:
    return root / "notebooks" / f"{_slug(name)}.json"


def fingerprint(task: Task, root: Path) -> str:
    """What a task's outcome depends on: its parameters, its notebook, the library's code, and that what it needs was
    done when it ran and has not been done again since."""
    digest = hashlib.sha256(json.dumps([task.name, task.parameters], sort_keys=True).encode())
    for file in [NOTEBOOKS / f"{task.notebook}.ipynb", *sorted(PACKAGE.rglob("*.py"))]:
        digest.update(file.read_bytes())
    for name in sorted(task.after):
        digest.update(marker(name, root).read_bytes())
    return digest.hexdigest()


def reasons(todo: Sequence[Task], root: Path) -> dict[str, str]:
    """Why each task of ``todo`` that has to run has to, by name; those that are done are left out."""
    found: dict[str, str] = {}
    for task in todo:  # each comes after what it needs
        behind = next((name for name in task.after if name in found), None)
        reason = f"behind {behind}" if behind else _reason(task, root)
        if reason:
            found[task.name] = reason
    return found


def _reason(task: Task, root: Path) -> str | None:
    missing = next((path for path in (output(task, root), *task.makes) if not path.exists()), None)
    if not marker(task.name, root).exists():
        return "has not run"
    if missing:
        return f"{missing.name} is missing"
    try:
        same = read_json(marker(task.name, root))["fingerprint"] == fingerprint(task, root)
    except (OSError, RunError, KeyError, TypeError):
        return "its record is damaged"
    return None if same else "its parameters, its notebook or the library changed"
