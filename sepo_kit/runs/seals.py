"""Hashes that tell damage: a JSON file's own, and those of the files it speaks of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sepo_kit.runs.files import (
    RunError,
    file_hash,
    file_hashes,
    json_text,
    read_json,
    without_nan,
    write_json,
)

SEAL = "sha256"  # of a sealed object: the hash of all its other fields
# Of a run folder: what its manifest cannot hold a hash of, and what is only there on the way.
NOT_KEPT = ("manifest.json", "checkpoints/", "tensorboard/")


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """``value`` with the hash of all its other fields."""
    return {**value, SEAL: _hash(value)}


def write_sealed(path: Path | str, value: dict[str, Any], beside: Iterable[Path | str] = ()) -> None:
    """Write ``value`` as a sealed JSON file, with the hashes of the files ``beside`` it as ``files``."""
    files = {Path(file).name: file_hash(file) for file in beside}
    write_json(path, sealed({**value, **({"files": files} if files else {})}))


def _hash(value: dict[str, Any]) -> str:
    rest = without_nan({name: each for name, each in value.items() if name != SEAL})
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def hashes_of(folder: Path | str) -> dict[str, str]:
    """SHA-256 of the files of a run folder that stay, by their path in it."""
    return {name: sha for name, sha in file_hashes(folder).items() if not name.startswith(NOT_KEPT)}


def problems(file: Path | str) -> list[str]:
    """What is wrong with a sealed JSON file and with the ``files`` it names, which lie beside it; [] if nothing is.

    A file without a seal is one of an older version: that is a problem too, since nothing can be told. One that says
    the same in other bytes has changed.
    """
    file = Path(file)
    try:
        value = read_json(file, dict)
        as_written = file.read_text(encoding="utf-8") == json_text(value)
    except (RunError, OSError) as error:
        return [str(error)]
    known = value.get("files", {})
    if SEAL not in value or not isinstance(known, dict):
        return [f"{file} holds no hashes: it is of an older version, or has changed"]
    same = as_written and value[SEAL] == _hash(value)
    found = [] if same else [f"{file} has changed since it was written"]
    for name, sha256 in known.items():
        try:
            if file_hash(file.parent / name) != sha256:
                found.append(f"{file.parent / name} has changed since it was written")
        except (OSError, ValueError):
            found.append(f"{file.parent / name} is missing or cannot be read")
    return found
