"""Curves of what training logged."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from sepo_kit.figures.look import PALETTE, seeds_of
from sepo_kit.games import get_game
from sepo_kit.games.base import GameSpec

WORST_CASE = "sepo/worst_case"
CURVES = ("sepo/safety", "sepo/exploit", WORST_CASE, "sepo/collusion", "kl", "entropy")
REPLIES = (
    "sepo/reply_tokens",
    "sepo/cut_off",
    "sepo/fallback",
)  # of reasoned replies; direct ones are never cut off
PER_UNIT = "per {unit} ({payoff_unit})"
FOUND = f"worst case found\n{PER_UNIT}"
CURVE_NAMES = {
    "sepo/safety": "Safety (scaled payoff)",
    "sepo/exploit": f"exploit {PER_UNIT}",
    WORST_CASE: f"worst case {PER_UNIT}",
    "sepo/collusion": "collusion (0 to 1)",
    "kl": "KL to SFT (nats)",
    "entropy": "entropy (nats)",
    "sepo/reply_tokens": "length of a reply (tokens)",
    "sepo/cut_off": "replies cut off (0 to 1)",
    "sepo/fallback": "fallback rate (0 to 1)",
}


def training_curves(
    metrics: pd.DataFrame,
    game: str,
    smooth: int = 5,
    steps: int | None = None,
    stage: str = "sepo",
    model: str = "",
) -> Figure:
    """What training logged at each step, one panel per quantity; thin: seeds (running mean of ``smooth``
    steps), thick: their mean.

    ``metrics``: columns step, seed and those of ``metrics.jsonl``. ``steps``: how many there will be, where training
    still goes on. ``stage``: "sepo", or "worst-case" for training against best responses. ``model``: for the title.
    """
    spec = get_game(game).spec
    curves = [c for c in CURVES if c != "sepo/collusion" or spec.pools.collusive]
    shown = [c for c in (*curves, *_of_replies(metrics)) if c in metrics]
    if not shown:
        raise ValueError("the logs have no curve yet; wait for the first step")
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
        name = worst_case_name([spec], metrics) if column == WORST_CASE else CURVE_NAMES[column]
        axis.set_ylabel(name.format(unit=spec.unit, payoff_unit=spec.payoff_unit), fontsize="small")
    against = " against best responses" if stage == "worst-case" else " training"
    who = ", ".join(name for name in (spec.title, model) if name)
    told = f"{who}: SEPO{against}, sampled on the training pools ({seeds_of(metrics)})"
    figure.suptitle(told, fontsize="medium")
    return figure


def worst_case_name(specs: Sequence[GameSpec], metrics: pd.DataFrame) -> str:
    """The axis label of the worst case in the ``metrics`` of games of these ``specs``: it is exact where information
    states are few and the agent states its distributions, and elsewhere what an adversary gained that was tried."""
    known = metrics[metrics[WORST_CASE].notna()] if WORST_CASE in metrics else metrics
    found = not all(spec.few_states for spec in specs) or bool(_of_replies(known))
    name = FOUND if found else CURVE_NAMES[WORST_CASE]
    return name if len(specs) == 1 else name.replace("\n", " ").replace(PER_UNIT, "(each game's unit)")


def _of_replies(metrics: pd.DataFrame) -> tuple[str, ...]:
    """The columns that tell of reasoned replies, where there are any."""
    return REPLIES if "sepo/cut_off" in metrics and metrics["sepo/cut_off"].notna().any() else ()


def run_curves(metrics: pd.DataFrame, smooth: int = 5) -> Figure:
    """What several runs logged: a line per run (running mean of ``smooth`` steps), one panel per quantity.

    ``metrics``: ``evaluation.archive.compare``. Runs of several games have no common unit of payoff.
    """
    specs = [get_game(game).spec for game in metrics["game"].unique()]
    names = {**CURVE_NAMES, "loss": "SFT loss (nats per token)"}
    if len(specs) > 1:
        names["sepo/exploit"] = "exploit (each game's unit)"
    names[WORST_CASE] = worst_case_name(specs, metrics)
    if not any(spec.pools.collusive for spec in specs):
        del names["sepo/collusion"]
    for column in {*REPLIES} - {*_of_replies(metrics)}:
        del names[column]
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
