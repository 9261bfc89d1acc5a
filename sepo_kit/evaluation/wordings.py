"""How much an agent depends on the words it was trained with: the same matches, asked in other wordings of the game."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from sepo_kit.engine.policy import NoDistribution, Policy
from sepo_kit.engine.reworded import require_wordings, reworded
from sepo_kit.evaluation.agents import agents_of
from sepo_kit.evaluation.evaluate import evaluate
from sepo_kit.evaluation.results import KEYS
from sepo_kit.games import get_game
from sepo_kit.games.base import Game

OWN = "own"  # the wording that training shows


def prompt_invariance(
    agent: Policy, game: Game | str, episodes: int = 20, seed: int = 0, *, worst_case: str = "quick"
) -> pd.DataFrame:
    """What an evaluation finds in the game's own words and in each of its other wordings, on the same draws.

    Numbers are exact where the agent states its distribution and the game has few states, and sampled else.

    Parameters
    ----------
    episodes
        Per opponent and wording, where play is sampled.
    worst_case
        As in ``evaluate``.

    Returns
    -------
    DataFrame
        One row per wording ("own" first) and metric: ``wording``, ``metric``, ``value``, ``low`` and ``high`` (its 95 %
        interval), ``n`` (episodes), ``moved`` (how far the value is from that in the game's own words).

    Raises
    ------
    ValueError
        The game has no wordings, or the agent reads no prompts; what ``evaluate`` refuses.
    """
    game = get_game(game)
    agents = {OWN: agent} | {name: reworded(agent, game, name) for name in require_wordings(game)}
    frames = []
    for wording, policy in tqdm(agents.items(), desc=f"wordings of {game.spec.id}", leave=False):
        try:
            found = evaluate(policy, game, episodes, seed, exact=game.spec.few_states, worst_case=worst_case)
        except NoDistribution:
            found = evaluate(policy, game, episodes, seed, worst_case=worst_case)
        frames.append(found.to_frame().drop(columns=["agent", "game"]).assign(wording=wording))
    table = pd.concat(frames, ignore_index=True)
    own = table[table["wording"] == OWN].set_index("metric")["value"].astype(float)
    table["moved"] = table["value"].astype(float) - table["metric"].map(own)
    return table[["wording", "metric", "value", "low", "high", "n", "moved"]]


def prompt_invariance_of(files: Sequence[Path | str], episodes: int = 20, seed: int = 0) -> pd.DataFrame:
    """The agents of result files in all wordings of their games: the columns of ``prompt_invariance`` after those that
    name model, game, stage and seed."""
    frames = [
        prompt_invariance(agent, label["game"], episodes, seed).assign(**label)
        for label, agent in tqdm(agents_of(files), total=len(files), desc="wordings")
    ]
    columns = [*KEYS, "wording", "metric", "value", "low", "high", "n", "moved"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
