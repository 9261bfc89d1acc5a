"""Run folders: what a run is, and whether it belongs to what is asked.

A run folder holds ``manifest.json`` (what was asked, versions, commit, status), ``progress.json`` (where it
stands), ``metrics.jsonl`` (one line per step), for SEPO ``episodes/`` (some of every saved step), and what the stage
made.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from sepo_kit.runs.files import RunError, read_json, write_json
from sepo_kit.runs.origin import provenance

MANIFEST, PROGRESS, METRICS = "manifest.json", "progress.json", "metrics.jsonl"
EPISODES = "episodes"  # the folder of recorded training episodes
FORMAT = 1


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
