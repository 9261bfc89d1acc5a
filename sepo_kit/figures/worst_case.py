"""What the pool misses, drawn: payoff against worst case, the adversary's lead hand by hand, Kuhn's equilibria beside
the policies, and what two copies of an agent come to."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sepo_kit.figures.look import PALETTE, bars, label
from sepo_kit.games import get_game

COLORS = {**PALETTE, "scripted": (0.76, 0.76, 0.76)}
MARKERS = ("o", "s", "^", "D", "v", "P")  # one a model
FAMILY = sns.color_palette("colorblind")[4]
SITUATIONS = {"": "first to act", "p": "after a pass", "b": "facing a bet", "pb": "passed, facing a bet"}
NAMED = 14  # strategies that get their names


def payoff_and_worst_case(points: pd.DataFrame, game: str, family: pd.DataFrame | None = None) -> Figure:
    """Payoff over worst case: the upper left is best. Grey: scripted strategies; a line to the right: the worst case
    lies on it; an arrow: it is only known from below.

    ``points``: ``evaluation.worst_cases.landscape``; ``family``: ``.equilibria``, drawn as a line.
    """
    figure, axis = plt.subplots(figsize=(8.4, 4.8), layout="constrained")
    scripted = points[points["kind"] == "scripted"]
    axis.plot(
        scripted["worst_case"], scripted["payoff"], "o", color=COLORS["scripted"], label="scripted", zorder=2
    )
    _name(axis, scripted)
    if family is not None:
        axis.plot(family["worst_case"], family["payoff"], color=FAMILY, linewidth=5, alpha=0.6, zorder=1,
                  solid_capstyle="round", label="equilibria, α from 0 (top) to 1/3")  # fmt: skip
    trained = points[points["kind"] != "scripted"]
    models = list(dict.fromkeys(trained["agent"].str.split(" ").str[0]))
    for (agent, kind), part in trained.groupby(["agent", "kind"], sort=False):
        marker = MARKERS[models.index(agent.split(" ")[0]) % len(MARKERS)]
        style = {"color": COLORS[kind], "marker": marker, "markeredgecolor": "black", "linestyle": "none"}
        axis.plot(part["worst_case"], part["payoff"], label=agent, zorder=4, **style)
        for row in part.itertuples():
            _reach(axis, row, COLORS[kind])
    smallest = _smallest(points)
    axis.set_xscale("symlog", linthresh=smallest, linscale=0.4)
    axis.set_xlim(left=-0.3 * smallest)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlabel(label("worst_case", game))
    axis.set_ylabel(label("payoff", game))
    axis.set_title(f"{get_game(game).spec.title}: what an agent earns, and what it may lose")
    axis.legend(fontsize="small", bbox_to_anchor=(1.01, 1), loc="upper left")
    return figure


def _smallest(points: pd.DataFrame) -> float:
    """Up to where the axis is linear: zero is on it, and the smallest worst case stands apart from it."""
    above = points["worst_case"][points["worst_case"] > 1e-6]
    return float(np.clip(above.min() if len(above) else 0.1, 0.01, 1.0))


def _reach(axis: Axes, row, color) -> None:
    """How far the worst case may be from where its point stands."""
    if np.isnan(row.worst_case_high):
        style = {"textcoords": "offset points", "arrowprops": {"arrowstyle": "<-", "color": color}}
        axis.annotate("", (row.worst_case, row.payoff), (26, 0), **style)
    elif row.worst_case_high > row.worst_case_low:
        axis.plot([row.worst_case_low, row.worst_case_high], [row.payoff] * 2, color=color, zorder=3)


def _name(axis: Axes, scripted: pd.DataFrame) -> None:
    """Strategies by name, several at one place in one text, below and above their points in turn; where there are many,
    those of the lowest worst cases."""
    places = scripted.round(3).groupby(["worst_case", "payoff"])["agent"].agg(", ".join)
    named = places.sort_index().iloc[:NAMED].sort_index(level="payoff")
    for number, ((x, y), names) in enumerate(named.items()):
        style = {"textcoords": "offset points", "fontsize": "x-small", "color": "0.35"}
        axis.annotate(names, (x, y), (5, 4 if number % 2 else -9), **style)


def adversarys_lead(moves: pd.DataFrame, game: str, expected: float) -> Figure:
    """How far the adversary is ahead after each round, beside what it earns in the long run.

    ``moves``: ``evaluation.worst_cases.moves``; ``expected``: the worst case, per round.
    """
    spec = get_game(game).spec
    lead = moves["lead"].dropna().to_numpy()
    rounds = np.arange(len(lead) + 1)
    figure, axis = plt.subplots(figsize=(8.4, 3.2), layout="constrained")
    axis.step(
        rounds, np.concatenate([[0.0], lead]), where="post", color=PALETTE["sepo"], label="these matches"
    )
    axis.plot(
        rounds, expected * rounds, color="black", linestyle="--", label=f"{expected:.3f} per {spec.unit}"
    )
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xlabel(f"{spec.unit}s played")
    axis.set_ylabel(f"the adversary's lead ({spec.payoff_unit})")
    axis.legend(fontsize="small")
    return figure


def beside_equilibria(chips: pd.DataFrame, family: pd.DataFrame, kinds: dict[str, str]) -> Figure:
    """Probability of putting in a chip at each information state of Kuhn poker: dots are agents, the bar is where the
    equilibria are.

    ``chips``, ``family``: ``evaluation.worst_cases.chips`` of agents and of equilibria; ``kinds``: each agent's stage.
    """
    figure, axes = plt.subplots(1, 4, figsize=(11, 3.6), sharey=True, layout="constrained")
    models = list(dict.fromkeys(agent.split(" ")[0] for agent in chips.index))
    for axis, (past, head) in zip(axes, SITUATIONS.items(), strict=True):
        columns = [card + past for card in "JQK"]
        for place, column in enumerate(columns):
            low, high = family[column].min(), family[column].max()
            axis.add_patch(
                plt.Rectangle((place - 0.42, low - 0.012), 0.84, high - low + 0.024, color=FAMILY, alpha=0.5)
            )
        shifts = np.linspace(-0.27, 0.27, len(chips)) if len(chips) > 1 else [0.0]
        for shift, (agent, row) in zip(shifts, chips.iterrows(), strict=True):
            name = agent.split(", seed")[0]
            marker = MARKERS[models.index(name.split(" ")[0]) % len(MARKERS)]
            axis.plot(np.arange(3) + shift, row[columns], marker, color=COLORS[kinds[agent]], markeredgecolor="black",
                      markersize=6, label=name, clip_on=False)  # fmt: skip
        axis.set_xticks(range(3), list("JQK"))
        axis.set_xlim(-0.5, 2.5)
        axis.set_ylim(-0.03, 1.03)
        axis.set_title(head)
        axis.grid(axis="x", visible=False)
    axes[0].set_ylabel("probability of BET or CALL")
    named = dict(zip(*axes[0].get_legend_handles_labels()[::-1], strict=True))  # one of several seeds
    names, handles = list(named), list(named.values())
    patch = plt.Rectangle((0, 0), 1, 1, color=FAMILY, alpha=0.5)
    figure.legend(
        [*handles, patch], [*names, "equilibria"], loc="outside lower center", ncols=4, fontsize="small"
    )
    return figure


def self_play(means: pd.DataFrame, metric: str = "payoff") -> Figure:
    """What two copies of each stage come to, a panel per model and game, with intervals.

    ``means``: ``evaluation.results.summary`` of ``evaluation.self_play.self_play`` by stage and seed. Where the game is
    zero-sum two copies earn nothing, and it is left out.
    """
    rows = means[(means["metric"] == metric) & ~means["game"].map(lambda g: get_game(g).spec.zero_sum)]
    pairs = list(rows[["model", "game"]].drop_duplicates().itertuples(index=False, name=None))
    figure, axes = _panels(max(1, len(pairs)))
    for axis, (model, game) in zip(axes, pairs, strict=False):
        bars(axis, rows[(rows["model"] == model) & (rows["game"] == game)])
        axis.set_title(f"{model}, {get_game(game).spec.title.split(' (')[0]}", fontsize="medium")
        axis.set_ylabel(label(metric, game), fontsize="small")
    return figure


def market(means: pd.DataFrame, markets: pd.DataFrame) -> Figure:
    """The auction of two copies of each stage: the price, who gets the item, and low bids on a high value, each beside
    bidders who compete and bidders who collude.

    ``means`` as in ``self_play``; ``markets``: ``evaluation.self_play.markets``.
    """
    part = means[means["game"] == "auction"]
    heads = {
        "price": "mean price",
        "efficiency": "efficiency (share of the value)",
        "low bids": "LOW at value 4 (share)",
    }
    looks = {"equilibrium": ("--", "black"), "truthful": (":", "0.45"), "collusive-low": ("-.", FAMILY)}
    figure, axes = _panels(len(heads))
    for axis, (metric, head) in zip(axes, heads.items(), strict=True):
        bars(axis, part[part["metric"] == metric])
        for name, (dashes, color) in looks.items():
            axis.axhline(markets.loc[name, metric], linestyle=dashes, color=color, label=name)
        axis.set_ylabel(head, fontsize="small")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _panels(count: int) -> tuple[Figure, np.ndarray]:
    columns = min(3, count)
    lines = -(-count // columns)
    size = (3.4 * columns + 0.8, 3.0 * lines + 0.4)
    figure, axes = plt.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes.flat
