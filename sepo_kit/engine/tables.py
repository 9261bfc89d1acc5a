"""Recorded play as files: a table of decisions, and beside it a table of rounds, each whole or not there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api import types

from sepo_kit.runs import RunError, first_line, replacing

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


# What the columns of recorded play hold, where they are there.
NUMBERS = (
    "group", "index", "seed", "round", "own", "their", "collusion", "externality", "seat", "move", "step",
)  # fmt: skip
WHOLE = ("group", "index", "seed", "round", "seat", "move", "step")
OPEN = ("log_prob", "reward", "advantage")  # numbers that may be undefined
WORDS = ("game", "pool", "opponent", "information", "action")


def read_table(file: Path | str, needed: Iterable[str] = ()) -> pd.DataFrame:
    """A table of recorded play, from anywhere, with its columns ``needed`` and values that can be reckoned with.

    Raises
    ------
    RunError
        The file is missing, broken, or holds something else; one line says what.
    """
    file = Path(file)
    try:
        frame = pd.read_parquet(file)
    except MemoryError:
        raise
    except FileNotFoundError:
        raise RunError(f"{file} cannot be read (it is missing); put it back, or make it again") from None
    except Exception as error:  # pyarrow's are of many kinds, and corrupt files bring out more
        raise RunError(
            f"{file} cannot be read ({first_line(error)}); put it back, or make it again"
        ) from None
    missing = sorted(set(needed) - set(frame))
    wrong = [name for name in NUMBERS if name in frame and not _reckonable(frame[name])]
    wrong += [
        name
        for name in WHOLE
        if name in frame and name not in wrong and (frame[name].to_numpy(float) % 1).any()
    ]
    wrong += [name for name in OPEN if name in frame and not _reckonable(frame[name], undefined=True)]
    wrong += [
        name for name in WORDS if name in frame and not all(isinstance(value, str) for value in frame[name])
    ]
    if missing or wrong:
        what = f"missing: {', '.join(missing)}" if missing else f"no usable values in: {', '.join(wrong)}"
        raise RunError(
            f"{file} is no recorded play of this version ({what}); name another, or make it again with this one"
        )
    return frame


def _reckonable(column: pd.Series, undefined: bool = False) -> bool:
    if isinstance(column, pd.DataFrame):  # two columns of one name
        return False
    if undefined and column.isna().all():  # of no kind then: an agent that answers in text states no log_prob
        return True
    if not types.is_numeric_dtype(column) or types.is_complex_dtype(column):
        return False
    values = column.to_numpy(dtype=float, na_value=np.nan)
    return bool((np.isfinite(values) | (undefined & np.isnan(values))).all())
