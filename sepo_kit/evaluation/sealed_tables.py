"""The JSON file that tells of several tables, of which a run writes some: how each was made, and their hashes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sepo_kit.runs import RunError, file_hash, problems, read_json, sealed, write_json
from sepo_kit.runs.seals import SEAL

FILES, EARLIER = "files", "earlier"  # hashes by file; of files of earlier runs, what they were made with


def seal_written(
    source: Path | str,
    made_with: Mapping[str, Any],
    written: Iterable[Path | str],
    known: Iterable[Path | str] = (),
) -> list[str]:
    """Write ``source``, which tells of the tables beside it, after a run that wrote some of them.

    A table that was not ``written`` keeps the hash that ``source`` has of it, under ``earlier`` with what it was made
    with: this run says nothing of it. Where nothing was written ``source`` stays as it is.

    Parameters
    ----------
    made_with
        What the written tables were made with, by name.
    known
        All tables that ``source`` may tell of.

    Returns
    -------
    list of str
        What is not as it should be, in plain sentences: tables of which nothing says how they were made, tables that
        have changed since they were written. [] if nothing is.
    """
    source, written = Path(source), [Path(file) for file in written]
    before, said = _before(source)
    names = {file.name for file in written}
    kept = {name: sha for name, sha in before.get(FILES, {}).items() if name not in names}
    own = {name: value for name, value in before.items() if name not in (FILES, EARLIER, SEAL)}
    earlier = {name: before.get(EARLIER, {}).get(name, own) for name in kept}
    if written:
        told = {**made_with, **({EARLIER: earlier} if earlier else {})}
        write_json(source, sealed({**told, FILES: kept | {file.name: file_hash(file) for file in written}}))
    uncovered = [file for file in map(Path, known) if file.name not in names | kept.keys() and file.exists()]
    said += [
        f"{file} is of another run, and {source.name} does not say how it was made" for file in uncovered
    ]
    return said + (problems(source) if source.exists() else [])


def _before(source: Path) -> tuple[dict[str, Any], list[str]]:
    """What ``source`` told, and why nothing of it is taken over where it is damaged."""
    if not source.exists():
        return {}, []
    try:
        value = read_json(source, dict)
    except RunError as error:
        return {}, [str(error)]
    rest = {name: each for name, each in value.items() if name != SEAL}
    whole = all(isinstance(value.get(name, {}), dict) for name in (FILES, EARLIER))
    if not whole or sealed(rest) != value:
        return {}, [f"{source} had changed since it was written: what it told of other tables is left out"]
    return rest, []
