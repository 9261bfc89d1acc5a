"""What the claims of the paper are judged by: its printed tables, and ours in ``data/results``.

Reading only; ``claims.py`` judges. Differences are taken seed by seed, so that what two stages share drops out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from pathlib import Path

import pandas as pd

from sepo_kit.evaluation.paper import PAPER, published
from sepo_kit.evaluation.published_pools import REFERENCE
from sepo_kit.evaluation.results import KEYS
from sepo_kit.evaluation.statistics import Estimate, over_seeds, reach
from sepo_kit.games import PAPER_GAMES
from sepo_kit.runs.project import PROJECT
from sepo_kit.study.kept import read_all

RESULTS = PROJECT / "data" / "results"
# The tables that are published, by profile. Where two have a model on a game, the later one counts.
PROFILES = ("quick", "worst-case", "reasoned", "smollm2", "paper")
IN_WORDS = "reasoned"  # its agents answer in words: others than those of the same model that do not
ESTIMATES = ("agent", "game", "mode", "part", "cosine", "norm", "common_random_numbers", "horizon")
TRAINING = ("agent", "game", "mode", "horizon", "common_random_numbers", "seed", "step", "payoff", "safety")
LATE = ("agent", "game", "rival", "seed", "step", "safety")
P1, P2 = "`data/paper/p1_results.csv`", "`data/paper/p2_results.csv`"  # what ``published`` reads, for a page


@dataclass(frozen=True)
class Evidence:
    """All tables that the claims are judged by.

    ``p1``, ``p2``: ``paper.published``. ``ours``: one row per model, game, stage, seed and metric, as in a results
    file, with ``table``, the name of that file. ``estimates``, ``training``: the mechanism study of every agent;
    ``late``: the study of late training. ``reference``: ``published_pools.what_there_was_to_win``.
    """

    p1: pd.DataFrame
    p2: pd.DataFrame
    ours: pd.DataFrame
    estimates: pd.DataFrame
    training: pd.DataFrame
    late: pd.DataFrame
    reference: pd.DataFrame


def read_evidence(results: Path | str = RESULTS, paper: Path | str = PAPER) -> Evidence:
    """The evidence in two folders; a table of ours that is not there has no rows."""
    folder = Path(results)
    return Evidence(
        published("P1", paper),
        published("P2", paper),
        our_results(folder),
        _all(folder, "credit-estimates-*.csv", ESTIMATES),
        _all(folder, "credit-training-*.parquet", TRAINING),
        _all(folder, "late-training-*.parquet", LATE),
        _all(folder, "reference.csv", REFERENCE),
    )


def _all(folder: Path, pattern: str, columns: Sequence[str]) -> pd.DataFrame:
    files = sorted(folder.glob(pattern))
    return read_all(files) if files else pd.DataFrame(columns=columns)


def result_files(folder: Path | str = RESULTS) -> list[Path]:
    """The tables of ``PROFILES`` that are there, in their order."""
    return [file for name in PROFILES if (file := Path(folder) / f"{name}.csv").exists()]


def our_results(folder: Path | str = RESULTS) -> pd.DataFrame:
    """The rows of all ``result_files``, of each model and game those of the last table that has it, with ``table``."""
    frames = []
    for file in result_files(folder):
        frame = pd.read_csv(file).assign(table=file.name)
        if file.stem == IN_WORDS:
            frame["model"] = frame["model"] + f", {IN_WORDS}"
        frames.append(frame)
    if not frames:
        return pd.DataFrame(columns=[*KEYS, "metric", "value", "low", "high", "n", "table"])
    rows = pd.concat(frames, ignore_index=True)
    return rows[rows["table"] == rows.groupby(["model", "game"])["table"].transform("last")].reset_index(
        drop=True
    )


def of(ours: pd.DataFrame, model: str, game: str, stage: str, metric: str) -> pd.Series:
    """The value of a metric that is defined, by seed (NaN where there is none, as of a base model)."""
    part = ours[
        (ours["model"] == model)
        & (ours["game"] == game)
        & (ours["stage"] == stage)
        & (ours["metric"] == metric)
    ]
    return part.set_index("seed")["value"].astype(float).dropna()


def level(ours: pd.DataFrame, model: str, game: str, stage: str, metric: str) -> Estimate | None:
    """Its mean over seeds, with the interval over seeds and their episodes; None where it is not known."""
    values = of(ours, model, game, stage, metric)
    return over_seeds(list(values), within(ours, model, game, stage, metric)) if len(values) else None


def within(ours: pd.DataFrame, model: str, game: str, stage: str, metric: str) -> tuple[float, float]:
    """How far the intervals over episodes reach below and above it; 0 where it is exact, and where it is a search's."""
    part = ours[(ours[["model", "game", "stage", "metric"]] == [model, game, stage, metric]).all(axis=1)]
    part = part[part["value"].notna()]
    sampled = len(part) and (part["n"] > 0).all()
    return reach(part["value"], part["low"], part["high"]) if sampled else (0.0, 0.0)


def change(
    ours: pd.DataFrame, model: str, game: str, stages: Sequence[str], metric: str = "safety"
) -> Estimate | None:
    """How much higher a metric is at the second of two ``stages`` than at the first, over seeds.

    Seed by seed; a base model, which has none, stands beside each. The intervals over episodes of both stages are added
    as if their episodes had nothing in common, which is wide: they share their draws. None where either is not known.
    """
    before, after = (of(ours, model, game, stage, metric) for stage in stages)
    if len(before) and before.index.isna().all():
        before = pd.Series(float(before.iloc[0]), index=after.index)
    both = (after - before).dropna()
    if not len(both):
        return None
    (low, high), (low_after, high_after) = (within(ours, model, game, stage, metric) for stage in stages)
    return over_seeds(list(both), (hypot(low_after, high), hypot(high_after, low)))


def pairs(ours: pd.DataFrame) -> list[tuple[str, str]]:
    """The models and the paper's games that have results with SEPO, game by game."""
    have = set(ours.loc[ours["stage"] == "sepo", ["model", "game"]].itertuples(index=False, name=None))
    models = list(dict.fromkeys(ours["model"]))
    return [(model, game) for model in models for game in PAPER_GAMES if (model, game) in have]


def best_checkpoints(table: pd.DataFrame) -> pd.DataFrame:
    """Of a published table one row per game, model and condition: of several checkpoints the one with the best Safety,
    as the paper reports it."""
    ordered = table.sort_values("safety", ascending=False, kind="stable")
    return ordered.drop_duplicates(["game", "model", "condition"])


def published_numbers(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A published metric, one row per game and model, a column per condition; empty where nobody printed it."""
    if metric not in table:
        return pd.DataFrame()
    return best_checkpoints(table).pivot(index=["game", "model"], columns="condition", values=metric)


def our_means(ours: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The same of ours, means over seeds, a column per stage."""
    part = ours[ours["metric"] == metric]
    return part.groupby(["game", "model", "stage"])["value"].mean().unstack("stage")
