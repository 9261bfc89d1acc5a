"""The study of late training: what four times the published steps do, by whom is trained against and how is paid.

The authors' later draft has runs that collapse late; this looks for that in ours.
"""

from __future__ import annotations

from sepo_kit.games import get_game
from sepo_kit.objective.step import WORST_CASE
from sepo_kit.study.exploiters import BOTH
from sepo_kit.study.rivals import Rivals, RivalStudy
from sepo_kit.training.settings import SEPOSettings

STEPS = 400  # four times those of arXiv 2605.30854
EVERY = 100  # steps between two judgements where information states are many


def rivals_of(agent: str, game: str, sepo: SEPOSettings) -> Rivals:
    """What each rival changes of a profile's settings ``sepo`` on ``game``."""
    few = get_game(game).spec.few_states
    against = {"exploiters": WORST_CASE} if few else {"exploiters": BOTH, "exploiters_every": 5}
    return {
        "credited": {},
        "grouped": {"mode": "grouped"},
        against["exploiters"]: {**against, "schedule": "linear"},
    }


LATE = RivalStudy("late", rivals_of, shared={"steps": STEPS}, every=EVERY)
