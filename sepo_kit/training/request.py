"""What a run says was asked of it, and what it was made from: the code, the base, and opponents that are models. No
torch.
"""

from __future__ import annotations

import hashlib
import json
import operator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sepo_kit.adversaries.opponents import run_and_step
from sepo_kit.games.base import Game
from sepo_kit.models import SHIPPED
from sepo_kit.models.hub import downloaded_hash
from sepo_kit.runs import (
    MANIFEST,
    WEIGHTS,
    adapter_of,
    base_as_held,
    code_fingerprint,
    file_hash,
    weights_hash,
)
from sepo_kit.training.game_files import game_files
from sepo_kit.training.settings import SEPOSettings, SFTSettings

# The rooms whose code decides what a stage makes; what only records, draws or asks is left out.
ROOMS = {
    "sft": ("games", "engine", "objective", "models", "training"),
    "sepo": ("games", "engine", "objective", "exact", "models", "adversaries", "training"),
}
ROOMS["worst-case"] = ROOMS["sepo"]  # SEPO against best responses
ROOMS["table"] = ("games", "engine", "objective", "exact", "adversaries", "study")
LARGEST_SEED = 2**32 - 1  # NumPy's


def request_of(
    stage: str,
    base: str | Path,
    game: Game,
    run_folder: str | Path,
    settings: SFTSettings | SEPOSettings,
    seed: int,
) -> dict[str, Any]:
    """What the manifest of such a run says was asked, and what it is made from: the code, the base, and the opponents
    that are models.

    Raises
    ------
    ValueError
        The seed is no whole number between 0 and 4294967295, or the step of an opponent is none.
    """
    request = {
        "stage": stage,
        "base": base_as_held(run_folder, base),
        "base_sha256": model_hash(base),
        **_opponents(settings),
        "game": game.spec.id,
        "seed": checked_seed(seed),
        "settings": settings.as_request(),
        "code": code_of(ROOMS[stage], game),
    }
    return json.loads(json.dumps(request))  # as manifests hold it


def checked_seed(seed: int) -> int:
    """``seed`` as Python's int, NumPy's taken; ValueError where it is no seed."""
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if isinstance(seed, bool) or not 0 <= number <= LARGEST_SEED:
        raise ValueError(f"seed must be a whole number from 0 to {LARGEST_SEED}, got {seed!r}")
    return number


def code_of(rooms: tuple[str, ...], game: Game, *others: Path) -> str:
    """The fingerprint of the code of ``rooms``, of the files ``others`` and of ``game``: its spec, its wordings and,
    where it is a user's own, its files.

    Raises
    ------
    ValueError
        A class of the game or of its players is in no file.
    """
    while hasattr(game, "inner"):  # seen from the other seat, it is the same game
        game = game.inner
    code = code_fingerprint(rooms, *others, *game_files(game))
    said = f"{code} {game.spec!r} {dict(game.wordings)!r}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _opponents(settings: SFTSettings | SEPOSettings) -> dict[str, str | None]:
    """What the request says of the runs and the models that the pools of ``settings`` name; None where one is not
    there. Those of the kit are what its code says."""
    pools = getattr(settings, "pools", None)
    named = {name.partition(":")[::2] for pool in asdict(pools).values() for name in pool} if pools else ()
    runs = [run_and_step(rest) for kind, rest in sorted(named) if kind == "run"]
    models = [rest for kind, rest in sorted(named) if kind == "model" and rest not in SHIPPED]
    told = {
        "pools_sha256": [adapter_hash(*run) for run in runs],
        "models_sha256": [model_hash(model) for model in models],
    }
    return {name: _of_all(hashes) for name, hashes in told.items() if hashes}


def _of_all(hashes: list[str | None]) -> str | None:
    return None if None in hashes else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def model_hash(name: str | Path) -> str | None:
    """What tells a model from others of its ``name``: of a run the hash of its adapter, of a folder and of a model of a
    hub that of the weights. None for those of the kit, and for what is not there."""
    if str(name) in SHIPPED:
        return None
    if (Path(name) / MANIFEST).exists():
        return adapter_hash(name)
    return weights_hash(name) if Path(name).is_dir() else downloaded_hash(str(name))


def adapter_hash(run: str | Path, step: int | None = None) -> str | None:
    """SHA-256 of the adapter of a run, or of that of a step it saved; None where it is not there."""
    file = adapter_of(run, step) / WEIGHTS
    return file_hash(file) if (Path(run) / MANIFEST).exists() and file.exists() else None
