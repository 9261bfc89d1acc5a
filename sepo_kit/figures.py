"""Every figure: data in, axes out. Nothing is computed here that a table does not already hold.

Colour-blind-safe colours, units on axes, intervals drawn. ``save`` writes the picture as PNG and SVG with its data
beside it as CSV.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from sepo_kit.evaluation.results import STAGE_NAMES
from sepo_kit.evaluation.statistics import over_seeds
from sepo_kit.games import GAMES, get_game
from sepo_kit.runs import replacing

PALETTE = {stage: sns.color_palette("colorblind")[i] for stage, i in (("base", 7), ("sft", 0), ("sepo", 1))}
UNITS = {
    "utility": "payoff per {unit} ({payoff_unit})",
    "exploitability": "exploit per {unit} ({payoff_unit})",
    "collusion": "collusion (0 to 1)",
    "externality": "externality (0 to 1)",
    "safety": "Safety (scaled payoff)",
    "nra": "NRA (-1 to 1)",
    "robust": "Robust per {unit} ({payoff_unit})",
    "fallback": "fallback rate (0 to 1)",
}
SHOWN = ("safety", "utility", "exploitability", "collusion", "externality", "nra", "robust")


def style() -> None:
    """The look of all figures; call once per notebook."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": 150, "axes.titlesize": "medium"})


def save(figure: Figure, data: pd.DataFrame, folder: Path | str, name: str) -> Path:
    """Write ``name``.png, .svg and .csv into ``folder``; the path of the PNG."""
    folder = Path(folder)
    for suffix in (".png", ".svg"):
        with replacing(folder / f"{name}{suffix}") as temporary:
            metadata = {"Date": None} if suffix == ".svg" else None
            figure.savefig(temporary, bbox_inches="tight", metadata=metadata)
    with replacing(folder / f"{name}.csv") as temporary:
        data.to_csv(temporary, index=False)
    return folder / f"{name}.png"


def label(metric: str, game: str) -> str:
    """Axis label of a metric, with its unit in ``game``."""
    spec = get_game(game).spec
    return UNITS[metric].format(unit=spec.unit, payoff_unit=spec.payoff_unit)


# --- tables ---------------------------------------------------------------------------------------


def stage_terms(summary: pd.DataFrame, model: str, game: str) -> Figure:
    """Base, SFT and SEPO side by side, one small panel per metric, with intervals.

    ``summary`` is ``evaluation.results.summary``. Metrics that are not defined in the game are left out.
    """
    part = summary[(summary["model"] == model) & (summary["game"] == game)]
    shown = [m for m in SHOWN if part.loc[part["metric"] == m, "value"].notna().any()]
    figure, axes = plt.subplots(1, len(shown), figsize=(2.1 * len(shown), 3.2), layout="constrained")
    for axis, metric in zip(np.atleast_1d(axes), shown, strict=True):
        _bars(axis, part[part["metric"] == metric], "stage")
        axis.set_ylabel(label(metric, game))
    figure.suptitle(f"{get_game(game).spec.title}, {model}")
    return figure


def _bars(axis: Axes, rows: pd.DataFrame, column: str) -> None:
    names = [str(name) for name in rows[column]]
    values = rows["value"].astype(float).to_numpy()
    axis.bar(range(len(rows)), values, color=[PALETTE[n] for n in names], width=0.7)
    low, high = rows["low"].astype(float).to_numpy(), rows["high"].astype(float).to_numpy()
    drawn = np.isfinite(low) & np.isfinite(high) & (high > low)
    errors = np.vstack([np.maximum(values - low, 0), np.maximum(high - values, 0)])
    axis.errorbar(
        np.flatnonzero(drawn), values[drawn], errors[:, drawn], fmt="none", ecolor="black", capsize=3
    )
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(rows)), [STAGE_NAMES[n] for n in names])
    axis.grid(axis="x", visible=False)


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
    wide = wide.astype(float).dropna(subset=["base", "sepo"]).reset_index()
    wide["change"] = wide["sepo"] - wide["base"]
    wide.columns.name = None
    return wide[["model", "game", "base", "sepo", "change"]]


# --- training -------------------------------------------------------------------------------------

CURVES = ("sepo/safety", "sepo/exploitability", "sepo/collusion", "kl", "entropy")
CURVE_NAMES = {
    "sepo/safety": "Safety (scaled payoff)",
    "sepo/exploitability": "exploit per {unit} ({payoff_unit})",
    "sepo/collusion": "collusion (0 to 1)",
    "kl": "KL to SFT (nats)",
    "entropy": "entropy (nats)",
}


def training_curves(metrics: pd.DataFrame, game: str, smooth: int = 5, steps: int | None = None) -> Figure:
    """What training logged at each step, one panel per quantity; thin: seeds (running mean of ``smooth``
    steps), thick: their mean.

    ``metrics``: columns step, seed and those of ``metrics.jsonl``. ``steps``: how many there will be, where training
    still goes on.
    """
    spec = get_game(game).spec
    shown = [c for c in CURVES if c in metrics and not (c == "sepo/collusion" and not spec.pools.collusive)]
    columns = 2 if len(shown) == 4 else min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = plt.figure(figsize=(8.7 if columns > 1 else 4, 2.4 * rows + 0.4), layout="constrained")
    for place, column in enumerate(shown, start=1):
        axis = figure.add_subplot(rows, columns, place)
        wide = (
            metrics.pivot(index="step", columns="seed", values=column).rolling(smooth, min_periods=1).mean()
        )
        marker = "." if len(wide) < 3 else None  # a line of one point cannot be seen
        axis.plot(wide.index, wide, color=PALETTE["sepo"], linewidth=0.8, alpha=0.5)
        axis.plot(wide.index, wide.mean(axis=1), color=PALETTE["sepo"], linewidth=2.2, marker=marker)
        if steps:
            axis.set_xlim(0.5, steps + 0.5)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_xlabel("training step")
        axis.set_ylabel(CURVE_NAMES[column].format(unit=spec.unit, payoff_unit=spec.payoff_unit))
    seeds = metrics["seed"].nunique()
    figure.suptitle(
        f"{spec.title}: SEPO training, sampled on the training pools ({seeds} seed{'s' if seeds > 1 else ''})"
    )
    return figure


def run_curves(metrics: pd.DataFrame, smooth: int = 5) -> Figure:
    """What several runs logged: a line per run (running mean of ``smooth`` steps), one panel per quantity.

    ``metrics``: ``evaluation.archive.compare``. Runs of several games have no common unit of payoff.
    """
    specs = [get_game(game).spec for game in metrics["game"].unique()]
    names = {**CURVE_NAMES, "loss": "SFT loss (nats per token)"}
    if len(specs) > 1:
        names["sepo/exploitability"] = "exploit (each game's unit)"
    if not any(spec.pools.collusive for spec in specs):
        del names["sepo/collusion"]
    shown = [column for column in names if column in metrics and metrics[column].notna().any()]
    rows = max(1, -(-len(shown) // 3))
    figure, axes = plt.subplots(
        rows,
        3,
        figsize=(10, 2.7 * rows + 0.25 * metrics["run"].nunique()),
        layout="constrained",
        squeeze=False,
    )
    palette = sns.color_palette("colorblind")
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, column in zip(axes.flat, shown, strict=False):
        for place, (run, part) in enumerate(metrics.groupby("run", sort=False)):
            dashes = ("-", "--", ":")[place // len(palette) % 3]
            curve = part[column].rolling(smooth, min_periods=1).mean()
            axis.plot(part["step"], curve, dashes, color=palette[place % len(palette)], label=run)
        axis.set_xlabel("training step")
        axis.set_ylabel(names[column].format(unit=specs[0].unit, payoff_unit=specs[0].payoff_unit))
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower left", fontsize="small")
    return figure


def loss_curve(metrics: pd.DataFrame, title: str) -> Figure:
    """Loss of the warm start by step, one line per seed. ``metrics``: columns step, seed, loss."""
    figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
    for seed, part in metrics.groupby("seed"):
        axis.plot(part["step"], part["loss"], label=f"seed {seed}", linewidth=1.2)
    axis.set_xlabel("training step")
    axis.set_ylabel("loss on the reply (nats per token)")
    axis.set_title(title)
    axis.legend()
    return figure


# --- games ----------------------------------------------------------------------------------------


def cross_play(pairs: pd.DataFrame, game: str) -> Figure:
    """What the row earns from the column per round, all strategies of a game, in the game's own order.

    ``pairs``: ``evaluation.cross_play.cross_play``.
    """
    spec = get_game(game).spec
    order = list(dict.fromkeys(pairs["agent"]))
    wide = pairs.pivot(index="agent", columns="opponent", values="own").loc[order, order]
    wide = wide + 0.0  # no minus in front of a zero
    low, high = spec.payoff_bounds
    figure, axis = plt.subplots(
        figsize=(2.2 + 0.62 * len(order), 1.6 + 0.46 * len(order)), layout="constrained"
    )
    sns.heatmap(
        wide, ax=axis, annot=True, fmt=".2f", cmap="cividis", vmin=max(low, wide.min().min()),
        vmax=min(high, wide.max().max()), linewidths=0.5, annot_kws={"size": 9},
        cbar_kws={"label": f"payoff per {spec.unit} ({spec.payoff_unit})"},
    )  # fmt: skip
    axis.set_xlabel("against")
    axis.set_ylabel("")
    axis.tick_params(axis="x", rotation=40)
    plt.setp(axis.get_xticklabels(), ha="right")
    axis.set_title(f"{spec.title}: what the row earns")
    return figure


# --- credit ---------------------------------------------------------------------------------------

MODE_COLORS = dict(
    zip(
        ("shared", "auxiliary", "grouped", "credited"),
        (sns.color_palette("colorblind")[i] for i in (7, 4, 0, 1)),
        strict=True,
    )
)


def gradient_cosines(study: pd.DataFrame, title: str) -> Figure:
    """Cosine of the mean estimate to the exact gradient, payoff part and penalty part, by credit mode.

    ``study``: ``training.study.estimator_study``. An estimate that is zero has no direction and is marked so.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
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
    columns: tuple[str, ...] = ("safety", "exploitability", "collusion"),
    about: str = "exact values of a tabular policy",
) -> Figure:
    """Safety, exploit and collusion over training by variant: mean over seeds; band: 95 % interval of the mean.

    ``logs``: columns game, variant, seed, step and the terms, as ``training.study.training_study`` gives. Columns
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
    seeds = part["seed"].nunique()
    figure.suptitle(f"{get_game(game).spec.title}: {about}, {seeds} seed{'s' if seeds > 1 else ''}")
    return figure


def credit_ends(logs: pd.DataFrame, game: str) -> Figure:
    """Safety at the end of training for every mode, horizon and kind of draws; bars: 95 % interval over seeds.

    ``logs``: ``training.mechanism.run_study``; one panel per agent.
    """
    part = logs[logs["game"] == game]
    last = part[part["step"] == part.groupby("agent")["step"].transform("max")]
    agents = list(dict.fromkeys(last["agent"]))
    modes = [mode for mode in MODE_COLORS if mode in set(last["mode"])]
    figure, axes = plt.subplots(
        1,
        len(agents),
        figsize=(1.6 + 3.4 * len(agents), 3.4),
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
    axes[0][-1].legend(handles=marks, bbox_to_anchor=(1.02, 1), loc="upper left")
    figure.suptitle(f"{get_game(game).spec.title}: where each way of paying decisions leads")
    return figure


def dual_ascent(log: pd.DataFrame, game: str, limits: dict[str, float]) -> Figure:
    """Limited terms and the weights that dual ascent found for them. ``log``: ``TabularRun.log``."""
    names = {"exploit": "exploitability", "collusion": "collusion", "externality": "externality"}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for name, color in zip(limits, sns.color_palette("colorblind"), strict=False):
        axes[0].plot(log["step"], log[names[name]], color=color, label=name)
        axes[0].axhline(limits[name], color=color, linestyle="--", linewidth=1)
        axes[1].plot(log["step"], log[f"weight_{name}"], color=color, label=name)
    axes[0].set_ylabel("term (dashed: its limit)")
    axes[1].set_ylabel("weight of the penalty")
    for axis in axes:
        axis.set_xlabel("training step")
        axis.legend()
    figure.suptitle(f"{get_game(game).spec.title}: limits instead of weights")
    return figure


# --- policies -------------------------------------------------------------------------------------


def kuhn_policies(policies: pd.DataFrame) -> Figure:
    """Probability of putting in a chip (BET or CALL) at each information state of Kuhn poker, by agent.

    ``policies``: one row per agent, one column per information state in OpenSpiel's notation.
    """
    order = [card + moves for moves in ("", "p", "b", "pb") for card in "JQK"]
    heads = {"": "first to act", "p": "after a pass", "b": "facing a bet", "pb": "passed, facing a bet"}
    figure, axes = plt.subplots(
        1, 4, figsize=(11, 0.9 + 0.42 * len(policies)), sharey=True, layout="constrained"
    )
    for axis, (moves, head) in zip(axes, heads.items(), strict=True):
        columns = [c for c in order if c[1:] == moves]
        sns.heatmap(
            policies[columns].rename(columns=lambda c: c[0]), ax=axis, vmin=0, vmax=1, cmap="cividis",
            annot=True, fmt=".2f", cbar=False, linewidths=0.5,
        )  # fmt: skip
        axis.set_title(head)
        axis.set_xlabel("card")
        axis.set_ylabel("")
        axis.tick_params(axis="y", rotation=0)
    figure.suptitle("Kuhn poker: probability of BET or CALL")
    return figure


def kuhn_frequencies(frequencies: pd.DataFrame) -> Figure:
    """How often each card bets and calls in Kuhn poker, an agent a row.

    ``frequencies``: index agent, columns bet_j, bet_q, bet_k, call_j, call_q, call_k.
    """
    figure, axes = plt.subplots(
        1, 2, figsize=(8, 0.9 + 0.36 * len(frequencies)), sharey=True, layout="constrained"
    )
    for axis, (move, head) in zip(axes, {"bet": "may bet", "call": "facing a bet"}.items(), strict=True):
        part = frequencies[[f"{move}_{card}" for card in "jqk"]].set_axis(list("JQK"), axis=1)
        sns.heatmap(
            part, ax=axis, vmin=0, vmax=1, cmap="cividis", annot=True, fmt=".2f", cbar=False, linewidths=0.5
        )
        axis.set_title(head)
        axis.set_xlabel("card")
        axis.set_ylabel("")
        axis.tick_params(axis="y", rotation=0)
    figure.suptitle("Kuhn poker: probability of BET or CALL, by card")
    return figure


def demonstration_counts(counts: pd.DataFrame, title: str, most: int = 9) -> Figure:
    """Records per demonstrator and action; of more than ``most`` actions, the rare ones are one.

    ``counts``: columns demonstrator, action, records.
    """
    wide = counts.pivot(index="demonstrator", columns="action", values="records").fillna(0)
    wide = wide.loc[wide.sum(axis=1).sort_values().index]
    if wide.shape[1] > most:
        frequent = wide.sum().nlargest(most - 1).index
        rare = wide.columns.difference(frequent)
        wide = wide[frequent].assign(**{f"{len(rare)} others": wide[rare].sum(axis=1)})
    figure, axis = plt.subplots(figsize=(7, 0.9 + 0.4 * len(wide)), layout="constrained")
    left = np.zeros(len(wide))
    for action, color in zip(wide.columns, sns.color_palette("colorblind", len(wide.columns)), strict=True):
        axis.barh(wide.index, wide[action], left=left, label=action, color=color)
        left += wide[action].to_numpy()
    axis.set_xlabel("records")
    axis.set_title(title)
    axis.legend(title="action", bbox_to_anchor=(1.01, 1), loc="upper left")
    axis.grid(axis="y", visible=False)
    return figure
