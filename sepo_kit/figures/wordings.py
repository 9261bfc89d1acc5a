"""One agent in several wordings of its game, drawn."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sepo_kit.evaluation.results import STAGE_NAMES
from sepo_kit.figures.look import PALETTE, label, values_and_errors
from sepo_kit.games import get_game


def in_other_words(
    table: pd.DataFrame, model: str, game: str, metrics: Sequence[str] = ("payoff", "safety", "worst_case")
) -> Figure:
    """Each stage of a model in each wording: a dot a seed with its interval; the wording of the training comes first.

    ``table``: ``evaluation.wordings.prompt_invariance_of``.
    """
    part = table[(table["model"] == model) & (table["game"] == game)]
    names, stages = list(dict.fromkeys(part["wording"])), list(dict.fromkeys(part["stage"]))
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(3.4 * len(metrics) + 0.8, 3.4), layout="constrained", squeeze=False
    )
    for axis, metric in zip(axes.flat, metrics, strict=True):
        for number, stage in enumerate(stages):
            rows = part[(part["metric"] == metric) & (part["stage"] == stage)]
            values, errors, _ = values_and_errors(rows)
            places = np.array([names.index(name) for name in rows["wording"]], dtype=float)
            places += 0.16 * (number - (len(stages) - 1) / 2)
            axis.errorbar(
                places, values, np.nan_to_num(errors), fmt="o", markersize=4, capsize=2, color=PALETTE[stage],
                label=STAGE_NAMES[stage],
            )  # fmt: skip
        axis.axvline(0.5, color="0.7", linewidth=0.8)
        axis.set_xticks(range(len(names)), names, fontsize="small", rotation=30)
        axis.set_ylabel(label(metric, game), fontsize="small")
        axis.grid(axis="x", visible=False)
    figure.legend(
        *axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small"
    )
    figure.suptitle(
        f"{model}, {get_game(game).spec.title}: in the words of its training, and in others",
        fontsize="medium",
    )
    return figure
