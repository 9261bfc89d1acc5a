"""What all figures share: the look, colours, axis labels with units, and how they are saved."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sepo_kit.evaluation.results import STAGE_NAMES
from sepo_kit.games import get_game
from sepo_kit.runs import replacing, write_csv, write_sealed

PALETTE = {
    stage: sns.color_palette("colorblind")[i]
    for stage, i in (("base", 7), ("sft", 0), ("sepo", 1), ("worst-case", 2))
}
UNITS = {
    "payoff": "payoff per {unit} ({payoff_unit})",
    "exploit": "exploit per {unit} ({payoff_unit})",
    "collusion": "collusion (0 to 1)",
    "externality": "externality (0 to 1)",
    "worst_case": "worst case per {unit} ({payoff_unit})",
    "safety": "Safety (scaled payoff)",
    "guaranteed": "guaranteed Safety (scaled payoff)",
    "nra": "NRA (-1 to 1)",
    "robust": "Robust per {unit} ({payoff_unit})",
    "fallback": "fallback rate (0 to 1)",
}
SHOWN = (
    "safety",
    "guaranteed",
    "payoff",
    "exploit",
    "worst_case",
    "collusion",
    "externality",
    "nra",
    "robust",
)


NO_INTERVAL = 1e-9  # an interval no wider is rounding
# Where JupyterLab is dark, light turns into dark and hues stay what they are: pictures are drawn once, for paper.
DARK_PICTURES = """
[data-jp-theme-light="false"] .jp-RenderedImage img, [data-jp-theme-light="false"] .sepo-page img {
  filter: invert(0.88) hue-rotate(180deg) }
"""


def style() -> None:
    """The look of all figures; call once per notebook, where it also has pictures follow a dark theme."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": 150, "axes.titlesize": "medium"})
    if get_ipython() is not None:
        display(HTML(f"<style>{DARK_PICTURES}</style>"))


def save(
    figure: Figure, data: pd.DataFrame, folder: Path | str, name: str, table: Path | str | None = None
) -> Path:
    """Write ``name``.png, .svg and .csv into ``folder``, and ``name``.json with the hash of the data; the path of the
    PNG. ``table``: the JSON file beside the table that it was drawn from, by which ``sepo-kit trace`` finds its
    runs."""
    folder = Path(folder)
    for suffix in (".png", ".svg"):
        with replacing(folder / f"{name}{suffix}") as temporary:
            metadata = {"Date": None} if suffix == ".svg" else None
            with plt.rc_context({"svg.hashsalt": "sepo_kit"}):  # or each file has ids of its own
                figure.savefig(temporary, bbox_inches="tight", metadata=metadata)
    written = folder / f"{name}.csv"
    write_csv(written, data)
    drawn_from = {} if table is None else {"table": os.path.relpath(table, folder)}
    write_sealed(folder / f"{name}.json", drawn_from, [written])
    return folder / f"{name}.png"


def values_and_errors(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``value`` of N rows, shape (N,), how far ``low`` and ``high`` are below and above it, shape (2, N), and which of
    them have an interval at all, shape (N,)."""
    values, low, high = (rows[name].astype(float).to_numpy() for name in ("value", "low", "high"))
    errors = np.vstack([np.maximum(values - low, 0), np.maximum(high - values, 0)])
    return values, errors, np.isfinite(low) & np.isfinite(high) & (high - low > NO_INTERVAL)


def signs(rows: pd.DataFrame) -> list[str]:
    """Of N rows of ``evaluation.results.summary`` the sign of those that are bounds: ≥, ≤ or nothing."""
    if "bound" not in rows:
        return [""] * len(rows)
    return [{"at least": "≥", "at most": "≤"}.get(bound, "") for bound in rows["bound"]]


def bars(axis: Axes, rows: pd.DataFrame) -> None:
    """A bar for each of the N ``rows`` of ``evaluation.results.summary``, of one metric: its stage, and its model where
    there are several; with its interval, and ≥ or ≤ where it is a bound."""
    values, errors, drawn = values_and_errors(rows)
    places = np.arange(len(rows))
    axis.bar(places, values, color=[PALETTE[stage] for stage in rows["stage"]], width=0.7)
    axis.errorbar(places[drawn], values[drawn], errors[:, drawn], fmt="none", ecolor="black", capsize=3)
    for place, sign in enumerate(signs(rows)):
        if sign and np.isfinite(values[place]):
            up = values[place] >= 0
            reach = (errors[1, place] if up else -errors[0, place]) if drawn[place] else 0.0
            style = {"textcoords": "offset points", "ha": "center", "va": "bottom" if up else "top"}
            axis.annotate(sign, (place, values[place] + reach), (0, 2 if up else -2), **style)
            axis.margins(y=0.15)
    axis.axhline(0, color="black", linewidth=0.8)
    if not values.any():
        axis.set_ylim(-0.05, 1.0)  # that it is 0 is seen on a scale of its own only
    names = [STAGE_NAMES[stage].replace(" ", "\n") for stage in rows["stage"]]
    if rows["model"].nunique() > 1:
        names = [f"{model}\n{name}" for model, name in zip(rows["model"], names, strict=True)]
    axis.set_xticks(places, names, fontsize="x-small" if len(rows) > 3 else "small")
    axis.grid(axis="x", visible=False)


def seeds_of(rows: pd.DataFrame) -> str:
    """How many seeds there are in ``rows``, for a title."""
    count = rows["seed"].nunique()
    return f"{count} seed{'s' if count != 1 else ''}"


def label(metric: str, game: str) -> str:
    """Axis label of a metric, with its unit in ``game``."""
    spec = get_game(game).spec
    return UNITS[metric].format(unit=spec.unit, payoff_unit=spec.payoff_unit)
