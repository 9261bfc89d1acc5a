"""The rivals of a study against one of them: paired differences where their trainings ended, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sepo_kit.evaluation.comparisons import estimated, holm
from sepo_kit.study.rivals import ends

COLUMNS = ("agent", "game", "rival", "minus", "metric", "value", "low", "high", "seeds", "p", "p_holm")


def changes(
    logs: pd.DataFrame, minus: str, metrics: Sequence[str] = ("safety", "payoff", "worst_case")
) -> pd.DataFrame:
    """Every rival at its end less the rival ``minus``, paired by seed.

    Parameters
    ----------
    logs
        ``study.rivals.read_rivals``, of any agents and games.

    Returns
    -------
    DataFrame
        A row per agent, game, rival and metric: ``value``, the mean over ``seeds`` that both have; low and high, 95 %
        of Student's t over seeds; ``p``, two-sided; ``p_holm``, corrected for all rivals of the agent in the game and
        metric. None where there is no ``minus``, or a rival has fewer than two seeds in common with it.

    Raises
    ------
    ValueError
        No rival is called ``minus``, or none has two seeds in common with it.
    """
    if minus not in set(logs["rival"]):
        known = ", ".join(dict.fromkeys(logs["rival"]))
        raise ValueError(f"no rival is called {minus!r}; there are: {known}")
    rows, alone = [], []
    for (agent, game), part in ends(logs).groupby(["agent", "game"], sort=False):
        by_rival = {rival: rows.set_index("seed") for rival, rows in part.groupby("rival", sort=False)}
        other = by_rival.pop(minus, None)
        if other is None:
            continue
        for rival, one in by_rival.items():
            seeds = one.index.intersection(other.index)
            if len(seeds) < 2:
                alone.append(
                    f"{rival!r} and {minus!r} of {agent} on {game} must share two seeds, got {len(seeds)}"
                )
                continue
            for metric in metrics:
                each = (one.loc[seeds, metric] - other.loc[seeds, metric]).to_numpy()
                if not np.isfinite(each).all():
                    continue  # not defined in one of them
                found = estimated(each, (0.0, 0.0), 0)
                numbers = [found[name] for name in ("value", "low", "high", "seeds", "p")]
                rows.append((agent, game, rival, minus, metric, *numbers, None))
    if alone and not rows:
        raise ValueError(alone[0])
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["p_holm"] = frame.groupby(["agent", "game", "metric"], sort=False)["p"].transform(holm)
    return frame
