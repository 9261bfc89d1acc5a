"""Checkpoints: sealed with the hashes of their files, so that a reader can tell whole ones from broken ones."""

from __future__ import annotations

import shutil
from pathlib import Path

from sepo_kit.runs.files import RunError, file_hash, read_json, write_json

WHOLE = "whole.json"


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
