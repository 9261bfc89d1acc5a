"""One notebook run of a batch: where its files lie, whether it is done, and what is on record of it. Loads nothing
slow, since every node of a batch reads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepo_kit.runs import RunError, file_hash, read_json, sources
from sepo_kit.runs.project import PACKAGE, PROJECT, slug

NOTEBOOKS = PROJECT / "notebooks"


@dataclass(frozen=True)
class Task:
    """One notebook run. ``after``: names of tasks that must be done; ``minutes``: a first guess of its time;
    ``watched``: folder under which its stages report progress; ``makes``: files without which it is not done;
    ``threads``: CPU threads that it computes with; ``games``: fingerprints of the games that decide what it
    makes and are not the kit's, by id."""

    name: str
    notebook: str
    parameters: dict[str, Any]
    after: tuple[str, ...] = ()
    minutes: float = 0.3
    watched: Path | None = None
    makes: tuple[Path, ...] = ()
    threads: int = 1
    games: Mapping[str, str] = field(default_factory=dict)


def output(task: Task, root: Path) -> Path:
    """The executed notebook of a task that is done."""
    return root / "notebooks" / f"{slug(task.name)}.ipynb"


def unfinished(task: Task, root: Path) -> Path:
    """The executed notebook while it runs, and after it failed."""
    return root / "notebooks" / f"{slug(task.name)}.unfinished.ipynb"


def log(task: Task, root: Path) -> Path:
    """What the task printed; of earlier attempts beside it."""
    return root / "notebooks" / f"{slug(task.name)}.log"


def marker(name: str, root: Path) -> Path:
    """What a task that is done was made from, and in which batch, so that those behind it see when it is done again."""
    return root / "notebooks" / f"{slug(name)}.json"


def standing(task: Task, root: Path) -> Path:
    """How a task stands: written by its node when it starts, and when it ends."""
    return root / "notebooks" / f"{slug(task.name)}.state.json"


def library() -> str:
    """Hash of the library's code, and of the words of its games."""
    digest = hashlib.sha256()
    for file in sources(PACKAGE):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def fingerprint(task: Task, root: Path, code: str) -> str:
    """What a task's outcome depends on: its parameters and threads, its notebook, the library's ``code``, that of the
    games of others, and that what it needs was done when it ran and has not been done again since."""
    asked = [task.name, task.parameters, task.threads, code, dict(task.games)]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    digest.update((NOTEBOOKS / f"{task.notebook}.ipynb").read_bytes())
    for name in sorted(task.after):
        digest.update(marker(name, root).read_bytes())
    return digest.hexdigest()


def reasons(todo: Sequence[Task], root: Path) -> dict[str, str]:
    """Why each task of ``todo`` that has to run has to, by name; those that are done are left out."""
    found: dict[str, str] = {}
    code = library()
    for task in todo:  # each comes after what it needs
        behind = next((name for name in task.after if name in found), None)
        reason = f"behind {behind}" if behind else _reason(task, root, code)
        if reason:
            found[task.name] = reason
    return found


def _reason(task: Task, root: Path, code: str) -> str | None:
    missing = next((path for path in (output(task, root), *task.makes) if not path.exists()), None)
    if not marker(task.name, root).exists():
        return "has not run"
    if missing:
        return f"{missing.name} is missing"
    try:
        kept = read_json(marker(task.name, root))
        same = kept["fingerprint"] == fingerprint(task, root, code)
        changed = next(
            (path for path, sha256 in made(task).items() if kept["made"].get(path) != sha256), None
        )
    except (OSError, RunError, KeyError, TypeError, AttributeError):
        return "its record is damaged"
    if not same:
        return f"its parameters, its notebook{', a game' if task.games else ''} or the library changed"
    return f"{Path(changed).name} has changed since" if changed else None


def made(task: Task) -> dict[str, str]:
    """SHA-256 of the files that a task made, by their paths."""
    return {str(path): file_hash(path) for path in task.makes if path.exists()}
