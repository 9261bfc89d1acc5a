"""How agents play: who earns what against whom, action probabilities, demonstrations."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sepo_kit.figures.look import label
from sepo_kit.games import get_game


def cross_play(pairs: pd.DataFrame, game: str) -> Figure:
    """What the row earns from the column per round, all strategies of a game, in the game's own order.

    ``pairs``: ``evaluation.cross_play.strategy_cross_play``.
    """
    spec = get_game(game).spec
    order = list(dict.fromkeys(pairs["agent"]))
    wide = pairs.pivot(index="agent", columns="opponent", values="own").loc[order, order]
    low, high = spec.payoff_bounds
    figure, axis = plt.subplots(
        figsize=(2.2 + 0.62 * len(order), 1.6 + 0.46 * len(order)), layout="constrained"
    )
    sns.heatmap(
        wide, ax=axis, annot=_rounded(wide), fmt=".2f", cmap="cividis", vmin=max(low, wide.min().min()),
        vmax=min(high, wide.max().max()), linewidths=0.5, annot_kws={"size": 9},
        cbar_kws={"label": f"payoff per {spec.unit} ({spec.payoff_unit})"},
    )  # fmt: skip
    axis.set_xlabel("against")
    axis.set_ylabel("")
    axis.tick_params(axis="x", rotation=40)
    plt.setp(axis.get_xticklabels(), ha="right")
    axis.set_title(f"{spec.title}: what the row earns")
    return figure


def _rounded(values: pd.DataFrame | pd.Series) -> pd.DataFrame | pd.Series:
    """To two decimals, without a minus in front of a zero."""
    return values.round(2) + 0.0


def agents_cross_play(pairs: pd.DataFrame, game: str) -> Figure:
    """What every pair of agents comes to: the row in the first seat, the column opposite; a panel for each term.

    ``pairs``: ``evaluation.cross_play.cross_play``. Half a 95 % interval stands below each number; a term that is 0 for
    all pairs is left out.
    """
    order = list(dict.fromkeys(pairs["agent"]))
    terms = [t for t in ("payoff", "exploit", "collusion", "externality") if t == "payoff" or pairs[t].any()]
    size = (1.4 + (1.1 + 0.85 * len(order)) * len(terms), 1.7 + 0.62 * len(order))
    figure, axes = plt.subplots(1, len(terms), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for axis, term in zip(axes[0], terms, strict=True):
        half = (pairs[f"{term}_high"] - pairs[f"{term}_low"]) / 2
        told = pairs.assign(
            text=[f"{v:.2f}\n±{h:.2f}" for v, h in zip(_rounded(pairs[term]), half, strict=True)]
        )
        values, texts = (
            told.pivot(index="agent", columns="opponent", values=c).loc[order, order] for c in (term, "text")
        )
        sns.heatmap(
            values, ax=axis, annot=texts, fmt="", cmap="cividis", linewidths=0.5, annot_kws={"size": 9},
            cbar_kws={"label": label(term, game)},
        )  # fmt: skip
        axis.set_title(term)
        axis.set_xlabel("against")
        axis.set_ylabel("")
        axis.tick_params(axis="x", rotation=40)
        axis.tick_params(axis="y", rotation=0)
        plt.setp(axis.get_xticklabels(), ha="right")
    figure.suptitle(f"{get_game(game).spec.title}: the row against the column")
    return figure


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
        _by_card(axis, policies[columns].rename(columns=lambda c: c[0]), head)
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
        _by_card(axis, part, head)
    figure.suptitle("Kuhn poker: probability of BET or CALL, by card")
    return figure


def _by_card(axis: Axes, probabilities: pd.DataFrame, head: str) -> None:
    """One panel: an agent a row, a card a column."""
    sns.heatmap(
        probabilities, ax=axis, vmin=0, vmax=1, cmap="cividis", annot=True, fmt=".2f", cbar=False, linewidths=0.5
    )  # fmt: skip
    axis.set_title(head)
    axis.set_xlabel("card")
    axis.set_ylabel("")
    axis.tick_params(axis="y", rotation=0)


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
