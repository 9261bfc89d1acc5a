"""Run folders: what a run is, whether it is whole, and how its files are written.

A run folder holds ``manifest.json`` (what was asked, versions, commit, status), ``progress.json`` (where it
stands), ``metrics.jsonl`` (one line per step), for SEPO ``episodes/`` (some of every saved step), and what the stage
made. Every file is written under a temporary name and renamed, so that a reader never meets half a file. Nothing here
knows about games or models.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

MANIFEST, PROGRESS, METRICS, WHOLE = "manifest.json", "progress.json", "metrics.jsonl", "whole.json"
EPISODES = "episodes"  # the folder of recorded training episodes
FORMAT = 1
LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "numpy")


class RunError(ValueError):
    """A run folder cannot be used; the message says why and what to do."""


# --- files ----------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield Path(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """A temporary folder that takes the place of ``path`` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` as JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON; RunError with one clear line where it is missing or broken."""
    path = Path(path)
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(f"{path} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not valid JSON ({error}); delete {path.parent} to start again") from None


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_space(path: Path | str, needed: int) -> None:
    """OSError unless the disk that holds ``path`` has ``needed`` bytes free."""
    folder = Path(path)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder} has {free / 2**20:.0f} MiB free and {needed / 2**20:.0f} MiB are needed; "
            "free some space, or choose another place with --runs"
        )


# --- provenance -----------------------------------------------------------------------------------


def provenance() -> dict[str, Any]:
    """Commit, versions and machine: what a number needs beside it to be made again."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: metadata.version(name) for name in LIBRARIES},
    }


def commit() -> str:
    """The commit the package is run from, with "+" where tracked files differ; "unknown" outside git."""
    here = Path(__file__).parent
    try:
        name = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "sepo_kit", "notebooks"],
            cwd=here.parent, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+" if changed else "")


def notebook_provenance(
    started: float,
    parameters: dict[str, Any],
    inputs: Iterable[Path | str] = (),
    outputs: Iterable[Path | str] = (),
) -> dict[str, Any]:
    """What the last cell of a notebook shows: commit, versions, parameters, hashes of files, wall time.

    ``started``: ``time.time()`` of the first code cell; hashes are the first 16 digits of SHA-256.
    """

    def hashes(files: Iterable[Path | str]) -> dict[str, str]:
        files = [Path(file).resolve() for file in files]
        shared = len({file.name for file in files}) < len(files)  # then only their paths tell them apart
        folder = os.path.commonpath(files) if shared else ""
        return {os.path.relpath(f, folder) if shared else f.name: file_hash(f)[:16] for f in files}

    return {
        **provenance(),
        "parameters": parameters,
        "inputs": hashes(inputs),
        "outputs": hashes(outputs),
        "wall_seconds": round(time.time() - started, 1),
    }


# --- run folders ----------------------------------------------------------------------------------


class Run:
    """One stage of one run in its folder; opening it checks that it belongs to ``request``.

    Parameters
    ----------
    path
        The folder; made where it does not exist.
    request
        What is asked: plain JSON values. A folder made for another request is refused.

    Raises
    ------
    RunError
        The folder holds something else, another request, another format, or a broken manifest.
    """

    def __init__(self, path: Path | str, request: dict[str, Any]) -> None:
        self.path = Path(path)
        self.request = json.loads(json.dumps(request))
        self.started = time.time()
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; a run needs a folder")
        if (self.path / MANIFEST).exists():
            self.manifest = self._own_manifest()
        elif self.path.exists() and any(not f.name.startswith(f".{MANIFEST}.") for f in self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and has no {MANIFEST}: it is not a run; choose another")
        else:
            self.manifest = {"format": FORMAT, "request": self.request, "status": "started", **provenance()}
            write_json(self.path / MANIFEST, self.manifest)

    def _own_manifest(self) -> dict[str, Any]:
        manifest = read_manifest(self.path)
        asked = manifest.get("request", {})
        if asked != self.request:
            names = sorted(n for n in {*asked, *self.request} if asked.get(n) != self.request.get(n))
            differences = "; ".join(f"{n} was {asked.get(n)!r}, is {self.request.get(n)!r}" for n in names)
            raise RunError(
                f"{self.path} was made for another request ({differences}); choose another folder or delete it"
            )
        return manifest

    @property
    def done(self) -> bool:
        """Whether the stage ran to its end."""
        return self.manifest["status"] == "done"

    def finish(self, **results: Any) -> None:
        """Mark the stage as done, with what it found."""
        self.manifest |= {
            "status": "done",
            "wall_seconds": round(self.manifest.get("wall_seconds", 0.0) + time.time() - self.started, 1),
            **results,
        }
        write_json(self.path / MANIFEST, self.manifest)

    def progress(self, step: int, total: int, note: str = "") -> None:
        """Say where the stage stands; cheap enough for every step."""
        write_json(
            self.path / PROGRESS,
            {"step": step, "total": total, "note": note, "time": time.time(), "started": self.started},
        )


def read_manifest(path: Path | str) -> dict[str, Any]:
    """The manifest of a run folder; RunError where it is missing, broken or of another format."""
    path = Path(path)
    if not (path / MANIFEST).exists():
        raise RunError(f"{path} is not a run folder: it has no {MANIFEST}")
    manifest = read_json(path / MANIFEST)
    known = isinstance(manifest, dict) and manifest.get("format") == FORMAT and "status" in manifest
    if not known or not isinstance(manifest.get("request"), dict):
        raise RunError(
            f"{path / MANIFEST} is not of format {FORMAT}: the run was made by another version; delete it to redo"
        )
    return manifest


def append_line(path: Path | str, row: dict[str, Any]) -> None:
    """Append one JSON line and flush it to disk."""
    with open(path, "a") as file:
        file.write(json.dumps(row, sort_keys=True) + "\n")
        file.flush()


def read_lines(path: Path | str) -> list[dict[str, Any]]:
    """JSON lines; a last line cut off by a crash is left out. [] where the file is missing."""
    path = Path(path)
    if not path.exists():
        return []
    rows = []
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                raise RunError(
                    f"{path}, line {number} is not JSON; delete {path.parent} to start again"
                ) from None
    return rows


# --- checkpoints ----------------------------------------------------------------------------------


def seal(folder: Path | str) -> None:
    """Write the hashes of all files of ``folder`` into it: from now on ``is_whole`` can tell."""
    folder = Path(folder)
    hashes = {str(f.relative_to(folder)): file_hash(f) for f in sorted(folder.rglob("*")) if f.is_file()}
    hashes.pop(WHOLE, None)
    write_json(folder / WHOLE, hashes)


def is_whole(folder: Path | str) -> bool:
    """Whether ``folder`` was sealed and every file is still the same."""
    folder = Path(folder)
    try:
        return all(file_hash(folder / name) == sealed for name, sealed in read_json(folder / WHOLE).items())
    except (RunError, OSError, AttributeError):
        return False


def last_checkpoint(folder: Path | str) -> Path | None:
    """The newest whole ``checkpoint-N`` under ``folder``; newer ones that a crash cut short are removed.

    Raises
    ------
    RunError
        There are checkpoints, all sealed, and the newest has been damaged since.
    """
    found = sorted(
        (path for path in Path(folder).glob("checkpoint-*") if path.name.split("-")[-1].isdigit()),
        key=lambda path: int(path.name.split("-")[-1]),
        reverse=True,
    )
    for path in found:
        if is_whole(path):
            return path
        if (path / WHOLE).exists():
            raise RunError(
                f"{path} is damaged: a file is missing or changed; delete it to go on from the one before"
            )
        shutil.rmtree(path)
    return None
