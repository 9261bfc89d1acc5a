"""Files that are whole or not there: written under a temporary name and renamed, read with one clear line if broken."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class RunError(ValueError):
    """A run folder cannot be used; the message says why and what to do."""


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
    """Write ``value`` as JSON, whole or not at all; NaN, which JSON does not have, as null.

    Raises
    ------
    ValueError
        A number is infinite.
    """
    text = json.dumps(_without_nan(value), indent=2, sort_keys=True, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return value


def write_csv(path: Path | str, table: Any) -> None:
    """Write ``table``, a pandas frame, as CSV without its index, whole or not at all.

    Numbers have twelve digits: what two machines round differently in the sixteenth is one file, and git stays clean.
    """
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format=_twelve_digits)


def _twelve_digits(value: float) -> str:
    """
    >>> _twelve_digits(0.1 + 0.2), _twelve_digits(2.0), _twelve_digits(1e-20 / 3)
    ('0.3', '2.0', '3.33333333333e-21')
    """
    return repr(float(f"{value:.12g}"))


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


def keep_lines(path: Path | str, kept: Callable[[dict[str, Any]], bool]) -> None:
    """Drop the JSON lines that are not ``kept``, and a last one that was cut short, which the next would continue."""
    if not Path(path).exists():
        return
    rows = read_lines(path)
    with replacing(path) as temporary:
        for row in rows:
            if kept(row):
                append_line(temporary, row)
