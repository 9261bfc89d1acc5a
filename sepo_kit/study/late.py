"""The study of late training: what four times the published steps do, by whom is trained against and how is paid.

The authors' later draft has runs that collapse late; this looks for that in ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sepo_kit.games import get_game
from sepo_kit.objective.step import WORST_CASE
from sepo_kit.study.exploiters import BOTH
from sepo_kit.study.rivals import RivalTrial, model_trials
from sepo_kit.training.settings import SEPOSettings

NAME = "late"
STEPS = 400  # four times those of arXiv 2605.30854
EVERY = 100  # steps between two judgements where information states are many


def rivals_of(game: str) -> dict[str, dict[str, Any]]:
    """What each rival changes of a profile's settings on ``game``."""
    few = get_game(game).spec.few_states
    against = {"exploiters": WORST_CASE} if few else {"exploiters": BOTH, "exploiters_every": 5}
    return {
        "credited": {},
        "grouped": {"mode": "grouped"},
        against["exploiters"]: {**against, "schedule": "linear"},
    }


def trials(
    agent: str,
    games: Sequence[str],
    seeds: Sequence[int],
    steps: int | None = None,
    rivals: Sequence[str] | None = None,
    bases: Mapping[str, str] | None = None,
    sepo: Mapping[str, SEPOSettings] | None = None,
) -> list[RivalTrial]:
    """All trials of one language model, those of a seed together.

    Parameters
    ----------
    steps
        None: 400.
    rivals
        Names of ``rivals_of``; None: all.
    bases, sepo
        By game: the warm starts, and a profile's settings.

    Raises
    ------
    ValueError
        A rival is unknown, or the agent is no language model.
    """
    known = {game: rivals_of(game) for game in games}
    return model_trials(agent, games, seeds, known, rivals, bases, sepo, {"steps": steps or STEPS}, EVERY)
