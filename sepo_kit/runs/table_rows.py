"""Rows of a published table: which are asked for, and which of its agents they are of."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sepo_kit.runs.files import RunError

TABLES = (".csv", ".parquet")
SHOWN = 12  # values or rows that a message lists


def read_rows(file: Path | str) -> list[dict[str, str]]:
    """The rows of a CSV or Parquet file, every cell as text; a whole number has no decimals, what is missing is "".

    Raises
    ------
    RunError
        It is neither, or broken.
    """
    file = Path(file)
    if file.suffix not in TABLES:
        raise RunError(f"{file} has no rows; --row is for tables: {', '.join(TABLES)}")
    try:
        if file.suffix == ".parquet":
            from pyarrow.parquet import read_table

            rows = read_table(file).to_pylist()
        else:
            with open(file, encoding="utf-8", newline="") as lines:
                rows = list(csv.DictReader(lines, restkey="more"))
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{file} cannot be read ({error}); put it back: git checkout {file}") from None
    return [{str(name): plain(cell) for name, cell in row.items()} for row in rows]


def plain(cell: object) -> str:
    """A cell as text.

    >>> plain("0.0"), plain(2.5), plain(None), plain("sepo"), plain(float("nan")), plain(True)
    ('0', '2.5', '', 'sepo', '', 'True')
    """
    if cell is None or cell != cell:
        return ""
    try:
        number = float(cell) if not isinstance(cell, bool) else None
    except (TypeError, ValueError):
        number = None
    if number is None or not number.is_integer() or abs(number) >= 1e15:
        return str(cell)
    return str(int(number))


def chosen(
    rows: Sequence[Mapping[str, str]], wanted: Mapping[str, str], file: Path
) -> list[Mapping[str, str]]:
    """Those of ``rows`` whose cells are ``wanted``.

    Raises
    ------
    RunError
        There is none; the message says which values the column has that none of them fits.
    """
    left = list(rows)
    for column, value in wanted.items():
        if not rows or column not in rows[0]:
            raise RunError(f"{file} has no column {column}; it has: {', '.join(rows[0]) if rows else 'none'}")
        fitting = [row for row in left if row[column] == plain(value)]
        if not fitting:
            there = list(dict.fromkeys(row[column] or "nothing" for row in left))
            more = f", ... ({len(there)} in all)" if len(there) > SHOWN else ""
            raise RunError(
                f"{file} has no such row with {column}={value}; {column} is there: {', '.join(there[:SHOWN])}{more}"
            )
        left = fitting
    return left


def pairs(words: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` words as a mapping.

    Raises
    ------
    RunError
        A word is none, or a name is there twice.

    >>> pairs(["model=pico", "seed=0"])
    {'model': 'pico', 'seed': '0'}
    """
    found = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise RunError(f"--row must be NAME=VALUE, such as model=pico, got {word!r}")
        if name in found:
            raise RunError(
                f"--row names {name} twice, as {found[name]!r} and as {value!r}; leave one of them out"
            )
        found[name] = value
    return found


def is_of(name: str, chain: Sequence[Mapping[str, Any]], row: Mapping[str, str]) -> bool:
    """Whether ``row`` is of the agent called ``name`` in a table's chains: "MODEL on GAME, STAGE, seed N"."""
    if not chain or not {"model", "game", "stage"} <= row.keys():
        return False
    last = chain[-1]
    same = name.startswith(f"{row['model']} on {row['game']}, ") and last.get("stage") == row["stage"]
    return same and (not row.get("seed") or plain(last.get("seed")) == row["seed"])


def in_words(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The rows for a terminal, the first few of many."""
    told = [", ".join(f"{name} {cell}" for name, cell in row.items() if cell) for row in rows[:SHOWN]]
    return told + ([f"and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else [])
