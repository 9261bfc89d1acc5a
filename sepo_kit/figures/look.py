"""What all figures share: the look, colours, axis labels with units, and how they are saved."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from IPython.display import HTML, display
from matplotlib.figure import Figure

from sepo_kit.games import get_game
from sepo_kit.runs import file_hash, replacing, sealed, write_csv, write_json

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


def save(figure: Figure, data: pd.DataFrame, folder: Path | str, name: str) -> Path:
    """Write ``name``.png, .svg and .csv into ``folder``, and ``name``.json with the hash of the data; the path of the
    PNG."""
    folder = Path(folder)
    for suffix in (".png", ".svg"):
        with replacing(folder / f"{name}{suffix}") as temporary:
            metadata = {"Date": None} if suffix == ".svg" else None
            with plt.rc_context({"svg.hashsalt": "sepo_kit"}):  # or each file has ids of its own
                figure.savefig(temporary, bbox_inches="tight", metadata=metadata)
    written = folder / f"{name}.csv"
    write_csv(written, data)
    write_json(folder / f"{name}.json", sealed({"files": {written.name: file_hash(written)}}))
    return folder / f"{name}.png"


def label(metric: str, game: str) -> str:
    """Axis label of a metric, with its unit in ``game``."""
    spec = get_game(game).spec
    return UNITS[metric].format(unit=spec.unit, payoff_unit=spec.payoff_unit)
