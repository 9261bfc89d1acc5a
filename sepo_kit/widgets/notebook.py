"""What all notebooks share: how they begin, and tables to read."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from pandas.io.formats.style import Styler

from sepo_kit import figures
from sepo_kit.pipeline.profiles import get_profile
from sepo_kit.runs import provenance
from sepo_kit.runs.project import runs_folder
from sepo_kit.widgets.common import escaped
from sepo_kit.widgets.markup import number


def begin(profile: str, runs: Path | str = "") -> tuple[float, Path]:
    """Check ``profile``, set the look of figures and say what the notebook is run with; now, by the monotonic
    clock, and the folder of its runs: ``runs``, else the project's for the profile, as ``reproduce`` has it.

    Raises
    ------
    ValueError
        Unknown profile.
    """
    get_profile(profile)
    figures.style()
    made = provenance()
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    print(f"sepo_kit {made['commit']}, Python {made['python']}, {made['machine']}\n{versions}")
    return time.monotonic(), Path(runs) if runs else runs_folder(profile)


def readable(frame: pd.DataFrame | pd.Series, digits: int | None = 3) -> Styler:
    """``frame`` as a table: words at the left of their columns and numbers at the right, heads with them.

    Numbers that are not whole have ``digits`` decimals, None: as many as they need; a zero has no minus, and a cell
    is empty where there is nothing. An index that only counts is left out.

    >>> html = readable(pd.DataFrame({"agent": ["<b>"], "payoff": [-0.00001]})).to_html()
    >>> "0.000" in html, "-0.000" in html, "&lt;b&gt;" in html
    (True, False, True)
    """
    frame = frame.to_frame() if isinstance(frame, pd.Series) else frame

    def written(value: object) -> str:
        if isinstance(value, float | np.floating):
            return "∞" if value == np.inf else number(value, "g" if digits is None else f".{digits}f")
        nothing = value is None or value is pd.NA or (isinstance(value, dict | tuple) and not value)
        return "" if nothing else escaped(value)

    sides = [{"selector": "th", "props": "text-align: left; vertical-align: bottom"}]
    sides.append({"selector": "th.row_heading", "props": "vertical-align: top"})
    for place in range(frame.shape[1]):
        side = "right" if _holds_numbers(frame.iloc[:, place]) else "left"
        sides.append({"selector": f".col{place}", "props": f"text-align: {side}; vertical-align: top"})
    style = frame.style.format(written).set_table_styles(sides)
    for axis in (0, 1):
        style = style.format_index(written, axis=axis)
    counts = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    return style.hide(axis="index") if counts else style


def _holds_numbers(column: pd.Series) -> bool:
    """Also where words stand in other columns of the same frame, as after it was turned on its side."""
    if is_numeric_dtype(column.dtype):
        return True
    told = column.dropna()
    return len(told) > 0 and all(isinstance(value, int | float | np.number) for value in told)
