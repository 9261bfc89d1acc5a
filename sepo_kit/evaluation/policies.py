"""The policies behind results: where information states are few, an evaluation keeps how its agent plays at each of
them, so that every number of it can be computed again without the agent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from sepo_kit import exact
from sepo_kit.engine.policy import TabularPolicy, tabular
from sepo_kit.evaluation.results import KEYS, STAGE_NAMES, read_result
from sepo_kit.games import get_game
from sepo_kit.games.base import Game
from sepo_kit.runs import replacing

COLUMNS = (*KEYS, "information", "action", "probability")
Key = tuple[str, str, int | None]


def policy_frame(files: Iterable[Path | str]) -> pd.DataFrame:
    """One row per agent, information state (by its key) and legal action, of all result files that hold a policy."""
    rows = []
    for file in files:
        result = read_result(file)
        label = [result["label"][key] for key in KEYS]
        for information, row in (result.get("policy") or {}).items():
            rows += [(*label, information, action, probability) for action, probability in row.items()]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"probability": float, "seed": "Int64"})


def write_policies(files: Iterable[Path | str], folder: Path | str, name: str) -> list[Path]:
    """Write ``policy_frame`` as ``name``-policies.parquet into ``folder``; its path, or []."""
    frame = policy_frame(files)
    if frame.empty:
        return []
    path = Path(folder) / f"{name}-policies.parquet"
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)
    return [path]


def policies_of(frame: pd.DataFrame, game: Game | str) -> dict[Key, TabularPolicy]:
    """The agents of ``policy_frame`` on ``game``, by (model, stage, seed); the seed None for a base model."""
    game = get_game(game)
    own = frame[frame["game"] == game.spec.id]
    if own.empty:
        return {}
    states = exact.information_states(game)
    found = {}
    for (model, stage, seed), part in own.groupby(["model", "stage", "seed"], dropna=False, sort=False):
        seed = None if pd.isna(seed) else int(seed)
        values = part.set_index(["information", "action"])["probability"].to_dict()
        rows = {s.key: [values[s.key, action] for action in s.legal_actions] for s in states}
        name = f"{model} {STAGE_NAMES[stage]}" + ("" if seed is None else f", seed {seed}")
        found[model, stage, seed] = tabular(game, rows, name=name)
    return found


def stored_policies(files: Sequence[Path | str], game: Game | str) -> dict[Key, TabularPolicy]:
    """The agents whose whole policy stands in result files on ``game``, by (model, stage, seed)."""
    return policies_of(policy_frame(files), game)
