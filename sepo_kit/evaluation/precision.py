"""How many episodes an interval of a wanted width needs, from the spread that an evaluation saw."""

from __future__ import annotations

from bisect import bisect_left
from math import sqrt
from typing import Any

import pandas as pd

from sepo_kit.engine.confidence import quantile
from sepo_kit.evaluation.evaluate import Report
from sepo_kit.evaluation.results import KEYS
from sepo_kit.games import get_game

MOST = 10**9  # episodes per opponent; more are never asked for


def episodes_needed(found: Report | pd.DataFrame, width: float) -> pd.DataFrame:
    """For each metric, with how many episodes per opponent its 95 % interval would be ``width`` wide, high minus low.

    The width of an interval falls as Student's t for m - 1 degrees of freedom over the square root of m does. How wide
    it is now is an estimate, and so is the number: its standard error is about a third of it from 20 episodes against
    one opponent, a seventh from 100, more where play is skewed.

    Parameters
    ----------
    found
        What ``evaluate`` found, or rows as ``Report.to_frame`` and ``read_results`` give them, of the games' own pools
        and of play: where an agent was asked for replies instead, n counts those, and episodes do not follow.
    width
        In the metric's unit: payoff per round (per hand in Kuhn poker), Safety in scaled payoff, a rate as a share.

    Returns
    -------
    DataFrame
        The rows with a column ``episodes_needed`` (Int64), <NA> where nothing was sampled or there is no interval, and
        of guaranteed Safety where the worst case lies between bounds, which no number of episodes brings together.

    Raises
    ------
    ValueError
        ``width`` is not above 0, or the report is of replies.

    >>> import sepo_kit as sk
    >>> found = sk.evaluate(sk.scripted(sk.get_game("kuhn"), "nash"), "kuhn", episodes=50)
    >>> rows = episodes_needed(found, 0.05).set_index("metric")
    >>> bool(rows.loc["payoff", "episodes_needed"] > 50)
    True
    """
    require_width(width)
    if isinstance(found, Report):
        met = len({(episode.pool, episode.opponent) for episode in found.episodes})
        if not met and found.estimates["payoff"].n:
            raise ValueError(
                f"{found.agent} was asked for replies, not played: the width of these intervals goes with replies=...; "
                "evaluate with replies=0 to plan by episodes"
            )
        rows, opponents = found.to_frame(), {found.game: met}
    else:
        rows, opponents = found, {game: len(get_game(game).opponents) for game in found["game"].unique()}
    whose = [name for name in ("agent", *KEYS) if name in rows]
    worst = rows[rows["metric"] == "worst_case"]
    bounded = {tuple(map(str, who)) for who in worst.loc[worst["low"] != worst["high"], whose].to_numpy()}

    def wide(row: Any) -> bool:
        """Guaranteed Safety is no nearer known than the worst case in it, however many are played."""
        return row.metric == "guaranteed" and tuple(str(getattr(row, name)) for name in whose) in bounded

    needed = [
        _needed(row.high - row.low, int(row.n) / opponents[row.game], width)
        if row.n and pd.notna(row.low) and pd.notna(row.high) and not wide(row)
        else None
        for row in rows.itertuples()
    ]
    return rows.assign(episodes_needed=pd.array(needed, dtype="Int64"))


def require_width(width: float) -> None:
    """Raise ValueError unless an interval can be ``width`` wide."""
    if not width > 0:
        raise ValueError(f"width must be above 0, got {width}; it is high minus low, in the metric's unit")


def _needed(seen: float, episodes: float, width: float) -> int:
    """``seen``: how wide the interval is with ``episodes`` per opponent."""
    share = seen / _relative(round(episodes))
    return 2 + bisect_left(range(2, MOST), -width, key=lambda m: -share * _relative(m))


def _relative(episodes: int) -> float:
    """The width of an interval of ``episodes``, in units that depend on the spread alone."""
    return quantile(episodes - 1) / sqrt(episodes)
