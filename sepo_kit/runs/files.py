"""Files that are whole or not there: written under a temporary name and renamed, read with one clear line if broken."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import filter as fnfilter
from functools import lru_cache
from pathlib import Path
from typing import Any


class RunError(ValueError):
    """A run folder cannot be used; the message says why and what to do."""


# What ``replacing`` and ``replacing_folder`` call their temporary files; a process that is killed leaves one.
LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}(\.[A-Za-z0-9]+)?")
OURS = ".sepokit"  # at the end of what folders are called that are not there yet
SETTLED = 2 * 10**9  # nanoseconds: longer than any file system's clock stands still
# Those that nobody else's files are called like: a file's ending stands twice.
SURELY_LEFT = re.compile(r"\..*(\.[A-Za-z0-9]+)\.[a-z0-9_]{8}\1|\..+\.[a-z0-9_]{8}" + re.escape(OURS))


@contextmanager
def replacing(path: Path | str, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an error.

    ``durable``: the file, and then its name, are on the disk before the block ends, so that a power cut leaves the old
    file or the new one; without it, a cut may leave an empty file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield Path(temporary)
        os.chmod(temporary, 0o644)
        if durable:
            to_disk(temporary)
        os.replace(temporary, path)
        if durable:
            to_disk(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """A temporary folder that takes the place of ``path`` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = hidden_folder(path)
    try:
        yield temporary
        temporary.chmod(0o755)
        for file in temporary.rglob("*"):
            to_disk(file)
        to_disk(temporary)
        before = hidden_folder(path) if path.exists() else None
        if before is not None:
            os.replace(path, before)  # renamed, then deleted: no reader finds half a folder
        os.replace(temporary, path)
        to_disk(path.parent)
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_new_folder(folder: Path | str) -> None:
    """ValueError unless ``folder`` is not there, or empty."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already; name a new folder")


def hidden_folder(path: Path) -> Path:
    """A new folder beside ``path`` for what is not there yet, or no longer."""
    return Path(tempfile.mkdtemp(OURS, f".{path.name}.", path.parent))


def by_name(path: Path | str) -> Path:
    """``path``, which ends in a name: that of the folder, where it ends in "." or ".." and would follow that folder
    wherever it is moved."""
    path = Path(path)
    return path if path.name not in ("", "..") else Path(os.path.abspath(path))


def to_disk(path: Path | str) -> None:
    """Wait until a file, or the names in a folder, have reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot say
            raise
    finally:
        os.close(handle)


def paths_under(folder: Path | str, named: str = "*") -> list[Path]:
    """All files and folders under ``folder`` whose names fit the shell's pattern ``named``, in order; links to folders
    are not followed. What others delete meanwhile is left out, or is gone when it is looked at: ``Path.rglob`` fails
    there."""

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
            raise error

    walked = os.walk(folder, onerror=unreadable)
    return sorted(
        Path(at, name) for at, folders, files in walked for name in fnfilter([*folders, *files], named)
    )


def leftovers_in(folder: Path | str) -> list[Path]:
    """The temporary files and folders that killed processes left under ``folder``."""
    return [path for path in paths_under(folder, ".*") if LEFTOVER.fullmatch(path.name)]


def sweep(folder: Path | str) -> list[Path]:
    """Delete the temporary files and folders that killed processes left under ``folder``; what they were."""
    found = leftovers_in(folder)
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return found


def write_json(path: Path | str, value: Any, durable: bool = True) -> None:
    """Write ``value`` as JSON, whole or not at all; NaN, which JSON does not have, as null. ``durable``: as in
    ``replacing``.

    Raises
    ------
    ValueError
        A number is infinite.
    """
    text = json_text(value)
    with replacing(path, durable) as temporary:
        temporary.write_text(text)


def json_text(value: Any) -> str:
    """``value`` as ``write_json`` writes it; ValueError where a number is infinite."""
    return json.dumps(without_nan(value), indent=2, sort_keys=True, allow_nan=False) + "\n"


def without_nan(value: Any) -> Any:
    """``value`` as JSON can hold it: null for every NaN in it."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {name: without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return value


def write_csv(path: Path | str, table: Any) -> None:
    """Write ``table``, a pandas frame, as CSV without its index, whole or not at all.

    Numbers have twelve digits: what two machines round differently in the sixteenth is one file, and git stays clean.
    """
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format=lambda value: repr(twelve_digits(value)))


def twelve_digits(value: float) -> float:
    """
    >>> twelve_digits(0.1 + 0.2), twelve_digits(2.0), twelve_digits(1e-20 / 3)
    (0.3, 2.0, 3.33333333333e-21)
    """
    return float(f"{value:.12g}")


def read_json(path: Path | str, kind: type = object, needed: Iterable[str] | Mapping[str, type] = ()) -> Any:
    """Read a JSON file that may come from anywhere.

    Parameters
    ----------
    kind
        What its value must be: ``dict``, ``list``; anything by default.
    needed
        Fields that an object must have, and of what kind each is, where a mapping says it.

    Raises
    ------
    RunError
        It is missing, broken, nested without end, holds an infinite number, or is of another shape.
    """
    path = Path(path)
    try:
        value = _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:  # what is no JSON and no UTF-8 are ValueErrors
        raise RunError(f"{path} is not valid JSON ({first_line(error)}); {_remedy(path)}") from None
    lacking = _lacking(value, needed)
    if not isinstance(value, kind) or lacking:
        what = (
            f"it lacks {', '.join(lacking)}" if lacking else f"it holds no {_KINDS.get(kind, kind.__name__)}"
        )
        raise RunError(f"{path} is not of this version ({what}); {_remedy(path)}")
    return value


_KINDS = {dict: "object", list: "list"}
_NEAR = 3  # folders of a run lie no deeper


def _remedy(path: Path) -> str:
    """What to do about a broken file: within a run its folder is of no use without it; elsewhere others lie beside it
    that are worth keeping."""
    within = any((folder / "manifest.json").exists() for folder in list(path.parents)[:_NEAR])
    return f"delete {path.parent} to start again" if within else "put back the right one, or delete it"


def _lacking(value: Any, needed: Iterable[str] | Mapping[str, type]) -> list[str]:
    """The fields of ``needed`` that ``value`` has not, or of another kind; a float may be whole, and no number is true
    or false."""
    if not isinstance(value, dict):
        return list(needed)
    kinds = needed if isinstance(needed, Mapping) else dict.fromkeys(needed, object)
    return [name for name, kind in kinds.items() if name not in value or not _is(value[name], kind)]


def _is(value: Any, kind: type) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is float:
        return (
            isinstance(value, int | float) and abs(value) < 1e300
        )  # NaN is not, and an int may be too large to convert
    return isinstance(value, kind)


def _parsed(text: str, finite: bool = True) -> Any:
    """The value of a JSON text; ValueError where a number is infinite. NaN may be: older versions wrote it."""

    def number(written: str) -> float:
        value = float(written)
        if finite and math.isinf(value):
            raise ValueError(f"the number {written} is not finite")
        return value

    return json.loads(text, parse_float=number, parse_constant=number)


def first_line(error: BaseException) -> str:
    """What an error says in its first line; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hashes(folder: Path | str) -> dict[str, str]:
    """SHA-256 of every file under ``folder``, by its path there; hidden ones and what lies in hidden folders left
    out."""
    folder, found = Path(folder), {}
    for path in paths_under(folder):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts) and path.is_file():
            with suppress(FileNotFoundError):
                found[name.as_posix()] = file_hash(path)
    return found


def weights_hash(folder: Path | str) -> str | None:
    """SHA-256 of the SHA-256 of all safetensors files of a model's folder, in order; None where it has none. What has
    not been changed since is not read again."""
    return joint_hash(_remembered_hash(file) for file in sorted(Path(folder).glob("*.safetensors")))


def joint_hash(hashes: Iterable[str]) -> str | None:
    """SHA-256 of ``hashes``, one after the other; None where there are none."""
    told = "".join(hashes)
    return hashlib.sha256(told.encode()).hexdigest() if told else None


def _remembered_hash(file: Path) -> str:
    seen = file.stat()
    state = seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
    if time.time_ns() - max(seen.st_mtime_ns, seen.st_ctime_ns) < SETTLED:
        return file_hash(file)  # changed once more, it might have the same times
    return _hash_of(os.path.abspath(file), state)


@lru_cache
def _hash_of(path: str, state: tuple[int, ...]) -> str:
    return file_hash(path)


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


FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
# How libraries that write by other means than Python's say it: safetensors and tokenizers, and PyTorch.
SAID_FULL = re.compile(
    rf"\(os error ({'|'.join(map(str, FULL))})\)|PytorchStreamWriter failed|inline_container"
)


@contextmanager
def full_disks_named(path: Path | str) -> Iterator[None]:
    """OSError in one line that names ``path``, for whatever libraries raise where a disk, a quota or a limit of file
    sizes is full."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in FULL and error.filename is None
        if not full and (isinstance(error, OSError) or not SAID_FULL.search(str(error))):
            raise
        raise OSError(
            f"{path} cannot be written ({first_line(error)}); free some space, then run the same command again"
        ) from error


def append_line(path: Path | str, row: dict[str, Any]) -> None:
    """Append one JSON line and hand it to the system; ``to_disk`` waits until it is on the disk."""
    with open(path, "a") as file:
        file.write(json.dumps(row, sort_keys=True) + "\n")


def read_lines(path: Path | str, needed: Iterable[str] | Mapping[str, type] = ()) -> list[dict[str, Any]]:
    """JSON lines, each an object with the fields ``needed``, as in ``read_json``; a last line cut off by a crash
    is left out. [] where the file is missing.

    Raises
    ------
    RunError
        A line before the last is broken, or one is of another shape.
    """
    path = Path(path)
    if not path.exists():
        return []
    rows = []
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = _parsed(line.decode(), finite=False)
        except (ValueError, RecursionError):
            if number < len(lines):
                raise RunError(f"{path}, line {number} is not JSON; {_remedy(path)}") from None
            continue
        if not isinstance(row, dict) or _lacking(row, needed):
            raise RunError(f"{path}, line {number} is not of a log of this version; {_remedy(path)}")
        rows.append(row)
    return rows


def keep_lines(
    path: Path | str,
    kept: Callable[[dict[str, Any]], bool],
    needed: Iterable[str] | Mapping[str, type] = (),
) -> None:
    """Drop the JSON lines that are not ``kept``, and a last one that was cut short, which the next would continue.
    ``needed``: as in ``read_lines``."""
    if not Path(path).exists():
        return
    rows = read_lines(path, needed)
    with replacing(path) as temporary:
        for row in rows:
            if kept(row):
                append_line(temporary, row)
