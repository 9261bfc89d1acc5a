"""Endpoints by name: the user's own file of them, which never holds a key.

The file is ``$SEPO_KIT_ENDPOINTS``, else ``endpoints.toml`` in ``~/.config/sepo_kit`` ($XDG_CONFIG_HOME). One table per
name, its fields those of ``endpoint``::

    [mine]
    base_url = "http://127.0.0.1:8000/v1"
    model = "SmolLM2-135M-Instruct"
    style = "reasoned"
    key_variable = "MY_SERVERS_KEY"  # the variable's name; the key stays in the environment
    prices = [0.15, 0.60]  # of a million prompt and of a million reply tokens
    version = "step 200"  # of the model: another one is asked anew
    # kept = false  # would keep no replies on disk
"""

from __future__ import annotations

import inspect
import os
import tomllib
from pathlib import Path
from typing import Any

from sepo_kit.games.base import Game
from sepo_kit.models.cache import config_folder
from sepo_kit.models.endpoint import Endpoint, endpoint
from sepo_kit.models.server import checked_url, checked_variable

VARIABLE = "SEPO_KIT_ENDPOINTS"
NEEDED = ("base_url", "model")
FIELDS = tuple(name for name in inspect.signature(endpoint).parameters if name not in ("game", "name"))


def endpoints_file() -> Path:
    """Where the user's endpoints are described, whether the file is there or not."""
    return Path(os.environ.get(VARIABLE) or config_folder() / "endpoints.toml")


def read_endpoints(file: Path | str | None = None) -> dict[str, dict[str, Any]]:
    """The fields of every endpoint by its name; {} where there is no file.

    Raises
    ------
    ValueError
        The file is broken, a field is unknown or missing, or there is what may be a key. No value is repeated.
    """
    file = endpoints_file() if file is None else Path(file)
    if not file.is_file():
        return {}
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is not TOML ({error})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not a text in UTF-8") from None
    for name, given in found.items():
        if not isinstance(given, dict):
            raise ValueError(f"{file}: {name} must be a table: write [{name}] and its fields below")
        if secret := [field for field in given if field not in FIELDS and _may_be_secret(field)]:
            raise ValueError(
                f"{file}: [{name}] must not hold a key ({secret[0]}); put it into an environment variable and name "
                "that as key_variable"
            )
        if unknown := sorted(given.keys() - set(FIELDS)):
            raise ValueError(f"{file}: [{name}] has unknown {', '.join(unknown)}; known: {', '.join(FIELDS)}")
        if missing := [field for field in NEEDED if field not in given]:
            raise ValueError(f"{file}: [{name}] lacks {' and '.join(missing)}")
        try:
            checked_variable(given.get("key_variable"))
            checked_url(given["base_url"])
        except ValueError as error:
            raise ValueError(f"{file}: [{name}] {error}") from None
    return found


def named_endpoint(name: str, game: Game | str, **how) -> Endpoint:
    """The endpoint that the user's file calls ``name``; ``how`` stands before what the file says.

    Raises
    ------
    ValueError
        The file does not have it, or as ``read_endpoints`` and ``endpoint``.
    """
    known = read_endpoints()
    if name not in known:
        listed = f"it has: {', '.join(known)}" if known else "there is no such file, or it is empty"
        raise ValueError(
            f"no endpoint {name!r} in {endpoints_file()}; {listed}; write [{name}] with base_url and model"
        )
    how = {what: value for what, value in how.items() if what in (*FIELDS, "name")}
    return endpoint(game=game, **{"name": name, **known[name], **how})


def _may_be_secret(field: str) -> bool:
    return (
        any(word in field.lower() for word in ("key", "token", "secret", "password", "auth"))
        and field != "max_tokens"
    )
