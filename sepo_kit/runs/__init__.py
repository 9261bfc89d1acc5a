"""Run folders: atomic files, manifests, checkpoints, provenance. Knows nothing of games or models."""

from sepo_kit.runs.checkpoints import WHOLE, is_whole, last_checkpoint, seal
from sepo_kit.runs.files import (
    RunError,
    append_line,
    file_hash,
    read_json,
    read_lines,
    replacing,
    replacing_folder,
    require_space,
    write_json,
)
from sepo_kit.runs.folder import EPISODES, FORMAT, MANIFEST, METRICS, PROGRESS, Run, read_manifest
from sepo_kit.runs.origin import commit, notebook_provenance, provenance

__all__ = [
    "EPISODES",
    "FORMAT",
    "MANIFEST",
    "METRICS",
    "PROGRESS",
    "Run",
    "RunError",
    "WHOLE",
    "append_line",
    "commit",
    "file_hash",
    "is_whole",
    "last_checkpoint",
    "notebook_provenance",
    "provenance",
    "read_json",
    "read_lines",
    "read_manifest",
    "replacing",
    "replacing_folder",
    "require_space",
    "seal",
    "write_json",
]
