"""What a reproduction runs: one task per notebook run, in an order in which each comes after what it needs. Nothing
here runs anything; whether a task is done is in ``record.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sepo_kit.games import GAMES, KIT_GAMES
from sepo_kit.pipeline.plans import Plan, Profile
from sepo_kit.pipeline.record import Task
from sepo_kit.runs import MANIFEST
from sepo_kit.runs.project import PROJECT
from sepo_kit.training.request import code_of

SAME = ("01_games", "02_penalties", "03_sft_data", "07_credit_ablation")  # whatever the training is
DATA = PROJECT / "data"
OF_PLAN = ("04_sft_warm_start", "05_sepo_training", "06_evaluation")  # in their order


@dataclass(frozen=True)
class Part:
    """A profile's share of a batch: its runs lie under ``root``, its figures and tables where it says."""

    profile: Profile
    root: Path
    figures: Path
    results: Path

    @property
    def label(self) -> str:
        """The changes of its profile, as its name has them."""
        return self.profile.name.partition(",")[2]


def all_tasks(parts: Sequence[Part]) -> list[Task]:
    """The notebook runs of all parts, in an order in which each comes after what it needs. What is the same for all of
    them is run once; where there are several, the others have their part's label in their names."""
    if len(parts) == 1:
        return tasks(*vars(parts[0]).values())
    todo: dict[str, Task] = {}
    for part in parts:
        own = tasks(*vars(part).values())
        names = {t.name: t.name if t.notebook in SAME else f"{t.name} {part.label}" for t in own}
        for task in own:
            after = tuple(names[name] for name in task.after)
            todo.setdefault(names[task.name], replace(task, name=names[task.name], after=after))
    return list(todo.values())


def tasks(profile: Profile, root: Path, figures: Path, results: Path) -> list[Task]:
    """The notebook runs of a profile, in an order in which each comes after what it needs."""
    others = _games_of_others(profile)
    return [
        replace(
            task,
            games={game: code for game, code in others.items() if task.parameters.get("game", game) == game},
        )
        for task in _notebooks(profile, root, figures, results)
    ]


def _games_of_others(profile: Profile) -> dict[str, str]:
    """The fingerprints of the games of ``profile`` that are not the kit's, by id; of those in a file, since others end
    with their process."""
    found = {}
    for name in {plan.game for plan in profile.plans} - KIT_GAMES.keys():
        with suppress(ValueError):
            found[name] = code_of((), GAMES[name])
    return found


def _notebooks(profile: Profile, root: Path, figures: Path, results: Path) -> list[Task]:
    common = {"profile": profile.name, "runs": str(root)}
    # No training waits for the corpus: a warm start makes its own demonstrations, which are the same.
    todo = [Task("03_sft_data", "03_sft_data", {**common, "data": str(_corpus(root, results))}, minutes=0.2)]
    for plan in profile.plans:
        todo += _chain(plan, root, common)
    last = tuple(task.name for task in todo if task.notebook == "06_evaluation")
    # Nothing waits for these three: they fill the gaps.
    todo.append(Task("01_games", "01_games", common, minutes=0.7))
    todo.append(Task("02_penalties", "02_penalties", common, minutes=0.3))
    todo.append(Task("07_credit_ablation", "07_credit_ablation", common, minutes=0.8))
    todo.append(Task("09_penalty_lab", "09_penalty_lab", common, last, minutes=0.2))
    out = {"figures": str(figures), "results": str(results)}
    todo.append(Task("10_worst_case", "10_worst_case", {**common, **out}, last, minutes=2))
    table = results / f"{profile.name}.csv"
    todo.append(Task("08_figures", "08_figures", {**common, **out}, last, minutes=0.4, makes=(table,)))
    return todo


def _corpus(root: Path, results: Path) -> Path:
    """Where the demonstrations go: the project's own place beside the project's own tables, else among the runs."""
    return DATA / "sft" if results == (DATA / "results").resolve() else root / "sft"


def _chain(plan: Plan, root: Path, common: dict[str, Any]) -> list[Task]:
    chain: list[Task] = []
    for notebook, share in zip(OF_PLAN, plan.shares, strict=True):
        chain.append(
            Task(
                f"{notebook} {plan.name}",
                notebook,
                {**common, "model": plan.model, "game": plan.game},
                (chain[-1].name,) if chain else (),
                plan.minutes * share,
                plan.folder(root),
                _made(plan, root, notebook),
                plan.threads,
            )
        )
    return chain


def _made(plan: Plan, root: Path, notebook: str) -> tuple[Path, ...]:
    """What a notebook of the plan leaves behind: runs, or results."""
    if notebook == "06_evaluation":
        return tuple(results_of(plan, root))
    stages = [stage for stage in plan.trained if (stage == "sft") == (notebook == "04_sft_warm_start")]
    return tuple(plan.stage_folder(root, stage, seed) / MANIFEST for stage in stages for seed in plan.seeds)


def chains(todo: Sequence[Task]) -> dict[str, float]:
    """Minutes that each task of ``todo`` and all that must wait for it take one after the other, by name. The longest
    goes first, so that no long chain is left alone at the end."""
    chain = {task.name: 0.0 for task in todo}
    for task in reversed(todo):  # a task comes after what it needs
        chain[task.name] += task.minutes
        for name in task.after:
            if name in chain:
                chain[name] = max(chain[name], chain[task.name])
    return chain


def only(todo: Sequence[Task], patterns: Sequence[str]) -> list[Task]:
    """The tasks of ``todo`` that one of ``patterns`` names, and all that those need.

    A pattern is the beginning of a task's name, as in ``06``, or has the shell's wildcards, as in ``*pico/kuhn``.

    Raises
    ------
    ValueError
        A pattern names none.
    """
    named: set[str] = set()
    for pattern in patterns:
        found = {
            task.name for task in todo if fnmatchcase(task.name, pattern) or task.name.startswith(pattern)
        }
        if not found:
            raise ValueError(
                f"no notebook run is named {pattern!r}; there are: {', '.join(task.name for task in todo)}"
            )
        named |= found
    for task in reversed(todo):
        if task.name in named:
            named |= set(task.after)
    return [task for task in todo if task.name in named]


def result_files(profile: Profile, root: Path | str) -> list[Path]:
    """The result files of a profile that exist, in the order of its plans and of their stages."""
    return [file for plan in profile.plans for file in results_of(plan, root) if file.exists()]


def results_of(plan: Plan, root: Path | str) -> list[Path]:
    """Where the results of a plan lie, of all its stages."""
    found = []
    for stage in plan.stages:
        names = [stage] if stage == "base" else [f"{stage}-seed-{seed}" for seed in plan.seeds]
        found += [plan.folder(root) / "results" / f"{name}.json" for name in names]
    return found
