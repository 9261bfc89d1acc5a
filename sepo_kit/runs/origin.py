"""What a number needs beside it to be made again: commit, versions, machine, hashes."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from sepo_kit.runs.files import file_hash
from sepo_kit.runs.project import is_checkout

LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "numpy")


def provenance() -> dict[str, Any]:
    """Commit, versions and machine: what a number needs beside it to be made again."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores{_threads()}",
        "versions": {name: metadata.version(name) for name in LIBRARIES},
    }


def _threads() -> str:
    """How many threads torch computes with, on which the last digits depend; nothing where it is not loaded."""
    if "torch" not in sys.modules:
        return ""
    count = sys.modules["torch"].get_num_threads()
    return f", {count} thread{'' if count == 1 else 's'}"


def commit() -> str:
    """The commit the package is run from, with "+" where tracked files differ; of an installed wheel its version, and
    "unknown" of a checkout outside git."""
    if not is_checkout():
        return f"release {metadata.version('sepo_kit')}"
    here = Path(__file__).parents[1]
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


def sources(folder: Path) -> list[Path]:
    """The files under a folder of the package that are its code, the words of games among them."""
    return sorted(file for file in folder.rglob("*") if file.suffix in (".py", ".toml"))


@cache  # what runs is what was imported, whatever is edited meanwhile
def code_fingerprint(rooms: tuple[str, ...], *others: Path) -> str:
    """The first 16 digits of a SHA-256 over the source files of ``rooms`` of the package, the words of its games among
    them, and over ``others``."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in [*(file for room in rooms for file in sources(package / room)), *others]:
        name = str(file.relative_to(package)) if package in file.parents else file.name
        digest.update(f"{name}\0{file_hash(file)}\0".encode())
    return digest.hexdigest()[:16]


def notebook_provenance(
    started: float,
    parameters: dict[str, Any],
    inputs: Iterable[Path | str] = (),
    outputs: Iterable[Path | str] = (),
) -> dict[str, Any]:
    """What the last cell of a notebook shows: commit, versions, parameters, hashes of files, wall time.

    ``started``: ``time.monotonic()`` in the first code cell; hashes are the first 16 digits of SHA-256.
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
        "wall_seconds": round(time.monotonic() - started, 1),
    }
