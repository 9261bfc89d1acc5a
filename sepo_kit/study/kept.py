"""Logs of finished trials, each in a file beside one that says what was asked for, so that a study goes on with those
that are its own and with no others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sepo_kit.runs import MANIFEST, RunError, read_json, read_manifest, replacing, write_json


def keep_log(file: Path, log: pd.DataFrame, asked: Mapping[str, Any]) -> None:
    """Write ``log`` into ``file``, a Parquet file, and beside it what was ``asked`` for."""
    write_json(_beside(file), dict(asked))
    with replacing(file) as temporary:  # last: it is what says that the trial is finished
        log.to_parquet(temporary, index=False)


def is_finished(file: Path, asked: Mapping[str, Any]) -> bool:
    """Whether the log of the trial that is ``asked`` for is there.

    Raises
    ------
    RunError
        What is there was asked for otherwise.
    """
    if not file.exists():
        return False
    before = read_json(_beside(file), dict) if _beside(file).exists() else {}
    now = json.loads(json.dumps(dict(asked)))
    if before == now:
        return True
    changed = [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    how = "; ".join(changed) if before else "nothing says which, an older version did not"
    raise RunError(f"{file} is of other settings ({how}); give the study another folder, or delete that file")


def began_from(base: str) -> Any:
    """What says where a trial starts from: the name of a model, or of a run folder what it was asked for."""
    return read_manifest(base)["request"] if (Path(base) / MANIFEST).exists() else base


def _beside(file: Path) -> Path:
    return file.with_suffix(".asked.json")
