"""The games in other people's interfaces, each behind an extra of its own.

=====================  ===========================================  ======================
function               gives                                        extra
=====================  ===========================================  ======================
``to_open_spiel``      a registered ``pyspiel.Game``                ``openspiel``
``to_pettingzoo``      a PettingZoo environment, parallel or AEC    ``pettingzoo``
``to_gymnasium``       a Gymnasium environment of one seat          ``gymnasium``
``to_verifiers``       a verifiers environment (its v1 interface)   ``verifiers``
``to_trl``             an ``environment_factory`` for GRPOTrainer   none, TRL is installed
=====================  ===========================================  ======================

Nothing foreign is imported before one of them is called. All raise ImportError, which names the extra, where a package
is missing, and ValueError, which says what there is, for an unknown game or an unsuitable setting. Rules, prompts and
parsing stay those of the game; what action numbers and vectors mean is in ``encoding.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sepo_kit.engine.policy import Policy
from sepo_kit.games import Game, get_game
from sepo_kit.interop.opponents import opponents_of

if TYPE_CHECKING:
    import gymnasium
    import pettingzoo
    import pyspiel
    import verifiers.v1 as vf

__all__ = ["to_gymnasium", "to_open_spiel", "to_pettingzoo", "to_trl", "to_verifiers"]


def to_open_spiel(game: str | Game, rounds: int | None = None) -> pyspiel.Game:
    """The game as OpenSpiel's, registered as ``sepo_kit_ID``: chance and simultaneous moves are nodes of its tree.

    Parameters
    ----------
    rounds
        End after so many rounds (default: all); one hand of Kuhn poker is OpenSpiel's ``kuhn_poker``.
    """
    game = get_game(game)
    return _room("open_spiel_game", "openspiel", "pyspiel").to_open_spiel(game, rounds)


def to_pettingzoo(
    game: str | Game, api: str = "parallel"
) -> pettingzoo.ParallelEnv | pettingzoo.utils.env.AECEnv:
    """The game as a PettingZoo environment of agents ``player_0`` and ``player_1``.

    Parameters
    ----------
    api
        "parallel": all agents send an action each step; that of an agent who is not to move is not read. "aec": one
        agent after the other; where both move at once the second does not see what the first did.
    """
    game = get_game(game)
    if api not in ("parallel", "aec"):
        raise ValueError(f"api must be one of parallel, aec, got {api!r}")
    room = _room("pettingzoo_env", "pettingzoo", "pettingzoo", "gymnasium")
    return room.ParallelGame(game) if api == "parallel" else room.TurnGame(game)


def to_gymnasium(game: str | Game, opponent: str | Policy = "train", seat: int = 0) -> gymnasium.Env:
    """One seat of the game as a Gymnasium environment, the other played inside.

    Parameters
    ----------
    opponent
        A pool ("train", "exploit", "collusive", "shift"): one of its members is drawn each episode; the id of a
        strategy; or any policy.
    seat
        The seat of the learner, 0 or 1.
    """
    game = get_game(game)
    return _room("gymnasium_env", "gymnasium", "gymnasium").SeatEnv(game, opponent, seat)


def to_verifiers(game: str | Game, rollouts: int = 4, style: str = "reasoned") -> vf.Env:
    """The game as a verifiers environment: a task is one training step, a decision one trace.

    Parameters
    ----------
    rollouts
        Episodes against every opponent of the train, exploit and collusive pools.
    style
        How replies are written, "reasoned" or "direct".
    """
    game = get_game(game)
    return _room("verifiers_env", "verifiers", "verifiers").to_verifiers(game, rollouts, style)


def to_trl(game: str | Game, opponent: str | Policy = "train", seat: int = 0) -> Callable[[], Any]:
    """An ``environment_factory`` for TRL's ``GRPOTrainer``: the model plays one seat by calling a tool.

    ``opponent`` and ``seat`` as in ``to_gymnasium``. The reward is the seat's mean payoff per round, scaled.
    """
    game = get_game(game)
    policies = opponents_of(game, opponent, seat)
    return partial(import_module("sepo_kit.interop.trl_env").TrlEnv, game, policies, seat)


def _room(module: str, extra: str, *packages: str) -> ModuleType:
    """The adapter ``module``; where one of ``packages`` is missing, an error that names the extra."""
    try:
        return import_module(f"sepo_kit.interop.{module}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in packages:
            raise
        raise ImportError(
            f"this interface needs the package {missing}, which is not installed; "
            f"install it with: pip install 'sepo_kit[{extra}]'",
            name=missing,
        ) from None
