"""The studies of rivals drawn: ablations where they end, late training on its way. Exploiters: ``exploiters.py``."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from sepo_kit.figures.exploiters import exploiter_curves
from sepo_kit.figures.look import label, seeds_of
from sepo_kit.games import get_game
from sepo_kit.study.rivals import ends

SHOWN = ("safety", "payoff", "worst_case")
COLORS = sns.color_palette("colorblind")


def ablation_ends(logs: pd.DataFrame, game: str, agent: str = "pico") -> Figure:
    """Safety, payoff and the worst case where each run ended: small, seeds; large, their mean; a line through the mean
    of the first rival, from which the others differ in one setting.

    ``logs``: ``study.rivals.read_rivals``. Where the worst case has bounds only, a line joins them.
    """
    part = logs[(logs["game"] == game) & (logs["agent"] == agent)]
    last = ends(part)
    rivals = list(dict.fromkeys(last["rival"]))
    places = dict(zip(rivals, range(len(rivals))[::-1], strict=True))
    figure, axes = plt.subplots(
        1, len(SHOWN), figsize=(12, 1.2 + 0.3 * len(rivals)), sharey=True, layout="constrained"
    )
    rows = last["rival"].map(places)
    for axis, metric in zip(axes, SHOWN, strict=True):
        means = last.groupby("rival", sort=False)[metric].mean()
        axis.axvline(means[rivals[0]], color="0.6", linewidth=1)
        if metric == "worst_case":
            axis.hlines(rows, last[metric], last["worst_case_upper"], color=COLORS[0], linewidth=1, alpha=0.4)
        axis.plot(last[metric], rows, "o", color=COLORS[0], alpha=0.5, markersize=4)
        axis.plot(means, means.index.map(places), "D", color=COLORS[1], markersize=7, markeredgecolor="white")
        axis.set_xlabel(label(metric, game))
    axes[0].set_yticks(np.arange(len(rivals))[::-1], rivals)
    figure.suptitle(f"{get_game(game).spec.title}: {agent}, {seeds_of(part)}, one setting changed at a time")
    return figure


def late_curves(logs: pd.DataFrame, game: str, agent: str = "pico") -> Figure:
    """Safety and the worst case over four times the published steps, by rival: mean over seeds, and each seed.

    ``logs``: ``study.rivals.read_rivals``. A vertical line: where the published training ends. Where the worst case has
    bounds only, the line is the lower one, and the area above it reaches to the upper one; where nothing is known,
    Safety stands alone.
    """
    part = logs[(logs["game"] == game) & (logs["agent"] == agent)]
    metrics = [metric for metric in ("safety", "worst_case") if part[metric].notna().any()]
    size = (5.5 * len(metrics), 4)
    figure, axes = plt.subplots(1, len(metrics), figsize=size, layout="constrained", squeeze=False)
    axes = axes[0]
    widths = np.linspace(
        3.5, 1.5, max(2, part["rival"].nunique())
    )  # where they lie on one another all are seen
    for color, width, (rival, rows) in zip(COLORS, widths, part.groupby("rival", sort=False), strict=False):
        for axis, metric in zip(axes, metrics, strict=True):
            wide = rows.pivot(index="step", columns="seed", values=metric)
            axis.plot(wide.index, wide, color=color, linewidth=1, alpha=0.35)
            axis.plot(wide.index, wide.mean(axis=1), color=color, linewidth=width, label=rival)
        bounds = rows.groupby("step")[["worst_case", "worst_case_upper"]].mean()
        if (bounds["worst_case_upper"] > bounds["worst_case"]).any():
            axes[-1].fill_between(bounds.index, *bounds.to_numpy().T, color=color, alpha=0.12, linewidth=0)
    for axis, metric in zip(axes, metrics, strict=True):
        axis.axvline(part["step"].max() / 4, color="0.6", linewidth=1, linestyle="--")
        axis.set_xlabel("training step")
        axis.set_ylabel(label(metric, game))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"{get_game(game).spec.title}: {agent}, {seeds_of(part)}, four times the published steps")
    return figure


# How ``sepo-kit study`` draws what it has run, by the study's name.
STUDIES = {"exploiters": exploiter_curves, "ablations": ablation_ends, "late": late_curves}
