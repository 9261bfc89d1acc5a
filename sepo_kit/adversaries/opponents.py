"""Who may sit opposite, by name: the one grammar of opponents, for play, evaluation, training and the table.

==================  ==============================================================================================
name                who
==================  ==============================================================================================
``tit-for-tat``     a strategy of the game
``self``            the agent as it is now, in both seats
``worst-case``      the best response to the agent as it is now, found exactly
``fitted``          the best response to a table fitted to play of the agent, which need not state anything
``axelrod:NAME``    a strategy of Axelrod's library (prisoner's dilemma), such as ``axelrod:Gradual``
``run:PATH[@STEP]`` a finished run, or what a run had learned by a saved step
``model:NAME``      a language model as ``load_model`` takes it
``endpoint:NAME``   a server that the user's own file of endpoints names (``models/endpoints_file.py``)
==================  ==============================================================================================

``WORDS`` and ``PREFIXES`` are the whole grammar: a new kind of opponent is one more function in one of them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from sepo_kit import exact
from sepo_kit.engine.policy import NoDistribution, Policy, scripted
from sepo_kit.games import get_game
from sepo_kit.games.base import Game
from sepo_kit.models import SHIPPED
from sepo_kit.models.hub import downloaded
from sepo_kit.runs import MANIFEST, WEIGHTS, RunError, adapter_of, read_manifest

ALLOWED = "self, worst-case, fitted, axelrod:NAME, run:PATH[@STEP], model:NAME, endpoint:NAME"


def resolve(game: Game | str, name: str, agent: Policy | None = None, **how) -> Policy:
    """The policy called ``name``, a name of the grammar.

    Parameters
    ----------
    agent
        Who it will sit opposite; ``self``, ``worst-case`` and ``fitted`` need one.
    how
        How language models play: parameters of ``language_model``, such as ``style``.

    Raises
    ------
    ValueError
        Nothing is called so; or no best response can be found exactly.
    OSError
        A model's files are missing or broken.

    >>> resolve("ipd", "tit-for-tat").name
    'tit-for-tat'
    """
    game = get_game(game)
    require_known(game, name)
    if name in game.strategies:
        return scripted(game, name)
    if name in WORDS:
        if agent is None:
            raise ValueError(
                f"{name!r} is an opponent of an agent, and there is none; name a strategy or a run"
            )
        return WORDS[name](game, agent)
    prefix, _, rest = name.partition(":")
    return PREFIXES[prefix](game, rest, how)


def require_known(game: Game, name: str) -> None:
    """ValueError unless ``name`` is one of the grammar; whether what it names is there, ``require_there`` says."""
    prefix, _, rest = name.partition(":")
    if name not in game.strategies and name not in WORDS and not (rest and prefix in PREFIXES):
        raise ValueError(
            f"unknown strategy {name!r} in {game.spec.id}; known: {', '.join(game.strategies)}; or {ALLOWED}"
        )


def require_there(game: Game, name: str) -> None:
    """Raise what ``resolve`` would where nothing is there that ``name`` stands for. Of models that lie on this machine
    no weights are loaded."""
    require_known(game, name)
    prefix, _, rest = name.partition(":")
    if name not in game.strategies and prefix in PREFIXES and not _lies_here(prefix, rest):
        PREFIXES[prefix](game, rest, {})


def resolve_all(
    game: Game | str, names: Iterable[str], agent: Policy | None = None, **how
) -> dict[str, Policy]:
    """``names`` with their policies, each found once: what ``play_matches`` takes as ``opponents``."""
    return {name: resolve(game, name, agent, **how) for name in dict.fromkeys(names)}


def resolve_agent(game: Game | str, name: str, **how) -> Policy:
    """The agent called ``name``: a name of the grammar, or plainly what ``load_model`` takes.

    Raises
    ------
    ValueError, OSError
        As ``resolve``.
    """
    game = get_game(game)
    if how and (name in game.strategies or name.startswith("axelrod:")):
        told = ", ".join(f"{option}={value!r}" for option, value in how.items())
        raise ValueError(f"{name} is a strategy and has no {' or '.join(how)}, got {told}; leave that out")
    if name in game.strategies or name in WORDS or name.partition(":")[0] in PREFIXES:
        return resolve(game, name, None, **how)
    try:
        return _model(game, name, how)
    except RunError:
        raise
    except ValueError as error:
        known = ", ".join(game.strategies)
        raise ValueError(f"{error}; or a strategy of {game.spec.id}: {known}; or run:PATH[@STEP]") from None


def run_and_step(named: str) -> tuple[str, int | None]:
    """The run folder and the saved step that ``PATH[@STEP]`` names; ValueError where the step is no number."""
    path, at, step = named.rpartition("@")
    if not at or Path(named).exists():
        return named, None
    if not step.isdecimal():
        raise ValueError(f"the step in run:{named} must be a whole number, got {step!r}; write run:PATH@25")
    return path, int(step)


def file_label(name: str) -> str:
    """``name`` as a part of a file's name: a name that has to be changed for it gets a number that is its own.

    >>> file_label("tit-for-tat")
    'tit-for-tat'
    >>> file_label("run:runs/mine@25")
    'run-runs-mine-25-1263'
    """
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.")
    return plain if plain == name else f"{plain}-{zlib.crc32(name.encode()) & 0xFFFF:04x}"


def _lies_here(prefix: str, rest: str) -> bool:
    """Whether a name stands for a finished run, a saved step or a model, with all that it is made of."""
    if prefix == "run":
        return _is_run(*run_and_step(rest))
    return prefix == "model" and _is_model(rest)


def _is_run(path: str, step: int | None) -> bool:
    from sepo_kit.models.loading import raw_model

    if not (Path(path) / MANIFEST).exists():
        return False
    ended = step is not None or read_manifest(path)["status"] == "done"
    return ended and (adapter_of(path, step) / WEIGHTS).exists() and _is_model(raw_model(Path(path)))


def _is_model(name: str) -> bool:
    if name in SHIPPED or (Path(name) / "config.json").exists():
        return True
    return _is_run(name, None) if Path(name).is_dir() else downloaded(name) is not None


# --- the kinds ------------------------------------------------------------------------------------


def _self(game: Game, agent: Policy) -> Policy:
    return agent


def _worst_case(game: Game, agent: Policy) -> Policy:
    try:
        return exact.worst_case(game, agent).adversary
    except exact.TooLarge:
        why = f"{game.spec.id} has too many states"
    except exact.Forgets as error:
        why = str(error)
    except NoDistribution:
        why = f"{agent.name} states no distribution"
    raise ValueError(
        f"worst-case cannot be found exactly: {why}; name strategies, self or run:PATH instead, or fitted"
    )


def _fitted(game: Game, agent: Policy) -> Policy:
    from sepo_kit.adversaries.fitted import fit_adversary  # it plays, with names of this grammar

    return fit_adversary(game, agent)


def _run(game: Game, rest: str, how: dict) -> Policy:
    from sepo_kit.models.loading import language_model, load_model  # torch, which strategies do not need

    path, step = run_and_step(rest)
    if not Path(path).is_dir():
        raise ValueError(f"there is no run {path}; name a run folder as run:PATH or run:PATH@STEP")
    name = Path(path).name + ("" if step is None else f"@{step}")
    return language_model(load_model(path, step=step), game, **{"name": name, **how})


def _axelrod(game: Game, rest: str, how: dict) -> Policy:
    from sepo_kit.adversaries.suites import axelrod_strategy  # it needs seconds to load

    return axelrod_strategy(game, rest)


def _model(game: Game, rest: str, how: dict) -> Policy:
    from sepo_kit.models.loading import language_model, load_model

    return language_model(load_model(rest), game, **how)


def _endpoint(game: Game, rest: str, how: dict) -> Policy:
    from sepo_kit.models.endpoints_file import named_endpoint

    return named_endpoint(rest, game, **how)


WORDS: dict[str, Callable[[Game, Policy], Policy]] = {
    "self": _self,
    "worst-case": _worst_case,
    "fitted": _fitted,
}
PREFIXES: dict[str, Callable[[Game, str, dict], Policy]] = {
    "axelrod": _axelrod,
    "run": _run,
    "model": _model,
    "endpoint": _endpoint,
}
