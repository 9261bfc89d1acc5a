"""What each way of paying decisions estimates, and where it leads."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from sepo_kit.evaluation.statistics import over_seeds
from sepo_kit.figures.look import label, seeds_of
from sepo_kit.games import get_game
from sepo_kit.objective.limits import LIMITED

MODE_COLORS = dict(
    zip(
        ("shared", "auxiliary", "grouped", "credited", "alignment"),
        (sns.color_palette("colorblind")[i] for i in (7, 4, 0, 1, 2)),
        strict=True,
    )
)


def gradient_cosines(study: pd.DataFrame, title: str) -> Figure:
    """Cosine of the mean estimate to the exact gradient, payoff part and penalty part, by credit mode.

    ``study``: ``study.estimators.estimator_study``. An estimate that is zero has no direction and is marked so.
    """
    figure, axes = plt.subplots(
        1, 2, figsize=(1 + 1.8 * study["mode"].nunique(), 3.2), sharey=True, layout="constrained"
    )
    for axis, part in zip(axes, ("payoff", "penalty"), strict=True):
        rows = study[study["part"] == part]
        axis.bar(
            range(len(rows)),
            rows["cosine"].fillna(0),
            color=[MODE_COLORS[m] for m in rows["mode"]],
            width=0.65,
        )
        for place, cosine in enumerate(rows["cosine"]):
            zero = not np.isfinite(cosine)
            axis.annotate(
                "zero\nvector" if zero else f"{cosine:.2f}",
                (place, 0.03 if zero else max(cosine, 0) + 0.02),
                ha="center",
                va="bottom",
            )
        axis.set_xticks(range(len(rows)), rows["mode"])
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_title(f"{part} part")
        axis.grid(axis="x", visible=False)
    axes[0].set_ylabel("cosine to the exact gradient")
    axes[0].set_ylim(min(-0.2, study["cosine"].min() - 0.1), 1.2)
    figure.suptitle(title)
    return figure


def credit_curves(
    logs: pd.DataFrame,
    game: str,
    columns: tuple[str, ...] = ("safety", "exploit", "collusion"),
    about: str = "exact values of a tabular policy",
) -> Figure:
    """Safety, exploit and collusion over training by variant: mean over seeds; band: 95 % interval of the mean.

    ``logs``: columns game, variant, seed, step and the terms, as ``study.estimators.training_study`` gives. Columns
    that are 0 throughout are left out. One seed, and two, have no band.
    """
    part = logs[logs["game"] == game]
    shown = [c for c in columns if part[c].abs().max() > 1e-9]
    figure, axes = plt.subplots(1, len(shown), figsize=(4 * len(shown) + 1.4, 3.3), layout="constrained")
    palette = sns.color_palette("colorblind")
    for axis, column in zip(np.atleast_1d(axes), shown, strict=True):
        for number, (variant, rows) in enumerate(part.groupby("variant", sort=False)):
            wide = rows.pivot(index="step", columns="seed", values=column)
            color = MODE_COLORS.get(variant, palette[number % len(palette)])
            axis.plot(wide.index, wide.mean(axis=1), label=variant, color=color, linewidth=2)
            if wide.shape[1] > 2:
                low, high = np.array([(e.low, e.high) for e in map(over_seeds, wide.to_numpy())]).T
                axis.fill_between(wide.index, low, high, color=color, alpha=0.2, linewidth=0)
        axis.set_xlabel("training step")
        axis.set_ylabel(label(column, game))
    np.atleast_1d(axes)[-1].legend(bbox_to_anchor=(1.02, 1), loc="upper left")
    figure.suptitle(f"{get_game(game).spec.title}: {about}, {seeds_of(part)}")
    return figure


def credit_ends(logs: pd.DataFrame, game: str) -> Figure:
    """Safety at the end of training for every mode, horizon and kind of draws; bars: 95 % interval over seeds.

    ``logs``: ``study.mechanism.run_study``; one panel per agent.
    """
    part = logs[logs["game"] == game]
    last = part[part["step"] == part.groupby("agent")["step"].transform("max")]
    agents = list(dict.fromkeys(last["agent"]))
    modes = [mode for mode in MODE_COLORS if mode in set(last["mode"])]
    figure, axes = plt.subplots(
        1,
        len(agents),
        figsize=(1.0 + 4.2 * len(agents), 3.9),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    looks = [(horizon, draws) for horizon in ("round", "return-to-go") for draws in (True, False)]
    for axis, agent in zip(axes[0], agents, strict=True):
        for number, (horizon, draws) in enumerate(looks):
            rows = last[
                (last["agent"] == agent)
                & (last["horizon"] == horizon)
                & (last["common_random_numbers"] == draws)
            ]
            found = {mode: over_seeds(v) for mode, v in rows.groupby("mode")["safety"].apply(list).items()}
            for place, mode in enumerate(modes):
                if mode not in found:
                    continue
                e, x = found[mode], place + (number - 1.5) * 0.18
                axis.plot(
                    x, e.value, color=MODE_COLORS[mode], marker="o" if horizon == "round" else "^",
                    fillstyle="full" if draws else "none", markersize=7, linestyle="",
                )  # fmt: skip
                if e.low is not None:
                    axis.vlines(x, e.low, e.high, color=MODE_COLORS[mode], linewidth=1.5)
        axis.set_xticks(range(len(modes)), modes)
        axis.set_title(agent)
        axis.grid(axis="x", visible=False)
    axes[0][0].set_ylabel(f"Safety after {int(last['step'].max())} steps")
    marks = [
        plt.Line2D([], [], color="0.3", linestyle="", markersize=7, marker="o" if horizon == "round" else "^",
                   fillstyle="full" if draws else "none",
                   label=f"{horizon}, {'common' if draws else 'independent'} draws")
        for horizon, draws in looks
    ]  # fmt: skip
    figure.legend(handles=marks, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(f"{get_game(game).spec.title}: where each way of paying decisions leads")
    return figure


def dual_ascent(log: pd.DataFrame, game: str, limits: dict[str, float]) -> Figure:
    """Limited terms and the weights that dual ascent found for them. ``log``: ``TabularRun.log``."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for name, color in zip(limits, sns.color_palette("colorblind"), strict=False):
        axes[0].plot(log["step"], log[name], color=color, label=name)
        axes[0].axhline(limits[name], color=color, linestyle="--", linewidth=1)
        axes[1].plot(log["step"], log[f"weight_{LIMITED[name]}"], color=color, label=name)
    axes[0].set_ylabel("term (dashed: its limit)")
    axes[1].set_ylabel("weight of the penalty")
    for axis in axes:
        axis.set_xlabel("training step")
        axis.legend()
    figure.suptitle(f"{get_game(game).spec.title}: limits instead of weights")
    return figure
