"""sepo_kit: train language-model agents on strategic games with Safe Equilibrium Policy Optimization.

Method: arXiv 2605.30854. The names below are the public interface; each is imported on first use, so that what needs
few of them, such as a notebook's entry in a batch, starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_LATER = {
    "GAMES": "games",
    "Game": "games",
    "GameError": "games",
    "Weights": "games",
    "check_game": "games",
    "get_game": "games",
    "register": "games",
    "play": "adversaries.play",
    "scripted": "engine.policy",
    "tabular": "engine.policy",
    "uniform": "engine.policy",
    "cross_play": "evaluation.cross_play",
    "evaluate": "evaluation.evaluate",
    "held_out": "evaluation.held_out",
    "load_model": "models.loading",
    "language_model": "models.loading",
    "endpoint": "models.endpoint",
    "export": "evaluation.export",
    "push": "evaluation.push",
    "prompt_invariance": "evaluation.wordings",
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
    "prompt_invariance",
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
    if name == "exact":
        return import_module("sepo_kit.exact")
    if name not in _LATER:
        raise AttributeError(f"module 'sepo_kit' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"sepo_kit.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
