"""Checkpoints: sealed with the hashes of their files, so that a reader can tell whole ones from broken ones."""

from __future__ import annotations

import shutil
from pathlib import Path

from sepo_kit.runs.files import RunError, file_hash, file_hashes, read_json, to_disk, write_json

WHOLE = "whole.json"


def seal(folder: Path | str) -> None:
    """Write the hashes of all files of ``folder``, once they are on the disk, into it: from now on ``is_whole`` can
    tell."""
    folder = Path(folder)
    hashes = file_hashes(folder)
    hashes.pop(WHOLE, None)
    for name in hashes:
        to_disk(folder / name)
    to_disk(folder.parent)
    write_json(folder / WHOLE, hashes)


def is_whole(folder: Path | str) -> bool:
    """Whether ``folder`` was sealed and every file is still the same."""
    folder = Path(folder)
    try:
        sealed = read_json(folder / WHOLE, dict)
        return bool(sealed) and all(file_hash(folder / name) == known for name, known in sealed.items())
    except (RunError, OSError, ValueError):  # a name with a zero byte in it is a ValueError
        return False


def updates_of(checkpoint: Path | None) -> int:
    """How many updates of the weights ``checkpoint`` was saved after, by its name; 0 where there is none."""
    return int(checkpoint.name.split("-")[-1]) if checkpoint else 0


def last_checkpoint(folder: Path | str) -> Path | None:
    """The newest whole ``checkpoint-N`` under ``folder``; newer ones that a crash cut short are removed.

    Raises
    ------
    RunError
        There are checkpoints, all sealed, and the newest has been damaged since.
    """
    found = sorted(
        (path for path in Path(folder).glob("checkpoint-*") if path.name.split("-")[-1].isdigit()),
        key=updates_of,
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
