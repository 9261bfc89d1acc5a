"""All that lies in a folder of runs: what there is, whether it is still as it was written, and how it is tidied."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sepo_kit.runs.files import (
    LEFTOVER,
    SURELY_LEFT,
    RunError,
    hidden_folder,
    leftovers_in,
    paths_under,
    read_json,
    replacing_folder,
    sweep,
    write_json,
)
from sepo_kit.runs.folder import (
    ADAPTER,
    ADAPTERS,
    MANIFEST,
    STOPPED,
    base_as_held,
    base_of,
    is_aside,
    read_manifest,
    step_of,
)
from sepo_kit.runs.lock import LOCK, Lock, is_held, left_by_dead
from sepo_kit.runs.seals import SEAL, problems, sealed

ABANDONED = (
    3600  # seconds without a change after which a temporary file that no lock speaks for is a dead process's
)


def run_folders(root: Path | str, aside: bool = False) -> list[Path]:
    """The run folders under ``root``, itself among them; those put aside only if asked for."""
    root = Path(root)
    if not root.is_dir():
        raise RunError(f"{root} is no folder; name one with runs in it")
    return sorted(
        file.parent
        for file in paths_under(root, MANIFEST)
        if not any(p.startswith(".") or (is_aside(p) and not aside) for p in file.relative_to(root).parts)
    )


def verify(root: Path | str) -> Iterator[tuple[Path, list[str]]]:
    """Each file under ``root`` that holds hashes, or should, with what is wrong: the manifests of runs, results, tables
    and the data of figures."""
    root = Path(root)
    if root.is_file():
        yield root, problems(root)
        return
    for file, found in _looked_at(root):
        if os.path.lexists(file):  # else it was deleted in this moment
            yield file, found


def _looked_at(root: Path) -> Iterator[tuple[Path, list[str]]]:
    runs = run_folders(root, aside=True)
    for folder in runs:
        yield folder / MANIFEST, _problems_of(folder)
    for file in paths_under(root, "*.json"):
        if (
            not _is_within(runs, file)
            and not LEFTOVER.fullmatch(file.name)
            and (_is_sealed(file) or _should_be(file))
        ):
            yield file, problems(file)


def _problems_of(folder: Path) -> list[str]:
    try:
        read_manifest(folder)
    except (RunError, OSError) as error:
        return [str(error)]
    return problems(folder / MANIFEST)


def _is_sealed(file: Path) -> bool:
    try:
        value = read_json(file)
    except (RunError, OSError):
        return True  # unreadable: ``problems`` says how
    return isinstance(value, dict) and (SEAL in value or "files" in value)


def _should_be(file: Path) -> bool:
    return any(file.with_suffix(suffix).exists() for suffix in (".parquet", ".csv"))


def leftovers(root: Path | str, aside: bool = False) -> list[Path]:
    """What ``clean`` would delete: temporary files of killed processes, checkpoints of finished runs, and, only if
    asked for, runs put ``aside``. What a living process holds is left out."""
    runs = run_folders(root, aside=True)
    found = [path for path in leftovers_in(root) if not _is_within(runs, path) and _is_abandoned(path)]
    for folder in runs:
        if is_held(folder):
            continue
        found += leftovers_in(folder)
        found += folder.glob(".checkpoints.*")
        try:
            finished = read_manifest(folder)["status"] == "done"
        except (RunError, OSError):
            continue
        if finished and (folder / "checkpoints").is_dir():
            found.append(folder / "checkpoints")
        if aside and is_aside(folder.name):
            found.append(folder)
    return sorted({path for path in found if not any(other in path.parents for other in found)})


def _is_within(runs: Sequence[Path], path: Path) -> bool:
    return any(run in path.parents for run in runs)


def _is_abandoned(path: Path) -> bool:
    """Whether ``path``, a file or a folder outside of runs, is surely a temporary one of the kit's in which nothing has
    changed for long: a result that is written, or the copy of a run on its way from another disk, has no lock."""
    if not SURELY_LEFT.fullmatch(path.name):
        return False
    changed = []
    for each in [path, *paths_under(path)]:
        with suppress(FileNotFoundError):
            changed.append(each.lstat().st_ctime)  # not when it was modified, which a copy keeps
    return bool(changed) and time.time() - max(changed) > ABANDONED


def clean(root: Path | str, aside: bool = False) -> list[Path]:
    """Delete ``leftovers``; what they were."""
    found = leftovers(root, aside)
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return found


def move(source: Path | str, target: Path | str) -> Path:
    """Move a run folder; its new place. Runs that were trained on top of it find it by where it lies from them, so it
    only moves alone where none is near.

    Raises
    ------
    RunError
        It is no run, somebody writes there, the target exists, or a run nearby was trained on top of it.
    """
    source, target = Path(source), Path(target)
    read_manifest(source)
    if target.exists():
        raise RunError(f"{target} exists; name a folder that does not")
    if source.resolve() in target.resolve().parents:
        raise RunError(f"{target} lies inside {source}; name another place")
    beside = [f for f in run_folders(source.parent) if f != source and not is_aside(f.name)]
    children = [str(folder) for folder in beside if _rests_on(folder, source)]
    if children:
        raise RunError(
            f"{', '.join(children)} was trained on top of {source}; move the folder that holds both instead"
        )
    lock = Lock(source)
    try:
        manifest = _as_seen_from(target, source)
        sweep(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        _relocate(source, target, manifest, lock)
    finally:
        lock.release()
    return target


def _as_seen_from(target: Path, source: Path) -> dict[str, Any]:
    """The manifest of the run ``source`` once it lies at ``target``: what it names by the way from the run."""
    manifest = read_manifest(source)
    base = base_of(source, manifest["request"]) if "base" in manifest["request"] else None
    if base and str(manifest["request"]["base"]).startswith(".."):
        kept = os.path.relpath(base, target.absolute())
        if manifest["status"] != "done" and kept != manifest["request"]["base"]:
            raise RunError(f"{source} is unfinished and was begun on {base}; finish it, or move both")
        manifest["request"]["base"] = base_as_held(target, base)
    first = next(iter(manifest.get("chain", [])), {})
    if first.get("beside") and (source / first["beside"]).is_dir():
        first["beside"] = os.path.relpath(source.absolute() / first["beside"], target.absolute())
    return manifest


def _relocate(source: Path, target: Path, manifest: dict[str, Any], lock: Lock) -> None:
    """Rename ``source``, which ``lock`` holds, and give it ``manifest``; to another disk it is copied, and deleted once
    the copy is whole."""
    try:
        os.rename(source, target)
        lock.path = target / LOCK
        _give(target, manifest)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with replacing_folder(target) as temporary:
            unlocked = shutil.ignore_patterns(LOCK)
            shutil.copytree(source, temporary, symlinks=True, ignore=unlocked, dirs_exist_ok=True)
            _give(temporary, manifest)
        # Renamed before it is deleted, and let go in between: nobody takes half a folder, and its lock is no open file.
        rest = hidden_folder(source)
        os.replace(source, rest)
        lock.path = rest / LOCK
        lock.release()
        shutil.rmtree(rest, ignore_errors=True)


def _give(folder: Path, manifest: dict[str, Any]) -> None:
    if manifest != read_manifest(folder):
        write_json(folder / MANIFEST, sealed(manifest))


def record(folder: Path | str, target: Path | str, weights: bool = False) -> Path:
    """Copy a finished run to ``target`` to publish it: its matches and curves, without the weights of the steps on its
    way, and without those it ended with unless ``weights`` are asked for. What was trained before is in these, so that
    they are enough to load it. The manifest there keeps the hashes of what was left out, as ``left_out``.

    Raises
    ------
    RunError
        The run is not finished or has changed, or ``target`` is there.
    """
    folder, target = Path(folder), Path(target)
    manifest = read_manifest(folder)
    if manifest["status"] != "done" or problems(folder / MANIFEST):
        raise RunError(f"{folder} is not finished or has changed since; see sepo-kit runs verify {folder}")
    if target.exists():
        raise RunError(f"{target} is there; name another folder")
    left = (f"{ADAPTERS}/",) if weights else (f"{ADAPTERS}/", f"{ADAPTER}/")
    files = manifest.pop("files")
    left_out = {name: sha256 for name, sha256 in files.items() if name.startswith(left)}
    kept = {name: sha256 for name, sha256 in files.items() if name not in left_out}
    manifest.pop(SEAL)
    with replacing_folder(target) as temporary:
        for name in kept:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, temporary / name)
        write_json(temporary / MANIFEST, sealed({**manifest, "files": kept, "left_out": left_out}))
    return target


def _rests_on(folder: Path, base: Path) -> bool:
    try:
        request = read_manifest(folder)["request"]
    except (RunError, OSError):
        return False
    return "base" in request and os.path.abspath(base_of(folder, request)) == os.path.abspath(base)


def described(folder: Path | str) -> dict[str, Any]:
    """What there is to say of a run: stage, game, seed, status, step, size, commit, the machine and its threads."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    request = manifest["request"]
    told = {name: request.get(name) for name in ("stage", "game", "seed")}
    status = "being written" if is_held(folder) else manifest["status"]
    if status not in ("being written", "done") and left_by_dead(folder):
        status = STOPPED
    if step := step_of(folder):
        told["step"] = step
    known = {name: manifest.get(name) for name in ("commit", "machine")}
    return {**told, "status": status, "MB": round(size_of(folder) / 1e6, 1), **known}


def size_of(folder: Path) -> int:
    """The bytes of all files under ``folder``."""
    size = 0
    for path in paths_under(folder):
        with suppress(FileNotFoundError):
            size += path.stat().st_size if path.is_file() else 0
    return size
