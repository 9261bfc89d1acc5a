"""sepo_kit: train language-model agents on strategic games with Safe Equilibrium Policy Optimization.

Method: arXiv 2605.30854. The names below are the public interface; those that need torch or an extra are imported on
first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sepo_kit import exact
from sepo_kit.adversaries.play import play
from sepo_kit.engine.policy import scripted, tabular, uniform
from sepo_kit.evaluation.cross_play import cross_play
from sepo_kit.evaluation.evaluate import evaluate
from sepo_kit.evaluation.held_out import held_out
from sepo_kit.games import GAMES, Game, GameError, Weights, check_game, get_game, register

__version__ = "0.1.0"

_LATER = {
    "load_model": "models.loading",
    "language_model": "models.loading",
    "endpoint": "models.endpoint",
    "export": "evaluation.export",
    "push": "evaluation.push",
    "train_adversary": "evaluation.attack",
    "AdversarySettings": "evaluation.attack",
    "LanguageAdversarySettings": "evaluation.attack",
    "train_sft": "training.sft",
    "train_sepo": "training.grpo",
    "SFTSettings": "training.settings",
    "SEPOSettings": "training.settings",
    "PROFILES": "pipeline.profiles",
    "get_profile": "pipeline.profiles",
}

__all__ = [
    "AdversarySettings",
    "LanguageAdversarySettings",
    "GAMES",
    "PROFILES",
    "Game",
    "GameError",
    "SEPOSettings",
    "SFTSettings",
    "Weights",
    "check_game",
    "cross_play",
    "endpoint",
    "evaluate",
    "exact",
    "export",
    "get_game",
    "get_profile",
    "held_out",
    "language_model",
    "load_model",
    "play",
    "push",
    "register",
    "scripted",
    "tabular",
    "train_adversary",
    "train_sepo",
    "train_sft",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'sepo_kit' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"sepo_kit.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
