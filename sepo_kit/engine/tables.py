"""Recorded play as files: a table of decisions, and beside it a table of rounds, each whole or not there."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sepo_kit.runs import replacing

EPISODE = ("pool", "opponent", "group", "index")  # the columns that name an episode of a table


def rounds_file(file: Path | str) -> Path:
    """Where the rounds of the decisions in ``file`` are.

    >>> rounds_file("results/base.parquet").name
    'base.rounds.parquet'
    """
    return Path(file).with_suffix(".rounds.parquet")


def write_tables(file: Path | str, decisions: pd.DataFrame, rounds: pd.DataFrame) -> None:
    """Write ``decisions`` as ``file`` and ``rounds`` beside it; the decisions last, so that they never stand alone."""
    for path, frame in ((rounds_file(file), rounds), (Path(file), decisions)):
        with replacing(path) as temporary:
            frame.to_parquet(temporary, index=False)
