"""Everything that lies in run folders, read back as tables: which runs there are, their curves, their episodes.

Files that are missing, broken or of another version give one clear line, never a stack trace. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sepo_kit.engine.episode import Decision
from sepo_kit.engine.rollout import Match
from sepo_kit.engine.sitting import Sitting, Turn, replayed
from sepo_kit.engine.tables import EPISODE, read_table, rounds_file
from sepo_kit.evaluation.reasons import named_in, read_reason
from sepo_kit.games import GAMES, get_game
from sepo_kit.games.base import SEATS
from sepo_kit.runs import (
    EPISODES,
    MANIFEST,
    METRICS,
    PROGRESS,
    RunError,
    base_of,
    lineage,
    read_json,
    read_lines,
    read_manifest,
)
from sepo_kit.runs.project import profile_of
from sepo_kit.runs.shelf import run_folders

COLUMNS = (
    "run", "profile", "model", "game", "stage", "seed", "status", "step", "steps", "wall_seconds", "machine",
    "problem", "path",
)  # fmt: skip
BROKEN = "broken"
AGENT = "agent"  # who, in a match read move by move: the policy under test
NEEDED = {
    "game", "pool", "opponent", "group", "index", "seed", "round", "own", "their", "collusion", "externality",
}  # fmt: skip
MOVES = {"seat", "move", "information", "action", "reply"}
MATCH = list(EPISODE)
MatchKey = tuple[str, str, int, int]  # the values of those columns
Record = dict[str, Any]  # a row of a recording, by column


# --- runs -----------------------------------------------------------------------------------------


def find_runs(root: Path | str) -> pd.DataFrame:
    """All run folders under ``root``, one row each; no row where there are none.

    ``run``: the folder under ``root``. ``profile``: that of ``profile_of`` where the folder lies as ``reproduce`` puts
    it, else "". ``status``: "started", "done", or "broken" with the reason in ``problem``. ``step`` of ``steps``: where
    training stands.
    """
    root = Path(root)
    folders = run_folders(root) if root.is_dir() else []
    rows = [_row(folder, root) for folder in folders if "checkpoints" not in folder.relative_to(root).parts]
    # One that is broken and has no manifest was deleted meanwhile.
    there = [row for row in rows if row["status"] != BROKEN or (row["path"] / MANIFEST).exists()]
    return pd.DataFrame(there, columns=COLUMNS)


def _row(folder: Path, root: Path) -> dict[str, Any]:
    name = str(folder.relative_to(root)) if folder != root else folder.name
    row = dict.fromkeys(COLUMNS, "") | {"run": name, "path": folder, "seed": None, "wall_seconds": np.nan}
    row |= {"step": 0, "steps": 0}
    try:
        manifest = read_manifest(folder)
        request = manifest["request"]
        row |= {"game": str(request["game"]), "stage": str(request["stage"]), "seed": int(request["seed"])}
        row |= {"status": str(manifest["status"]), "machine": str(manifest.get("machine", ""))}
        row["model"] = _first_model(folder)
        row["wall_seconds"] = float(manifest.get("wall_seconds", np.nan))
        if (folder / PROGRESS).exists():
            progress = read_json(folder / PROGRESS, dict, {"step": int, "total": int})
            row |= {"step": int(progress["step"]), "steps": int(progress["total"])}
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:  # RunError is a ValueError
        said = (
            str(error)
            if isinstance(error, RunError | OSError)
            else f"{folder / MANIFEST} lacks what this version writes"
        )
        return row | {"status": BROKEN, "problem": said}
    layout = folder.resolve().parts[-4:]
    if len(layout) == 4 and layout[2:] == (row["game"], f"{row['stage']}-seed-{row['seed']}"):
        row["profile"] = profile_of(folder.resolve().parents[2])
        row["model"] = layout[1].replace("--", "/")
    return row


def _first_model(folder: Path) -> str:
    """What the chain of bases began with: a model's name; of a learner without a base, whom it attacks."""
    *_, (first, manifest) = lineage(folder)
    request = manifest["request"]
    if "base" not in request:  # a table that learns to attack somebody
        return f"against {request['agent']}"
    return base_of(first, request)


def curves(folder: Path | str) -> pd.DataFrame:
    """What a run logged, one row per step; empty where it logged nothing yet.

    Raises
    ------
    RunError
        The log is broken.
    """
    file = Path(folder) / METRICS
    rows = read_lines(file, {"step": int})
    odd = [name for row in rows for name, value in row.items() if not isinstance(value, int | float | None)]
    if odd:
        raise RunError(f"{file} is not a log of this version ({min(odd)}); delete {folder} to start again")
    return pd.DataFrame(rows)


def compare(runs: pd.DataFrame) -> pd.DataFrame:
    """The curves of several runs, one under the other, with columns run, game and stage.

    ``runs``: rows of ``find_runs``. The loss of SEPO is left out: its value says nothing about progress.

    Raises
    ------
    RunError
        A log is broken.
    """
    parts = []
    for row in runs.itertuples():
        part = curves(row.path).assign(run=row.run, game=row.game, stage=row.stage)
        parts.append(part.drop(columns="loss", errors="ignore") if row.stage != "sft" else part)
    return (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(columns=["run", "game", "stage", "step"])
    )


# --- episodes -------------------------------------------------------------------------------------


def recordings(folder: Path | str) -> dict[str, Path]:
    """Files of recorded episodes that belong to a run, by what they are: "training, step 25", "evaluation"."""
    folder = Path(folder)
    found = {f"training, step {int(file.stem.split('-')[-1])}": file
             for file in sorted((folder / EPISODES).glob("step-*.parquet")) if file.stem[5:].isdigit()}  # fmt: skip
    results = folder.parent / "results"
    for label, file in (("evaluation", f"{folder.name}.parquet"), ("evaluation of the base", "base.parquet")):
        if (results / file).exists():
            found[label] = results / file
    return found


@dataclass(frozen=True)
class Recording:
    """Recorded episodes: ``decisions``, one row each (``engine.episode.decision_frame``; training adds step, reward,
    advantage, trained), and ``rounds``, one row each (``round_frame``)."""

    decisions: pd.DataFrame
    rounds: pd.DataFrame

    @property
    def game(self) -> str:
        """The id of the game that was played."""
        return str(self.rounds["game"].iloc[0])


def read_episodes(file: Path | str) -> Recording:
    """The recorded decisions in ``file``, and the rounds beside it.

    Raises
    ------
    RunError
        A file is missing, broken, of another version, or of a game that is not registered in this process.
    """
    return Recording(_read(Path(file), NEEDED | MOVES), _read(rounds_file(file), NEEDED))


def _read(file: Path, needed: set[str]) -> pd.DataFrame:
    frame = read_table(file, needed)
    if frame.empty:
        raise RunError(f"{file} holds no moves: its recording was left unfinished; make it again")
    unknown = sorted(set(frame["game"]) - set(GAMES))
    if unknown:
        raise RunError(
            f"{file} is of a game that is not registered here, {', '.join(map(repr, unknown))}; sk.register(GAME) or "
            f"install its package first; known: {', '.join(GAMES)}"
        )
    return frame


def matches_of(recording: Recording) -> pd.DataFrame:
    """The matches in a recording: pool, opponent, group, index, and the means per round of own, their, collusion
    and externality; where it is of training, the sum of its advantages, in the order of the file."""
    means = recording.rounds.groupby(MATCH, sort=False)[["own", "their", "collusion", "externality"]].mean()
    if "advantage" in recording.decisions:
        sums = recording.decisions.groupby(MATCH, sort=False)["advantage"].sum()
        means["advantage"] = sums.reindex(means.index, fill_value=0.0)
    return means.reset_index()


def read_match(
    recording: Recording, pool: str, opponent: str, group: int = 0, index: int = 0
) -> pd.DataFrame:
    """One match of a recording, move by move, both seats: what each was told, said and did, and what it earned.

    Prompts and the moves of strategies are not stored: the match is played again from its draws and the recorded moves.
    Whoever else sat opposite is not asked again.

    Returns
    -------
    DataFrame
        round (from 1), who (``AGENT`` or the opponent's name), prompt, reply, action, reason (a strategy's); where they
        are recorded also log_prob, fallback; of a reply in text its reading (``reasons.READINGS``); for the agent own,
        their, collusion, externality, and of training reward, advantage, trained.

    Raises
    ------
    RunError
        There is no such match, or it does not come out again: the game's rules or strategies have changed since.
    """
    told = []
    for turn, record in turns_of(recording, pool, opponent, group, index):
        line = {"round": turn.round + 1, "who": AGENT if turn.seat == 0 else opponent, "prompt": turn.prompt,
                "reply": "", "action": turn.action, "reason": turn.reason or ""}  # fmt: skip
        if record is not None:
            line |= {"reply": record["reply"] if isinstance(record["reply"], str) else "", "reason": ""}
            line |= {name: record[name] for name in (_SAID if turn.seat else _OWN) if name in record}
            line |= _reading(recording.game, turn, line["reply"])
        told.append(line)
    return pd.DataFrame(told)


def reasons_in(recording: Recording) -> pd.DataFrame:
    """The reasons that the agent's replies give, in all matches of a recording.

    Returns
    -------
    DataFrame
        One row per reply in text: pool, opponent, group, index, round, information, reply, action, ``reading`` (one of
        ``reasons.READINGS``) and ``names`` ("its action", "another" or "none": what the reason names). Summed up by
        ``reasons.shares``.

    Raises
    ------
    RunError
        A match does not come out again.
    """
    rows = []
    decisions, rounds = _by_match(recording.decisions), _by_match(recording.rounds)
    for key in rounds:
        for turn, record in _turns(key, decisions.get(key, []), rounds[key]):
            reply = record["reply"] if record is not None and turn.seat == 0 else None
            if isinstance(reply, str) and (read := _reading(recording.game, turn, reply)):
                names = named_in(reply, turn.seen.legal_actions, turn.action)
                said = (turn.round, record["information"], reply, turn.action, read["reading"], names)
                rows.append((*key, *said))
    columns = [*MATCH, "round", "information", "reply", "action", "reading", "names"]
    return pd.DataFrame(rows, columns=columns)


def _reading(game: str, turn: Turn, reply: str) -> dict[str, str]:
    """How a reply's reason reads; {} where it gives none since it is the action alone."""
    if reply in ("", turn.action):
        return {}
    return {"reading": read_reason(get_game(game), turn.seen, reply, turn.action)}


def turns_of(
    recording: Recording, pool: str, opponent: str, group: int = 0, index: int = 0
) -> list[tuple[Turn, Record | None]]:
    """The moves of one match, played again as by ``read_match``, each with its record: None for a strategy's."""
    key = (pool, opponent, group, index)
    decisions, rounds = (
        _only(frame, key).to_dict("records") for frame in (recording.decisions, recording.rounds)
    )
    if not rounds:
        raise RunError(f"no match {index} of group {group} against {opponent} ({pool}) in this recording")
    return _turns(key, decisions, rounds)


_SAID = ("log_prob", "fallback")
_OWN = (*_SAID, "own", "their", "collusion", "externality", "reward", "advantage", "trained")


def _only(frame: pd.DataFrame, key: MatchKey) -> pd.DataFrame:
    """The rows of ``frame`` of one match."""
    return frame[
        np.logical_and.reduce([frame[column] == value for column, value in zip(MATCH, key, strict=True)])
    ]


def _by_match(frame: pd.DataFrame) -> dict[MatchKey, list[Record]]:
    """The rows of ``frame`` of each match, as they come."""
    found: dict[MatchKey, list[Record]] = {}
    for record in frame.to_dict("records"):
        found.setdefault(tuple(record[column] for column in MATCH), []).append(record)
    return found


def _turns(
    key: MatchKey, decisions: Sequence[Record], rounds: Sequence[Record]
) -> list[tuple[Turn, Record | None]]:
    """The moves of the match ``key``, whose records these are, each with the one of its decision."""
    pool, opponent, group, index = key
    kept = {seat: [record for record in decisions if record["seat"] == seat] for seat in SEATS}
    sitting = _again(kept, rounds, Match(str(pool), str(opponent), int(index), int(group)))
    left = {seat: iter(records) for seat, records in kept.items()}
    return [(turn, next(left[turn.seat], None)) for turn in sitting.turns]


def _again(kept: Mapping[int, Sequence[Record]], rounds: Sequence[Record], match: Match) -> Sitting:
    """The match played again, from the records ``kept`` of each seat's decisions; RunError where it is not the same."""
    first = rounds[0]
    training = "step" in first
    mine, theirs = (kept[seat] for seat in SEATS)
    try:
        sitting = replayed(
            get_game(first["game"]), match, [record["action"] for record in mine], int(first["seed"]),
            answers=[Decision(record["action"]) for record in theirs] or None,
            step=int(first["step"]) - 1 if training else 0,
            common_random_numbers=training and bool(first.get("common_random_numbers", True)),
        )  # fmt: skip
        own, seen = sitting.episode().own, [turn.seen.key for turn in sitting.turns if turn.seat == 0]
        same = own == [record["own"] for record in rounds] and seen == [
            record["information"] for record in mine
        ]
        same = same and all(own[int(record["round"])] == record["own"] for record in mine)
    except (ValueError, IndexError):
        same = False
    if not same:
        raise RunError(
            "this match does not come out again: rules or strategies have changed since it was recorded"
        )
    return sitting
