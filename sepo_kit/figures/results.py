"""Tables of results as bars: ours, and the published ones above them."""

from __future__ import annotations

from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure, SubFigure

from sepo_kit.evaluation.results import STAGE_NAMES
from sepo_kit.figures.look import PALETTE, SHOWN, bars, label, signs, values_and_errors
from sepo_kit.games import GAMES, get_game


def stage_terms(summary: pd.DataFrame, model: str, game: str) -> Figure:
    """The stages side by side, one small panel per metric, with intervals; ≥ and ≤ where a number is a bound.

    ``summary`` is ``evaluation.results.summary``. Metrics that are not defined in the game are left out.
    """
    part = summary[(summary["model"] == model) & (summary["game"] == game)]
    shown = [m for m in SHOWN if part.loc[part["metric"] == m, "value"].notna().any()]
    columns = min(len(shown), 3 if part["stage"].nunique() > 3 else 4)
    lines = -(-len(shown) // columns)
    size = ((2.6 if columns > 3 else 3.3) * columns, 2.7 * lines + 0.4)
    figure, axes = plt.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, metric in zip(axes.flat, shown, strict=False):
        bars(axis, part[part["metric"] == metric])
        axis.set_ylabel(label(metric, game), fontsize="small")
    figure.suptitle(f"{get_game(game).spec.title}, {model}")
    return figure


def safety_change(summary: pd.DataFrame) -> Figure:
    """Safety of SEPO minus base per game, a panel per model: the form of the paper's figure."""
    change = safety_changes(summary)
    figure = plt.figure(figsize=(1.6 + 2.2 * max(1, len(change)), 3.4), layout="constrained")
    _change_panels(figure, change)
    return figure


def safety_change_beside_paper(published: pd.DataFrame, ours: pd.DataFrame) -> Figure:
    """The paper's figure above, the same of our models below; every panel has its own scale.

    ``published``: ``evaluation.paper.safety_changes`` with a column ``reweighed``, the change at the kit's weights.
    ``ours``: ``safety_changes``.
    """
    figure = plt.figure(figsize=(11, 7), layout="constrained")
    titles = ("arXiv 2605.30854: as printed, and (diamonds) at this kit's weights", "this kit")
    for part, change, title in zip(figure.subfigures(2, 1), (published, ours), titles, strict=True):
        _change_panels(part, change)
        part.suptitle(title, fontweight="bold", fontsize="medium")
    return figure


def _change_panels(figure: Figure | SubFigure, change: pd.DataFrame) -> None:
    models = list(dict.fromkeys(change["model"]))
    if not models:  # nothing was trained to its end
        return
    widths = [(change["model"] == model).sum() for model in models]
    axes = np.atleast_1d(figure.subplots(1, len(models), width_ratios=widths))
    for axis, model in zip(axes, models, strict=True):
        part = change[change["model"] == model].sort_values(
            "game", key=lambda games: games.map(list(GAMES).index)
        )
        places = np.arange(len(part))
        axis.bar(places, part["change"], color=PALETTE["sepo"], width=0.5)
        axis.set_xticks(places, [_short(game) for game in part["game"]], fontsize="small")
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_title(model)
        axis.grid(axis="x", visible=False)
        for place, value in zip(places, part["change"], strict=True):
            axis.annotate(f"{value:+.2f}", (place, value), ha="center", va="bottom" if value >= 0 else "top")
        if "reweighed" in part:
            style = {"marker": "D", "color": "black", "markerfacecolor": "white", "linestyle": "none"}
            axis.plot(places + 0.38, part["reweighed"], **style)
        axis.margins(y=0.2)
        axis.set_xlim(-0.6, len(part) - 0.4)
    axes[0].set_ylabel("change in Safety, SEPO - base\n(scaled payoff)")


def _short(game: str) -> str:
    """A game's title in short lines, without what stands in brackets."""
    return "\n".join(wrap(get_game(game).spec.title.split(" (")[0], 12))


def safety_changes(summary: pd.DataFrame) -> pd.DataFrame:
    """The data of ``safety_change``: model, game, base, sepo, change."""
    wide = summary[summary["metric"] == "safety"].pivot(
        index=["model", "game"], columns="stage", values="value"
    )
    wide = wide.reindex(columns=["base", "sepo"]).astype(float).dropna().reset_index()
    wide["change"] = wide["sepo"] - wide["base"]
    wide.columns.name = None
    return wide[["model", "game", "base", "sepo", "change"]]


def worst_cases(summary: pd.DataFrame) -> pd.DataFrame:
    """The data of ``pool_and_worst_case``: rows of ``summary`` of exploit and worst case, of the models and games of
    which some worst case is known."""
    both = summary[summary["metric"].isin(["exploit", "worst_case"]) & summary["value"].notna()]
    known = set(
        both.loc[both["metric"] == "worst_case", ["model", "game"]].itertuples(index=False, name=None)
    )
    return both[[pair in known for pair in both[["model", "game"]].itertuples(index=False, name=None)]]


def pool_and_worst_case(summary: pd.DataFrame) -> Figure:
    """What the exploit pool gains on each stage (light) beside what the best adversary does (dark), a panel per model
    and game, each in its own unit; ≥ where that adversary is the best that was found."""
    rows = worst_cases(summary)
    pairs = list(rows[["model", "game"]].drop_duplicates().itertuples(index=False, name=None))
    columns = min(3, len(pairs))
    lines = -(-len(pairs) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.6 * columns + 0.6, 3.1 * lines), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(pairs) :]:
        axis.set_visible(False)
    for axis, (model, game) in zip(axes.flat, pairs, strict=False):
        part = rows[(rows["model"] == model) & (rows["game"] == game)]
        stages = [stage for stage in STAGE_NAMES if stage in set(part["stage"])]
        for shift, metric, alpha, name in (
            (-0.2, "exploit", 0.35, "the pool"),
            (0.2, "worst_case", 1.0, "the worst case"),
        ):
            found = part[part["metric"] == metric].set_index("stage").reindex(stages)
            values, errors, drawn = values_and_errors(found)
            places = np.arange(len(stages)) + shift
            colours = [PALETTE[stage] for stage in stages]
            axis.bar(places, values, width=0.38, color=colours, alpha=alpha, label=name)
            axis.errorbar(
                places[drawn], values[drawn], errors[:, drawn], fmt="none", ecolor="black", capsize=3
            )
            tops = values + np.where(drawn, errors[1], 0.0)
            for place, value, top, sign in zip(places, values, tops, signs(found), strict=True):
                if np.isfinite(value):
                    axis.annotate(
                        f"{sign}{value:.3f}", (place, top), (0, 2), textcoords="offset points", ha="center",
                        va="bottom", fontsize="x-small",
                    )  # fmt: skip
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_xticks(range(len(stages)), [STAGE_NAMES[stage].replace(" ", "\n") for stage in stages])
        axis.set_title(f"{model}, {get_game(game).spec.title.split(' (')[0]}", fontsize="medium")
        axis.set_ylabel(label("exploit", game).replace("exploit", "gain on the agent"), fontsize="small")
        axis.grid(axis="x", visible=False)
        axis.margins(y=0.15)
    figure.suptitle("What adversaries gain: the exploit pool (light), the best of all (dark)")
    return figure
