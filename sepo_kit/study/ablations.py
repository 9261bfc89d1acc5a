"""The study of ablations: SEPO as it is trained, and with one setting changed at a time.

Published beside the credit study (``mechanism.py``), which crosses mode, horizon and draws with each other.
"""

from __future__ import annotations

from typing import Any

from sepo_kit.games import get_game
from sepo_kit.games.base import Weights
from sepo_kit.objective.credit import OWN_HORIZON
from sepo_kit.study.mechanism import CREDIT_MODES
from sepo_kit.study.rivals import BASE, Rivals, RivalStudy
from sepo_kit.training.settings import SEPOSettings

AS_TRAINED = "as trained"


def rivals_of(agent: str, game: str, sepo: SEPOSettings) -> Rivals:
    """What each rival changes of a profile's settings ``sepo`` on ``game``.

    The modes other than ``credited`` differ from it in their baseline as well (the group's own mean, the rollout
    itself in it) and in what they divide by (the group's standard deviation in place of the batch's).
    """
    spec = get_game(game).spec
    found: dict[str, dict[str, Any]] = {AS_TRAINED: {}, "no warm start": {BASE: agent}}
    found |= {f"credit: {mode}": {"mode": mode} for mode in CREDIT_MODES if mode != sepo.mode}
    if not spec.independent_rounds:
        found["own round only"] = {"horizon": "round"}
        found |= {
            f"credit: {mode}, to the end": {"mode": mode, "horizon": OWN_HORIZON["credited"]}
            for mode in ("shared", "grouped")
        }
    found["independent draws"] = {"common_random_numbers": False}
    if sepo.rollouts >= 4:  # a baseline needs another rollout
        found["half the rollouts"] = {"rollouts": sepo.rollouts // 2}
    found["twice the rollouts"] = {"rollouts": sepo.rollouts * 2}
    found["one group"] = {"groups": 1}
    found["four times the groups"] = {"groups": sepo.groups * 4}
    found["no KL"] = {"beta": 0.0}
    found["KL as published"] = {"beta": 0.2 if spec.zero_sum else 0.1}  # arXiv 2605.30854, its method
    found |= {
        f"weights x {factor:g}": {
            "weights": Weights(*(factor * weight for weight in vars(sepo.weights or spec.weights).values()))
        }
        for factor in (0.0, 0.5, 2.0)
    }
    found["limit in place of a weight"] = {"limits": {"exploit": 0.05}}
    as_it_is = {**vars(sepo), BASE: None}
    return {
        name: new for name, new in found.items() if not new or any(as_it_is[key] != new[key] for key in new)
    }


ABLATIONS = RivalStudy("ablations", rivals_of)
