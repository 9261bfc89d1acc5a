"""Run folders: what a run is, and whether it belongs to what is asked.

A run folder holds ``manifest.json`` (what was asked, versions, commit, status), ``progress.json`` (where it
stands), ``metrics.jsonl`` (one line per step), for SEPO ``episodes/`` (some of every saved step), and what the stage
made.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sepo_kit.runs.files import RunError, by_name, read_json, sweep, write_json
from sepo_kit.runs.lock import LOCK, Lock
from sepo_kit.runs.origin import commit, provenance
from sepo_kit.runs.seals import hashes_of, sealed

MANIFEST, PROGRESS, METRICS = "manifest.json", "progress.json", "metrics.jsonl"
SCORES = "scores.jsonl"  # of the saved steps
EPISODES = "episodes"  # the folder of recorded training episodes
ADAPTER, WEIGHTS = "adapter", "adapter_model.safetensors"  # the folder of what was trained, and its tensors
ADAPTERS = "adapters"  # of the steps that a run saved on its way
FORMAT = 1
# Of a request: what a run was made from. Where only these differ, the run is not another one but an old one.
MADE_FROM = {
    "code": "by other code",
    "base_sha256": "from another base",
    "opponents_sha256": "against other opponents",
    "pools_sha256": "against other runs",
    "models_sha256": "against other models",
}
HASHED = ("base_sha256", "pools_sha256", "models_sha256")  # of what may not be there to be hashed
# Of a manifest and its link of a chain: by what a kept run was made that did not begin it.
PARTS = "went_on_with"
STEPS_BEFORE = "steps_before"  # of a manifest: how many steps were asked of the run earlier
STOPPED = "stopped without saying why (killed, or out of memory?)"
KEEP = "SEPO_KIT_KEEP"  # environment variable: "1" takes old runs as they are


class Run:
    """One stage of one run in its folder; opening it checks that it belongs to ``request``.

    Parameters
    ----------
    path
        The folder; a writer makes it where it does not exist.
    request
        What is asked: plain JSON values. A folder made for another request is refused. One made for the same request
        from other code, or from another base, a writer puts aside, which is said in one line, and the run begins anew;
        it is kept as it is where the environment variable ``SEPO_KIT_KEEP`` is 1. An unfinished one whose learning
        rate does not depend on how many steps there are may be asked for fewer or more (``take_steps``).
    writes
        Whether this process will write there: it then holds the folder, unless the run is done, until ``release`` or
        ``finish``, and what killed processes left half-written is swept away. A reader changes nothing.

    Raises
    ------
    RunError
        The folder holds something else, another request, another format, or a broken manifest, or another process
        writes there; of a reader, also where there is no run, or one of other code or from another base.
    """

    def __init__(self, path: Path | str, request: dict[str, Any], writes: bool = False) -> None:
        self.path = by_name(path)
        self.request = json.loads(json.dumps(request))
        self.started = time.time()
        self._clock = time.monotonic()
        self._seconds_before = 0.0  # of the sessions before this one
        self._lock: Lock | None = None
        if self.path.is_symlink() and not self.path.exists():
            raise RunError(f"{self.path} is a link to {self.path.readlink()}, which is not there; delete it")
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; a run needs a folder")
        if self._is_no_run():
            raise RunError(f"{self.path} is not empty and has no {MANIFEST}: it is not a run; choose another")
        try:
            self._open(writes)
        except BaseException:
            self.release()
            raise

    def _is_no_run(self) -> bool:
        if not self.path.exists() or (self.path / MANIFEST).exists():
            return False
        return any(f.name != LOCK and not f.name.startswith(f".{MANIFEST}.") for f in self.path.iterdir())

    def _open(self, writes: bool) -> None:
        # Whatever is seen before the folder is held, another process may have done by then: it is looked at again.
        if old := outdated(self.path, self.request):
            if not writes:
                raise RunError(
                    f"{old}; whoever trains it again puts it aside, and {KEEP}=1 takes it as it is"
                )
            self._hold(writes)  # nobody's folder is renamed while it is written
            if old := outdated(self.path, self.request):
                aside = put_aside(self.path)
                self.release(aside)
                print(f"{old}: it is kept as {aside.name}, and made anew", file=sys.stderr)
            self.release()
        if not (self.path / MANIFEST).exists():
            if not writes:
                raise RunError(f"{self.path} is not a run folder: it has no {MANIFEST}")
            self._hold(writes)
            if not (self.path / MANIFEST).exists():
                self.manifest = {
                    "format": FORMAT,
                    "request": self.request,
                    "status": "started",
                    **provenance(),
                }
                write_json(self.path / MANIFEST, sealed(self.manifest))
                return
            self.release()
        self.manifest = self._own_manifest()
        if not self.done:
            self._hold(writes)
            self.manifest = self._own_manifest()  # as the holder before left it
            self._seconds_before = _seconds_of(self.path) if self._lock else 0.0
            self._say_part()
            if self._lock and self._lock.follows_dead and not self.done:
                print(f"{self.path} {died(self.path)}; it goes on from its last checkpoint", file=sys.stderr)

    def _hold(self, writes: bool) -> None:
        if writes:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.path)
            sweep(self.path)

    def release(self, moved_to: Path | None = None) -> None:
        """Let other processes write there; ``moved_to``: where the folder is now."""
        if self._lock:
            if moved_to is not None:
                self._lock.path = moved_to / LOCK
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __repr__(self) -> str:
        about = " ".join(str(self.request[name]) for name in ("stage", "game") if name in self.request)
        seed = f" seed {self.request['seed']}" if "seed" in self.request else ""
        return f"Run({str(self.path)!r}: {about}{seed}, {self.manifest['status']})"

    def _own_manifest(self) -> dict[str, Any]:
        manifest = read_manifest(self.path)
        if names := _differences(self.path, manifest, self.request) - MADE_FROM.keys():
            said = "; ".join(
                _said(name, manifest["request"].get(name), self.request.get(name)) for name in sorted(names)
            )
            further = manifest["status"] == "done" and "base" in self.request
            raise RunError(
                f"{self.path} was made for another request ({said}); choose another folder or delete it"
                + (
                    "; to train on what it has learned, name it as the base of a run elsewhere"
                    if further
                    else ""
                )
            )
        return manifest

    def _say_part(self) -> None:
        """Write into the manifest of a kept run what it is gone on with that it was not begun with."""
        names = _differences(self.path, self.manifest, self.request)
        if not names or self.done or not self._lock:
            return
        part = {name: self.request.get(name) for name in MADE_FROM if name in names} | {"commit": commit()}
        before = self.manifest.get(PARTS, [])
        if part not in before[-1:]:
            self.manifest[PARTS] = [*before, part]
            write_json(self.path / MANIFEST, sealed(self.manifest))

    def take_steps(self) -> None:
        """Write into the manifest of an unfinished run how many steps are asked of it now, and how many were before."""
        asked = self.manifest["request"].get("settings", {})
        now = self.request.get("settings", {}).get("steps")
        if asked.get("steps") != now and self._lock and not self.done:
            self.manifest.setdefault(STEPS_BEFORE, []).append(asked["steps"])
            asked["steps"] = now
            write_json(self.path / MANIFEST, sealed(self.manifest))

    @property
    def done(self) -> bool:
        """Whether the stage ran to its end."""
        return self.manifest["status"] == "done"

    def finish(self, **results: Any) -> None:
        """Mark the stage as done, with what it found and the hashes of its files, and let others in."""
        self.manifest |= {"status": "done", "wall_seconds": self._seconds(), **results}
        if (ended := provenance()["machine"]) != (begun := self.manifest.get("machine", ended)):
            self.manifest["machine"] = f"{begun}; ended on {ended}"
        self.manifest["files"] = hashes_of(self.path)
        write_json(self.path / MANIFEST, sealed(self.manifest))
        self.release()

    def progress(self, step: int, total: int, note: str = "") -> None:
        """Say where the stage stands; cheap enough for every step."""
        told = {"step": step, "total": total, "note": note, "time": time.time(), "started": self.started}
        # Not durable: it is written every step, and says nothing of weight that a run goes on from.
        write_json(self.path / PROGRESS, {**told, "wall_seconds": self._seconds()}, durable=False)

    def _seconds(self) -> float:
        """How long the stage was worked on so far, in all sessions."""
        return round(self._seconds_before + time.monotonic() - self._clock, 1)


def step_of(folder: Path | str) -> str:
    """Where the run in ``folder`` stands, "12 of 100"; "" where no step was taken.

    Raises
    ------
    RunError
        It is damaged.
    """
    if not (Path(folder) / PROGRESS).exists():
        return ""
    progress = read_json(Path(folder) / PROGRESS, dict, {"step": int, "total": int})
    return f"{progress['step']} of {progress['total']}"


def _seconds_of(folder: Path) -> float:
    """How long the run in ``folder`` was worked on until its last step, in all sessions; 0 where nothing says so."""
    try:
        return float(read_json(folder / PROGRESS, dict, {"wall_seconds": float})["wall_seconds"])
    except (RunError, OSError):
        return 0.0


def died(folder: Path | str) -> str:
    """What is known of how the writer of the run in ``folder`` ended that said nothing, in words."""
    try:
        step = step_of(folder)
    except RunError:
        step = ""
    when = f"after step {step}" if step else "before its first step"
    return f"was {STOPPED} {when}"


def base_of(folder: Path | str, request: dict[str, Any]) -> str:
    """What a run was trained from, as ``load_model`` takes it: the base of its request, which stands there relative
    to the run folder where it is another run, so that both can be moved together."""
    base = str(request["base"])
    beside = os.path.normpath(Path(folder).absolute() / base)
    return beside if base.startswith("..") and os.path.exists(os.path.join(beside, MANIFEST)) else base


def lineage(folder: Path | str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The run in ``folder`` and the runs it was trained from, one after the other, with their manifests; nothing where
    ``folder`` is no run.

    Raises
    ------
    RunError
        A manifest is broken, or says that a run was trained from itself.
    """
    folder, met = Path(folder), set()
    while (folder / MANIFEST).exists():
        if folder.resolve() in met:
            raise RunError(
                f"{folder / MANIFEST} says that the run was trained from itself; put back the right one"
            )
        met.add(folder.resolve())
        manifest = read_manifest(folder)
        yield folder, manifest
        if "base" not in manifest["request"]:
            return
        folder = Path(base_of(folder, manifest["request"]))


def base_as_held(folder: Path | str, base: Path | str) -> str:
    """The other way round: how the request of a run in ``folder`` names ``base``."""
    if not (Path(base) / MANIFEST).exists():
        return str(base)
    relative = os.path.relpath(Path(base).absolute(), Path(folder).absolute())
    return relative if relative.startswith("..") else os.path.join("..", Path(folder).name, relative)


def outdated(path: Path | str, request: dict[str, Any]) -> str | None:
    """One line on why the run at ``path`` is an old one of this ``request``; None where it is not, or is to be kept."""
    path = Path(path)
    if os.environ.get(KEEP) == "1" or not (path / MANIFEST).exists():
        return None
    manifest = read_manifest(path)
    names = _differences(path, manifest, request)
    if not names or names - MADE_FROM.keys():
        return None
    asked = manifest["request"]
    why = " and ".join(
        f"{MADE_FROM[name]} ({str(asked.get(name))[:8]}, now {str(request.get(name))[:8]})"
        for name in MADE_FROM
        if name in names
    )
    state = "finished" if manifest["status"] == "done" else "begun"
    return f"{path} was {state} {why}"


def put_aside(path: Path) -> Path:
    """Rename the folder of an old run; its new name ends in ``.old-N``."""
    path = by_name(path)
    others = [f.name for f in path.parent.iterdir() if f.name.startswith(f"{path.name}.")]
    taken = [int(name.rsplit("-", 1)[1]) for name in others if is_aside(name)]
    aside = path.with_name(f"{path.name}.old-{max(taken, default=0) + 1}")
    path.rename(aside)
    return aside


def is_aside(name: str) -> bool:
    """Whether ``put_aside`` gave a folder this name."""
    return re.search(r"\.old-\d+$", name) is not None


def _differences(path: Path, manifest: dict[str, Any], now: dict[str, Any]) -> set[str]:
    """The names in which the request of ``manifest``, of a run at ``path``, and another differ. A base is the same
    however it is written, a base or an opponent that is not there to be hashed is taken for what it was, and steps
    that are still to come may be more or fewer."""
    was = manifest["request"]
    names = {n for n in {*was, *now} if was.get(n) != now.get(n)}
    if "base" in names and {"base"} <= was.keys() & now.keys() and _places(path, was) & _places(path, now):
        names.discard("base")
    if manifest["status"] != "done" and _steps_apart(was.get("settings"), now.get("settings")):
        names.discard("settings")
    return names - {n for n in HASHED if None in (was.get(n), now.get(n))}


def _steps_apart(was: Any, now: Any) -> bool:
    """Whether two settings differ in how many steps there are alone, and nothing in a step depends on that."""
    return (
        isinstance(was, dict)
        and isinstance(now, dict)
        and was.get("schedule") == "constant"
        and "steps" in was
        and "steps" in now
        and {**was, "steps": None} == {**now, "steps": None}
    )


def _said(name: str, was: Any, now: Any) -> str:
    """How a field differs; of two objects, their fields."""
    if isinstance(was, dict) and isinstance(now, dict):
        return "; ".join(
            _said(part, was.get(part), now.get(part))
            for part in sorted({*was, *now})
            if was.get(part) != now.get(part)
        )
    return f"{name} was {was!r}, is {now!r}"


def _places(path: Path, request: dict[str, Any]) -> set[str]:
    """Where the base of a request may lie."""
    base = str(request["base"])
    return {os.path.abspath(base)} | (
        {os.path.normpath(path.absolute() / base)} if base.startswith("..") else set()
    )


def adapter_of(run: Path | str, step: int | None = None) -> Path:
    """Where a run's adapter is: that of its end, or that of a step it saved."""
    return Path(run) / ADAPTER if step is None else Path(run) / ADAPTERS / f"step-{step:06d}"


def read_manifest(path: Path | str) -> dict[str, Any]:
    """The manifest of a run folder, from anywhere; RunError where it is missing, broken or of another format, or holds
    something of another kind than readers expect."""
    path = Path(path)
    if not (path / MANIFEST).exists():
        raise RunError(f"{path} is not a run folder: it has no {MANIFEST}")
    manifest = read_json(path / MANIFEST, dict)
    known = manifest.get("format") == FORMAT and "status" in manifest
    if not known or not isinstance(manifest.get("request"), dict):
        raise RunError(
            f"{path / MANIFEST} is not of format {FORMAT}: the run was made by another version; delete it to redo"
        )
    odd = [name for name, kind in KINDS.items() if not isinstance(manifest.get(name, kind()), kind)]
    odd += [
        name for name, kind in ASKED.items() if not isinstance(manifest["request"].get(name), kind | None)
    ]
    if not isinstance(manifest.get("wall_seconds", 0.0), int | float):
        odd.append("wall_seconds")
    if not _are_parts(manifest.get(PARTS, [])):
        odd.append(PARTS)
    if not is_chain(manifest.get("chain", [])):
        odd.append("chain")
    if odd:
        raise RunError(
            f"{path / MANIFEST} is not of this version (see {', '.join(odd)}); delete {path} to redo the run"
        )
    return manifest


# What a manifest and its request hold, where they hold it.
KINDS = {
    "status": str,
    "commit": str,
    "machine": str,
    "versions": dict,
    "files": dict,
    "adapter_sha256": str,
    STEPS_BEFORE: list,
}
ASKED = {
    "stage": str,
    "game": str,
    "base": str,
    "seed": int,
    "settings": dict,
    "code": str,
    "base_sha256": str,
}
LINK = {"model": str, "stage": str, "game": str, "seed": int, "commit": str, "beside": str}


def is_chain(value: object) -> bool:
    """Whether it is what manifests, results and tables hold of what an agent came from: a list of objects, the first of
    them a model; an empty one where nothing is known."""
    links = value if isinstance(value, list) else [None]
    return all(
        isinstance(link, dict)
        and all(isinstance(link.get(name), kind | None) for name, kind in LINK.items())
        and _are_parts(link.get(PARTS, []))
        for link in links
    ) and all(isinstance(link.get("model"), str) for link in links[:1])


def _are_parts(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(part, dict) and isinstance(part.get("commit"), str | None) for part in value
    )


def commits_of(link: dict[str, Any]) -> list[str]:
    """The commits that a link of a chain was made by, the one that began it first."""
    return [part["commit"] for part in (link, *link.get(PARTS, ())) if part.get("commit")]
