"""Stages against each other: paired differences, with intervals and p-values that are corrected for their number.

All agents of a game are evaluated on the same draws: the same deals, and the same numbers by which an opponent decides
(``engine.rollout.uniforms``). So what is compared are pairs of episodes, and of seeds: SEPO of seed 0 with the warm
start that it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from sepo_kit.engine.confidence import quantile
from sepo_kit.engine.tables import read_table, rounds_file
from sepo_kit.evaluation.asked import stored_resamples
from sepo_kit.evaluation.episode_means import EpisodeMeans
from sepo_kit.evaluation.evaluate import METRICS, metrics_of
from sepo_kit.evaluation.results import INTERVALS, ROUNDING, STAGES, read_result
from sepo_kit.evaluation.statistics import fewest, over_seeds, percentiles, resampled, spread
from sepo_kit.games import get_game
from sepo_kit.runs import RunError, write_csv

COLUMNS = (
    "model", "game", "stage", "minus", "metric", "value", "low", "high", "seeds", "interval", "p", "p_holm",
)  # fmt: skip
COMPARED = tuple(name for name in METRICS if name != "fallback")
BOUNDED = ("worst_case", "guaranteed")  # where a worst case is known between bounds only, no difference is
SMALLEST = 1e-12  # the least p-value that is told


def differences(files: Sequence[Path | str]) -> pd.DataFrame:
    """Every stage minus every earlier one, for each model and game, paired by seed; a base model meets each seed.

    ``files``: results, with their episodes beside them where they were sampled.

    Returns
    -------
    DataFrame
        One row per comparison and metric: model, game, stage, minus (the earlier stage), metric, value (the mean over
        ``seeds`` of stage minus minus), low and high (95 %; over seeds and their episodes as in ``over_seeds``),
        ``interval`` (what it is of, one of ``INTERVALS``), ``p`` (two-sided; below 0.05 where the interval leaves out
        0; NaN where nothing varies) and ``p_holm`` (corrected for all models and games of the table that are compared
        in the same metric and the same two stages). Worst cases that are known from one side only have no difference,
        and neither have metrics that some seed or resample leaves undefined.

    Raises
    ------
    RunError
        A result or its episodes are missing or broken, or two agents of a game met other draws.
    """
    results = [_read(Path(file)) for file in tqdm(files, desc="differences", leave=False)]
    groups: dict[tuple[str, str], dict[str, dict[int | None, _Result]]] = {}
    for one in results:
        label = one.label
        stages = groups.setdefault((label["model"], label["game"]), {})
        stages.setdefault(label["stage"], {})[label["seed"]] = one
    rows = []
    for (model, game), stages in groups.items():
        for earlier, later in combinations([stage for stage in STAGES if stage in stages], 2):
            pairs = _pairs(stages[later], stages[earlier])
            names = {"model": model, "game": game, "stage": later, "minus": earlier}
            rows += [names | row for row in _difference(pairs)] if pairs else []
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["p_holm"] = frame.groupby(["stage", "minus", "metric"], sort=False)["p"].transform(holm)
    return frame


def write_differences(files: Sequence[Path | str], folder: Path | str, name: str) -> list[Path]:
    """Write ``differences`` as ``name``-differences.csv into ``folder``; its path, or [] where nothing is compared."""
    frame = differences(files)
    if frame.empty:
        return []
    path = Path(folder) / f"{name}-differences.csv"
    write_csv(path, frame)
    return [path]


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values of m tests, corrected: where nothing differs, any of them is below 0.05 in at most 5 % of tables. NaN
    where there was no test.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN are last
    times = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * times), 1.0)
    return corrected


def p_value(value: float, spread: float, seeds: int, reach: float, episodes: int) -> float:
    """At which level the interval around ``value`` just leaves out 0; NaN where nothing varies.

    ``spread``: the standard error over ``seeds``; ``reach``: how far the 95 % interval over ``episodes`` goes toward 0.

    >>> round(p_value(1.96, 0.0, 1, 1.96, 10_000), 2)
    0.05
    """
    if spread == reach == 0:
        return float("nan")
    if value == 0:
        return 1.0
    from scipy import optimize, stats

    error = reach / quantile(episodes - 1) if reach else 0.0

    def beyond(p: float) -> float:
        over = spread * stats.t.isf(p / 2, seeds - 1) if spread else 0.0
        return float(np.hypot(over, error * stats.t.isf(p / 2, episodes - 1) if error else 0.0)) - abs(value)

    return SMALLEST if beyond(SMALLEST) <= 0 else float(optimize.brentq(beyond, SMALLEST, 1.0))


@dataclass(frozen=True)
class _Result:
    """One evaluation: its numbers, shape (K,) in the order of ``COMPARED``, and those of each bootstrap resample of its
    episodes, shape (R, K), None where they are exact; the same draws give the same resamples, so that two agents' go in
    pairs. ``met``: what they were dealt; ``episodes``: of the opponent with the fewest. Of an agent that was asked in
    every information state, replies stand for episodes, and no two share any."""

    label: dict
    values: np.ndarray
    drawn: np.ndarray | None
    met: tuple
    episodes: int


def _read(file: Path) -> _Result:
    result = read_result(file)
    label, settings = result["label"], result["settings"]
    spec = get_game(label["game"]).spec
    found = {row["metric"]: row for row in result["metrics"]}
    worst = found.get("worst_case")
    if worst is None or None in (ends := [worst[end] for end in ("value", "low", "high")]):
        known = None
    else:
        known = worst["value"] if max(ends) - min(ends) <= ROUNDING else None
    values = np.array([found[m]["value"] if m in found else None for m in COMPARED], dtype=float)
    if known is None:
        values[[COMPARED.index(name) for name in BOUNDED]] = np.nan
    if settings["exact"]:
        return _Result(label, values, None, (), 0)
    if settings.get("replies") and result["policy"]:
        drawn = stored_resamples(result)[:, [METRICS.index(name) for name in COMPARED]]
        return _Result(label, values, drawn, ("asked", settings["replies"]), settings["replies"])
    table = file.with_suffix(".parquet")
    for stored in (table, rounds_file(table)):
        if not stored.exists():
            raise RunError(f"{stored} is missing: no episodes to compare; evaluate again")
    try:
        means = EpisodeMeans.of_tables(spec, read_table(rounds_file(table)), read_table(table))
    except ValueError as error:
        raise RunError(f"{table} cannot be compared: {error}; evaluate again") from None

    def statistic(counts: np.ndarray) -> list[float | None]:
        terms, fallback = means.terms(counts)
        terms = replace(terms, worst_case=known)
        metrics = metrics_of(spec, terms, spec.eval_weights, fallback)
        return [metrics[name] for name in COMPARED]

    met = (settings["seed"], settings["episodes"], tuple(means.names), means.group.tobytes())
    drawn = resampled(means.group, statistic, settings["seed"])
    return _Result(label, values, drawn, met, fewest(means.group))


def _pairs(
    later: dict[int | None, _Result], earlier: dict[int | None, _Result]
) -> list[tuple[_Result, _Result]]:
    """Those of one seed; an agent without a seed, as a base model is, stands beside each of the other stage's."""
    seeds = [seed for seed in later if seed in earlier or None in earlier]
    return [
        (later[seed], earlier[seed] if seed in earlier else earlier[None]) for seed in sorted(seeds, key=str)
    ]


def _difference(pairs: Sequence[tuple[_Result, _Result]]) -> list[dict]:
    """A row for each metric that all of ``pairs`` have."""
    if len({one.met for pair in pairs for one in pair}) > 1:
        first, *others = (one for pair in pairs for one in pair)
        other = next(one for one in others if one.met != first.met)
        raise RunError(
            f"{_named(first)} and {_named(other)} were not evaluated on the same draws; evaluate both again"
        )
    each = np.array([one.values - other.values for one, other in pairs])  # (S, K)
    drawn = None
    if pairs[0][0].drawn is not None:
        drawn = np.mean([one.drawn - other.drawn for one, other in pairs], axis=0)  # (R, K)
    episodes = pairs[0][0].episodes
    rows = []
    for k, metric in enumerate(COMPARED):
        values = each[:, k]
        if not np.isfinite(values).all():
            continue
        within = (0.0, 0.0)
        if drawn is not None and metric != "worst_case":  # which nobody sampled
            low, high = percentiles(drawn[:, k], episodes)
            if not np.isfinite([low, high]).all():
                continue
            within = (max(values.mean() - low, 0.0), max(high - values.mean(), 0.0))
        rows.append(
            {"metric": metric, **estimated(values, within, 0 if metric == "worst_case" else episodes)}
        )
    return rows


def _named(result: _Result) -> str:
    label = result.label
    seed = "" if label["seed"] is None else f" seed {label['seed']}"
    return f"{label['model']} on {label['game']}, {label['stage']}{seed}"


def estimated(values: np.ndarray, within: tuple[float, float], episodes: int) -> dict:
    """The mean of paired differences, one of each seed, with interval and p-value: the last columns of a table.

    ``within``: how far the interval over episodes reaches below and above; ``episodes``: of the opponent with the
    fewest, 0 where the values are exact.
    """
    found = over_seeds(values, within)
    several, sampled = len(values) > 1, episodes > 0
    low, high = (found.value, found.value) if found.low is None else (found.low, found.high)
    error = spread(values) if several else 0.0
    error = 0.0 if error < SMALLEST else error
    toward = within[0] if found.value > 0 else within[1]
    return {
        "value": found.value, "low": low, "high": high, "seeds": len(values),
        "interval": INTERVALS[2 * several + sampled],
        "p": p_value(found.value, error, len(values), toward, episodes),
    }  # fmt: skip
