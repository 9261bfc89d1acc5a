"""Evaluations of the stages of a run (base, SFT, SEPO), kept as files and read back as one table.

A result is one JSON file: who was evaluated, on what, how, and one row per metric. Beside it lie the
tables of sampled decisions and of rounds as Parquet, for whatever wants to weigh them anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from sepo_kit.adversaries.worst_case import SEARCH_EPISODES
from sepo_kit.engine.episode import Episode, decision_frame, round_frame
from sepo_kit.engine.tables import read_table, rounds_file, write_tables
from sepo_kit.evaluation.archive import read_episodes, reasons_in
from sepo_kit.evaluation.evaluate import METRICS, Report
from sepo_kit.evaluation.reasons import shares
from sepo_kit.evaluation.statistics import over_seeds, reach
from sepo_kit.games.base import Game
from sepo_kit.runs import (
    RunError,
    commits_of,
    is_chain,
    provenance,
    read_json,
    write_csv,
    write_sealed,
)

STAGE_NAMES = {"base": "base", "sft": "SFT", "sepo": "SEPO", "worst-case": "worst-case SEPO"}
STAGES = tuple(STAGE_NAMES)
ROUNDING = 1e-9  # bounds nearer than this are one number
KEYS = ("model", "game", "stage", "seed")
# What a number is where the worst case is only known from below.
BOUNDS = {"worst_case": "at least", "guaranteed": "at most"}
INTERVALS = ("none", "episodes", "seeds", "seeds and episodes")  # what varies in an interval
# What a table calls the other metrics is their name.
HEADINGS = {"worst_case": "worst case", "safety": "Safety", "nra": "NRA", "robust": "Robust"}


@dataclass(frozen=True)
class EvaluationSettings:
    """How agents are evaluated.

    ``episodes`` per opponent at ``temperature``; ``exact``: take the table's numbers from enumeration, where
    game and agent allow it; ``replies``: of an agent that answers in words, take them from so many replies in each
    information state, where those are few (``asked.py``; 0: from the episodes); ``worst_case``: how far to look for it,
    and in how many episodes (``search_episodes``), as in ``find_worst_case``; ``seed`` is never a training seed.
    """

    episodes: int
    exact: bool
    temperature: float = 0.8
    style: str = "direct"
    max_new_tokens: int = 512
    worst_case: str = "search"
    seed: int = 10_000
    replies: int = 0
    search_episodes: int = SEARCH_EPISODES

    def asks(self, game: Game) -> bool:
        """Whether agents are asked for replies in every information state of ``game``."""
        return bool(self.replies) and self.style != "direct" and not self.exact and game.spec.few_states


def write_result(
    folder: Path | str,
    label: dict,
    settings: EvaluationSettings,
    found: Report,
    episodes: Sequence[Episode],
    policy: dict | None = None,
    chain: Sequence[dict] = (),
    made_from: dict | None = None,
) -> Path:
    """Write ``STAGE-seed-N.json`` (``base.json`` without a seed) with its decisions and rounds into ``folder``; the
    JSON's path.

    ``episodes``: the sampled ones, also where ``found`` is not from them; ``policy``: the agent's whole table, where it
    has one, or the shares of what it answered; ``chain``: what it came from, base, SFT and SEPO, each with commit, code
    and adapter; ``made_from``: fingerprints of the agent and of the code that evaluated it.
    """
    file = result_file(folder, label)
    write_tables(file.with_suffix(".parquet"), decision_frame(episodes), round_frame(episodes))
    tables = [file.with_suffix(".parquet"), rounds_file(file.with_suffix(".parquet"))]
    result = {
        "label": label,
        "settings": asdict(settings),
        "metrics": found.to_frame().drop(columns=["agent", "game"]).to_dict("records"),
        "policy": policy,
        "provenance": provenance(),
        "chain": list(chain),
        "made_from": made_from,
    }
    write_sealed(file, result, tables)
    return file


def result_file(folder: Path | str, label: dict) -> Path:
    """Where the result of ``label`` lies in ``folder``."""
    name = label["stage"] if label["seed"] is None else f"{label['stage']}-seed-{label['seed']}"
    return Path(folder) / f"{name}.json"


def read_result(file: Path | str) -> dict:
    """One result as ``write_result`` wrote it.

    Raises
    ------
    RunError
        The file is missing, broken or not a result of this version.
    """
    result = read_json(file, dict)
    label, rows = result.get("label"), result.get("metrics")
    whole = isinstance(label, dict) and set(KEYS) <= label.keys() and isinstance(rows, list) and rows
    whole = whole and all(isinstance(label[key], str) for key in KEYS[:3]) and label["stage"] in STAGES
    whole = whole and (label["seed"] is None or type(label["seed"]) is int)
    whole = whole and _is_settings(result.get("settings")) and all(map(_is_row, rows))
    whole = whole and isinstance(result.get("provenance"), dict) and is_chain(result.get("chain", []))
    whole = whole and _is_policy(result.get("policy"))
    if not whole:
        raise RunError(f"{file} is not a result of this version; delete it and evaluate again")
    return result


def _is_settings(settings: object) -> bool:
    """Whether it is how an agent was evaluated, as ``EvaluationSettings`` has it."""
    kinds = {
        "style": str,
        "temperature": int | float,
        "max_new_tokens": int,
        "seed": int,
        "episodes": int,
        "exact": bool,
    }
    if not isinstance(settings, dict) or not isinstance(settings.get("replies", 0), int):
        return False
    return all(isinstance(settings.get(name), kind) for name, kind in kinds.items())


def _is_policy(policy: object) -> bool:
    """Whether it is None or a table of probabilities."""
    rows = policy.values() if isinstance(policy, dict) else [policy]
    return policy is None or all(
        isinstance(row, dict) and all(type(p) in (int, float) and 0 <= p <= 1 for p in row.values())
        for row in rows
    )


def _is_row(row: object) -> bool:
    """Whether it is a row of metrics."""
    if not isinstance(row, dict) or not {"metric", "value", "low", "high", "n"} <= row.keys():
        return False
    numbers = (row[name] for name in ("value", "low", "high", "n"))
    return isinstance(row["metric"], str) and all(
        v is None or (type(v) in (int, float) and not abs(v) >= 1e300)
        for v in numbers  # NaN of older versions
    )


def read_results(files: Sequence[Path | str]) -> pd.DataFrame:
    """One row per result and metric: model, game, stage, seed, metric, value, low, high, n.

    Raises
    ------
    RunError
        A file is missing, broken or not a result.
    """
    frames = []
    for file in files:
        result = read_result(file)
        frames.append(pd.DataFrame(result["metrics"]).assign(**{k: result["label"][k] for k in KEYS}))
    if not frames:
        return pd.DataFrame(columns=[*KEYS, "metric", "value", "low", "high", "n"])
    numbers = dict.fromkeys(("value", "low", "high"), float)  # null: not defined
    return pd.concat([frame.astype(numbers) for frame in frames], ignore_index=True)[
        [*KEYS, "metric", "value", "low", "high", "n"]
    ]


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds: a row per model, game, stage and metric, with value, low, high, n, ``interval`` and ``bound``.

    ``interval``: what the 95 % interval is of, one of ``INTERVALS``. Of "episodes" it says nothing about other seeds:
    there is one, as always of the base model. "none": the number is exact, or between bounds that are its low and high.
    With several seeds the interval is that of the mean over seeds (``over_seeds``) and n their number; with one, the
    result's own. ``bound``: "at least" where the worst case is what the best adversary found gains, and "at most" where
    guaranteed Safety is reckoned with it; "" elsewhere.
    """
    found, rows = _from_below(results), []
    for (model, game, stage, metric), part in results.groupby(
        ["model", "game", "stage", "metric"], sort=False
    ):
        # One seed may have a value where another's is not defined.
        defined = part[part["value"].notna()]
        sampled = bool(len(defined)) and bool((defined["n"] > 0).all())
        if len(defined) > 1:
            within = reach(defined["value"], defined["low"], defined["high"]) if sampled else (0.0, 0.0)
            estimate = asdict(over_seeds(list(defined["value"].astype(float)), within))
        else:
            estimate = (defined if len(defined) else part).iloc[0][["value", "low", "high", "n"]].to_dict()
        kind = INTERVALS[2 * (len(defined) > 1) + sampled]
        bound = BOUNDS.get(metric, "") if (model, game, stage) in found else ""
        labels = {"model": model, "game": game, "stage": stage, "metric": metric}
        rows.append({**labels, **estimate, "interval": kind, "bound": bound})
    columns = ["model", "game", "stage", "metric", "value", "low", "high", "n", "interval", "bound"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["stage"] = pd.Categorical(frame["stage"], STAGES, ordered=True)
    return frame.sort_values(["model", "game", "stage"], kind="stable").reset_index(drop=True)


def _from_below(results: pd.DataFrame) -> set[tuple[str, str, str]]:
    """The model, game and stage of the agents whose worst case, of some seed at least, is what an adversary gains: not
    exact, and not estimated within bounds on both sides."""
    worst = results[(results["metric"] == "worst_case") & results["value"].notna()]
    above, below = worst["high"] - worst["value"], worst["value"] - worst["low"]
    found = worst[above.isna() | ((above > ROUNDING) & ~(below > ROUNDING))]
    return set(found[["model", "game", "stage"]].itertuples(index=False, name=None))


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Base, SFT and SEPO side by side: one row per model, game and stage, one column per metric (means over
    seeds); ``seeds`` says how many."""
    means = summary(results)
    wide = means.pivot(index=["model", "game", "stage"], columns="metric", values="value").dropna(how="all")
    wide = wide.reindex(columns=list(METRICS)).astype(float).rename(columns=HEADINGS)
    seeds = results.groupby(["model", "game", "stage"])["seed"].nunique().clip(lower=1)
    wide.insert(0, "seeds", [int(seeds[index]) for index in wide.index])
    wide.columns.name = None
    return wide.reset_index()


def by_seed(results: pd.DataFrame) -> pd.DataFrame:
    """One row per stage and seed, in the stages' order, one column per metric that is defined for any of them.

    ``results``: ``read_results`` of one model and game.
    """
    wide = results.assign(seed=results["seed"].astype("Int64")).pivot(
        index=["stage", "seed"], columns="metric", values="value"
    )
    wide = (
        wide.reindex(columns=list(METRICS)).astype(float).dropna(axis=1, how="all").rename(columns=HEADINGS)
    )
    wide.columns.name = None
    wide = wide.reset_index().sort_values("stage", key=lambda names: names.map(STAGES.index), kind="stable")
    return wide.assign(stage=wide["stage"].map(STAGE_NAMES)).reset_index(drop=True)


def by_opponent(files: Sequence[Path | str]) -> pd.DataFrame:
    """Mean payoffs per round by pool and opponent, a column per stage, in the stages' order, over all its seeds.

    ``files``: results, with their rounds beside them. Columns: (own or their, stage).

    Raises
    ------
    RunError
        A result is broken, or its rounds are missing.
    """
    frames = []
    for file in map(Path, files):
        rounds = rounds_file(file.with_suffix(".parquet"))
        if not rounds.exists():
            raise RunError(f"{rounds} is missing; evaluate again")
        frames.append(read_table(rounds).assign(stage=read_result(file)["label"]["stage"]))
    means = pd.concat(frames).groupby(["pool", "opponent", "stage"], sort=False)[["own", "their"]].mean()
    wide = means.unstack("stage")
    met = list(dict.fromkeys(means.index.droplevel("stage")))
    order = [(who, stage) for who in ("own", "their") for stage in STAGES if (who, stage) in wide.columns]
    return wide.loc[met, order].rename(columns=STAGE_NAMES, level="stage")


def by_reason(files: Sequence[Path | str]) -> pd.DataFrame:
    """How the reasons in the replies of each stage and seed read: the columns stage and seed, then those of
    ``reasons.shares``. No rows where nobody replied in text.

    ``files``: results, with their episodes beside them.

    Raises
    ------
    RunError
        A result or its episodes cannot be read.
    """
    frames = []
    for file in map(Path, files):
        label = read_result(file)["label"]
        found = shares(reasons_in(read_episodes(file.with_suffix(".parquet"))))
        found.insert(0, "stage", STAGE_NAMES[label["stage"]])
        found.insert(1, "seed", label["seed"])
        frames += [found] if len(found) else []
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def text_table(results: pd.DataFrame) -> str:
    """``table`` as text for a terminal, three decimals, a dash where a number is not defined.

    Where the worst case is only known from below, it is what the best adversary found gains, marked "at least", and
    guaranteed Safety, which it bounds from above, "at most".
    """
    shown = table(results)
    numbers = [HEADINGS.get(name, name) for name in METRICS]
    shown[numbers] = shown[numbers].map(lambda v: "-" if pd.isna(v) else f"{round(v, 3) + 0.0:.3f}")
    found = _from_below(results)
    for place, row in shown.iterrows():
        if (row["model"], row["game"], row["stage"]) in found:
            for metric, bound in BOUNDS.items():
                name = HEADINGS.get(metric, metric)
                shown.loc[place, name] = f"{bound} {row[name]}"
    return shown.to_string(index=False)


def write_table(
    results: pd.DataFrame,
    folder: Path | str,
    name: str,
    files: Sequence[Path | str],
    beside: Sequence[Path] = (),
) -> list[Path]:
    """Write all rows as ``name``.csv and what they were made with as ``name``.json; both paths.

    The latter has every provenance that the ``files`` have, every commit they or what they came from were made by, the
    chain of each, and the hashes of the table and of what else was made of them and lies ``beside`` it.
    """
    data, source = Path(folder) / f"{name}.csv", Path(folder) / f"{name}.json"
    write_csv(data, results)
    made = [read_result(file) for file in files]
    settings = {f"{r['label']['model']} on {r['label']['game']}": r["settings"] for r in made}
    chains = {_words(r["label"]): r.get("chain", []) for r in made}
    evaluated = [r["provenance"] for r in made]
    links = [*evaluated, *(link for chain in chains.values() for link in chain)]
    made_with = {
        "provenance": [p for n, p in enumerate(evaluated) if p not in evaluated[:n]],
        "commits": sorted({commit for link in links for commit in commits_of(link)}),
        "chains": chains,
        "settings": settings,
    }
    write_sealed(source, made_with, [data, *beside])
    return [data, source]


def _words(label: dict) -> str:
    """Whose result it is, in words."""
    seed = "" if label["seed"] is None else f", seed {label['seed']}"
    return f"{label['model']} on {label['game']}, {STAGE_NAMES[label['stage']]}{seed}"
