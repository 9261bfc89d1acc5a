"""Who can be weighed against whom: the scripted strategies of a game, and the agents of finished runs.

Each is reduced once to its terms and their samples (``reweigh.Contender``). Stored decisions are read, never played
again. What cannot be read becomes a sentence, so that one broken file hides no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from sepo_kit import exact
from sepo_kit.adversaries.worst_case import find_worst_case
from sepo_kit.engine.policy import Policy
from sepo_kit.engine.policy import scripted as scripted_policy
from sepo_kit.engine.simulate import simulate
from sepo_kit.engine.tables import read_table, rounds_file
from sepo_kit.evaluation.asked import stored_resamples
from sepo_kit.evaluation.episode_means import MEANS, EpisodeMeans
from sepo_kit.evaluation.evaluate import METRICS
from sepo_kit.evaluation.reference import QUICK_STATES
from sepo_kit.evaluation.results import KEYS, STAGE_NAMES, STAGES, read_result
from sepo_kit.evaluation.reweigh import Contender
from sepo_kit.evaluation.statistics import Estimate, fewest, resampled
from sepo_kit.evaluation.statistics import exact as exactly
from sepo_kit.games import GAMES, get_game
from sepo_kit.games.base import Game, GameSpec
from sepo_kit.objective.terms import TERMS, row_of, terms_of
from sepo_kit.runs import RunError
from sepo_kit.runs.project import profile_of

EPISODES = 200  # per opponent, where a strategy is sampled
AGREE = 1e-6  # how far stored terms and those of the stored decisions may be apart


# --- scripted -------------------------------------------------------------------------------------


def scripted(
    game: Game | str, episodes: int = EPISODES, seed: int = 0, known_worst_case: bool = False
) -> tuple[Contender, ...]:
    """The strategies of ``game``: enumerated where that is quick, else simulated, with their worst case where that is
    quick; the second time at once.

    Parameters
    ----------
    episodes, seed
        Per opponent, where a strategy is simulated: the episodes are those of ``sk.evaluate`` with this seed.
    known_worst_case
        Only those whose worst case is known; the others are not weighed.
    """
    game = get_game(game)
    names = [
        n for n in game.strategies if not known_worst_case or _worst_case(game, game.spec, n) is not None
    ]
    return tuple(_strategy(game, game.spec, name, episodes, seed) for name in names)


# The spec is among the arguments since whoever gives a game another one wants other numbers.
@lru_cache(maxsize=256)
def _strategy(game: Game, spec: GameSpec, name: str, episodes: int, seed: int) -> Contender:
    agent = scripted_policy(game, name)
    weighed = [member for member in game.opponents if member[0] != "shift"]
    worst = _worst_case(game, spec, name)
    try:
        found = terms_of(spec, exact.results(game, agent, weighed, QUICK_STATES))
        return replace(Contender.exactly(name, "scripted", found), worst_case=worst)
    except exact.TooLarge:
        means = _simulated(game, agent, weighed, episodes, seed)
        terms, drawn = row_of(means.terms()[0]), _resamples(means, seed)
        return Contender(name, "scripted", terms, drawn, worst_case=worst, episodes=episodes)


@lru_cache(maxsize=256)
def _worst_case(game: Game, spec: GameSpec, name: str) -> Estimate | None:
    """The exact worst case of a strategy where it takes a moment, else None."""
    agent = scripted_policy(game, name)
    found = find_worst_case(game, agent, "quick").value
    if found is None and spec.label_suffices and spec.reference_row is None:
        try:
            found = exact.worst_case(game, agent, memory="label").advantage
        except ValueError:  # it goes by more than its last round
            return None
    return None if found is None else exactly(found)


def _simulated(
    game: Game, agent: Policy, members: Sequence[tuple[str, str]], episodes: int, seed: int
) -> EpisodeMeans:
    played = [simulate(game, agent, opponent, episodes, seed, pool) for pool, opponent in members]
    count = episodes * len(members)
    return EpisodeMeans(
        game.spec,
        list(members),
        np.repeat(np.arange(len(members)), episodes),
        np.concatenate([np.column_stack([getattr(p, name).mean(axis=1) for name in MEANS]) for p in played]),
        np.ones(count),
        np.zeros(count),
    )


def _resamples(means: EpisodeMeans, seed: int) -> np.ndarray:
    return resampled(means.group, lambda counts: row_of(means.terms(counts)[0]), seed)


# --- stored ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """The agents found in run folders, ``problems`` in one sentence each, how many decisions were read, and how many
    of the agents needed none, since their terms were enumerated."""

    contenders: list[Contender]
    problems: list[str]
    decisions: int
    exactly: int

    def __str__(self) -> str:
        """What was read, in words."""
        agents = f"{len(self.contenders)} trained agent{'' if len(self.contenders) == 1 else 's'}"
        if not self.exactly:
            return f"{agents}, {self.decisions:,} stored decisions"
        if self.exactly == len(self.contenders):
            return f"{agents}, enumerated exactly"
        return f"{agents}: {self.exactly} enumerated exactly, the others from {self.decisions:,} stored decisions"


@dataclass(frozen=True)
class _Result:
    """One evaluation: whose, its terms and worst case; where the terms were sampled, their resamples, of how many
    episodes against an opponent, or replies in a state, and of how many decisions."""

    label: dict
    terms: np.ndarray
    worst_case: Estimate | None
    drawn: np.ndarray | None = None
    episodes: int = 0
    decisions: int = 0


def run_folders(root: Path | str) -> list[Path]:
    """The folders under ``root`` that hold runs: ``PROFILE/MODEL/GAME``, finished or not, and of a changed profile
    ``PROFILE/CHANGE=VALUE/MODEL/GAME``; none where there is no ``root``."""
    root = Path(root)
    if not root.is_dir():
        return []
    return sorted(
        folder
        for folder in (*root.iterdir(), *root.glob("*/*=*"))
        if folder.is_dir() and any(child.name in GAMES for child in folder.glob("*/*") if child.is_dir())
    )


def stored(folders: Sequence[Path | str], game: Game | str) -> Stored:
    """The agents whose evaluations on ``game`` lie in the run ``folders``: one per model and stage, over its seeds.

    Terms are summed over the stored rounds; those of an exact evaluation are taken as they were enumerated.
    """
    game = get_game(game)
    folders = [Path(folder) for folder in folders]
    groups: dict[tuple, list[_Result]] = {}
    problems = []
    for folder in folders:
        files = sorted(folder.glob(f"*/{game.spec.id}/results/*.json"))
        if not files:
            problems.append(f"{profile_of(folder)} has no finished evaluation of {game.spec.title} yet")
        for file in files:
            try:
                found = _read(file, game)
            except (ValueError, OSError) as error:
                problems.append(str(error))
            else:
                groups.setdefault((folder, found.label["model"], found.label["stage"]), []).append(found)
    order = sorted(groups, key=lambda g: (folders.index(g[0]), g[1], STAGES.index(g[2])))
    several = len({folder for folder, _, _ in groups}) > 1
    contenders = [
        _contender(f"{model} {STAGE_NAMES[stage]}" + (f" ({profile_of(folder)})" if several else ""), stage,
                   groups[folder, model, stage])
        for folder, model, stage in order
    ]  # fmt: skip
    exactly = sum(all(result.drawn is None for result in found) for found in groups.values())
    decisions = sum(result.decisions for found in groups.values() for result in found)
    return Stored(contenders, problems, decisions, exactly)


def _contender(name: str, stage: str, found: list[_Result]) -> Contender:
    terms = np.array([result.terms for result in found])
    worst = _mean_worst_case([result.worst_case for result in found])
    sampled = [result for result in found if result.drawn is not None]
    episodes = min((result.episodes for result in sampled), default=0)
    drawn = [result.drawn for result in sampled]
    if len(found) == 1:
        samples = drawn[0] if drawn else terms[:0]
        return Contender(name, stage, terms[0], samples, worst_case=worst, episodes=episodes)
    within = np.array(drawn) if len(drawn) == len(found) else None
    return Contender(name, stage, terms.mean(axis=0), terms, True, worst, episodes, within)


def _mean_worst_case(found: Sequence[Estimate | None]) -> Estimate | None:
    """The mean over seeds, and between which values it lies; None where a seed's is not known."""
    if any(one is None for one in found):
        return None
    columns = ([getattr(one, name) for one in found] for name in ("value", "low", "high"))
    return Estimate(*(None if None in column else float(np.mean(column)) for column in columns), 0)


def _read(file: Path, game: Game) -> _Result:
    """One result file and the decisions beside it; RunError in one sentence where they are not what they should be."""
    again = f"{file} is not a result of this version; delete it and evaluate again"
    result = read_result(file)
    try:
        label, settings = {key: result["label"][key] for key in KEYS}, result["settings"]
        metrics = {row["metric"]: row["value"] for row in result["metrics"]}
        worst = _stored_worst_case(result["metrics"])
        terms = np.array([metrics[name] for name in TERMS], dtype=float)
        enumerated, seed = bool(settings["exact"]), int(settings["seed"])
    except (KeyError, TypeError, ValueError):
        raise RunError(again) from None
    whole = label["game"] == game.spec.id and label["stage"] in STAGES and isinstance(label["model"], str)
    if not whole or not np.isfinite(terms).all():
        raise RunError(again)
    if enumerated:
        return _Result(label, terms, worst)
    if settings.get("replies") and result["policy"]:
        metrics = stored_resamples(result)
        drawn = metrics[:, [METRICS.index(name) for name in TERMS]]
        replies = settings["replies"]
        return _Result(label, terms, worst, drawn, replies, replies * len(result["policy"]))
    table = file.with_suffix(".parquet")
    decisions, rounds = _table(table, "decisions"), _table(rounds_file(table), "rounds")
    try:
        means = EpisodeMeans.of_tables(game.spec, rounds, decisions)
        summed = row_of(means.terms()[0])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{table} cannot be weighed: {error}; evaluate again") from None
    if not np.allclose(summed, terms, rtol=0, atol=AGREE):
        raise RunError(f"{file} does not belong to the decisions beside it; delete both and evaluate again")
    drawn, decisions = _resamples(means, seed), int(means.decisions.sum())
    return _Result(label, summed, worst, drawn, fewest(means.group), decisions)


def _stored_worst_case(metrics: Sequence[dict]) -> Estimate | None:
    """The worst case among a result's metrics; None where it was not found, or not looked for."""
    for row in metrics:
        if row["metric"] == "worst_case" and row["value"] is not None:
            numbers = (row[name] for name in ("value", "low", "high"))
            return Estimate(*(None if number is None else float(number) for number in numbers), 0)
    return None


def _table(file: Path, kind: str) -> pd.DataFrame:
    if not file.exists():
        raise RunError(f"{file} is missing: no stored {kind} to weigh; evaluate again")
    return read_table(file)
