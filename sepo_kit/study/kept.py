"""What is kept of a study: the log of each finished trial, in a file beside one that says what was asked for, so that a
study goes on with those that are its own and no others; and the tables that it makes, which may grow game by game."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from sepo_kit.games import get_game
from sepo_kit.runs import (
    KEEP,
    MADE_FROM,
    MANIFEST,
    RunError,
    is_held,
    read_json,
    read_manifest,
    replacing,
    write_json,
)
from sepo_kit.runs.folder import put_aside
from sepo_kit.runs.remade import of_game
from sepo_kit.training.request import ROOMS, code_of

TABULAR = "tabular"  # what a trial begins with that trains a table


def keep_log(file: Path, log: pd.DataFrame, asked: Mapping[str, Any]) -> None:
    """Write ``log`` into ``file``, a Parquet file, and beside it what was ``asked`` for."""
    write_json(_beside(file), dict(asked))
    with replacing(file) as temporary:  # last: it is what says that the trial is finished
        log.to_parquet(temporary, index=False)


def is_finished(file: Path, asked: Mapping[str, Any]) -> bool:
    """Whether the log of the trial that is ``asked`` for is there; not where other code made it, which is said, unless
    the environment variable ``SEPO_KIT_KEEP`` is 1.

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
    was, wanted = _without_origin(before), _without_origin(now)
    changed = [
        f"{name} was {was[name]!r}, is {wanted[name]!r}"
        for name in was
        if name in wanted and was[name] != wanted[name]
    ]
    if changed or not before:
        how = "; ".join(changed) if before else "nothing says which, an older version did not"
        raise RunError(
            f"{file} is of other settings ({how}); give the study another folder, or delete that file"
        )
    if os.environ.get(KEEP) == "1":
        return True
    _say_made_anew(file.parent)
    return False


def _without_origin(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What was ``asked`` for, but for what it was made from: the code, and that of the run it begins with."""
    start = asked.get("start")
    own = {"start": {n: v for n, v in start.items() if n not in MADE_FROM}} if isinstance(start, dict) else {}
    return {n: v for n, v in {**asked, **own}.items() if n not in MADE_FROM}


@cache
def _say_made_anew(folder: Path) -> None:
    print(
        f"{folder}: trials that other code made are made anew; {KEEP}=1 takes them as they are",
        file=sys.stderr,
    )


def put_old_aside(file: Path, folder: Path, asked: Mapping[str, Any]) -> None:
    """Put the run in ``folder`` aside whose log in ``file`` is of other code than is ``asked`` for: where its training
    would be the same, what watched it may not be."""
    if not file.exists() or is_finished(file, asked):
        return
    if folder.exists() and not is_held(folder):
        put_aside(folder)
    file.unlink()  # the run that is put aside has what it was made from


def origin_of(base: str, game: str) -> dict[str, Any]:
    """What a trial on ``game`` that begins with ``base`` is made from: ``start``, a model's name or what a run was
    asked for, and ``code``, the fingerprint of the code that decides how it comes out."""
    rooms = ROOMS["table"] if base == TABULAR else (*ROOMS["sepo"], "study")
    start = read_manifest(base)["request"] if (Path(base) / MANIFEST).exists() else base
    return {"start": start, "code": code_of(rooms, get_game(game))}


def holds_more(file: Path, seeds: Collection[int], steps: Mapping[str, int]) -> bool:
    """Whether the logs in ``file``, Parquet, have other seeds than ``seeds`` of a game in ``steps``, or more steps than
    it says: what is made with these is a part of what is there."""
    if not file.exists():
        return False
    before = pd.read_parquet(file, columns=["game", "seed", "step"])
    rows = before[before["game"].isin(steps)].itertuples(index=False)
    return any(row.seed not in seeds or row.step > steps[row.game] for row in rows)


def holds_more_samples(file: Path, games: Collection[str], samples: int) -> bool:
    """Whether the gradients in ``file``, CSV, are estimated from more than ``samples`` of a game in ``games``."""
    if not file.exists():
        return False
    before = _read(file)
    return bool((before.loc[before["game"].isin(games), "samples"] > samples).any())


def beside_others(table: pd.DataFrame, file: Path, games: Collection[str]) -> pd.DataFrame:
    """``table``, of ``games``, behind the rows of other games that ``file`` has, CSV or Parquet: those stay.

    Raises
    ------
    RunError
        The columns of ``file`` are others.
    """
    if not file.exists():
        return table
    before = _read(file)
    before = before[~before["game"].isin(games)] if "game" in before else before
    if before.empty:
        return table
    if list(before.columns) != list(table.columns):
        raise RunError(
            f"{file} has a study of other games in other columns ({', '.join(before.columns)}), which would be lost; "
            "name another folder for the results, or delete that file"
        )
    return pd.concat([before, table], ignore_index=True) if len(table) else before


def made_beside_others(
    made: Mapping[str, Any], source: Path, options: Sequence[str] | None = None
) -> dict[str, Any]:
    """What ``made`` tells of the games in its ``settings``, and ``source`` of others that stay; ``by_game`` says of
    each its seeds, its steps and the ``options`` that it was asked for with, as far as they are known."""
    own = {name: made[name] for name in ("seeds", "steps") if name in made}
    own |= {"options": list(options)} if options is not None else {}
    by_game = dict.fromkeys(made["settings"], own)
    before = read_json(source, dict) if source.exists() else {}
    others = {game: told for game, told in before.get("settings", {}).items() if game not in made["settings"]}
    if not others:
        return {**made, "by_game": by_game}
    commits = {before["provenance"]["commit"], *before.get("commits", []), *made.get("commits", [])}
    return {
        **made,
        "seeds": sorted({*before["seeds"], *made["seeds"]}),
        "settings": {**others, **made["settings"]},
        "by_game": {**{game: of_game(before, game) for game in others}, **by_game},
        "commits": sorted(commits),
    }


def read_all(files: Sequence[Path]) -> pd.DataFrame:
    """The rows of all ``files``, at least one. A table without rows is left out where another has some: nothing says of
    what kind its columns are."""
    tables = [_read(file) for file in files]
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def _read(file: Path) -> pd.DataFrame:
    """A table; without rows where an older version wrote not even the names of its columns."""
    try:
        return pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=["game", "samples"])


def _beside(file: Path) -> Path:
    return file.with_suffix(".asked.json")
