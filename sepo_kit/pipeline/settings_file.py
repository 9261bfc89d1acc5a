"""Settings of a training stage from outside: a JSON file with a field per setting, and changes from the command line;
each is checked when it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from sepo_kit.games.base import POOLS, Pools, Weights
from sepo_kit.pipeline.parameters import parameter
from sepo_kit.runs import RunError, read_json, write_json
from sepo_kit.training.settings import SEPOSettings, SFTSettings

Settings = TypeVar("Settings", SFTSettings, SEPOSettings)
# What a field's declaration stands for in JSON; numbers are checked by the settings themselves.
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "str": ("a text", lambda value: isinstance(value, str)),
    "int": ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    "float": ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    "Weights": ("an object with exploit, collusion and externality", lambda value: isinstance(value, dict)),
    "Pools": (f"an object with {', '.join(POOLS)}", lambda value: isinstance(value, dict)),
    "Mapping[str, float]": ("an object", lambda value: isinstance(value, dict)),
}
SHAPES = {"Weights": "dict", "Pools": "dict", "Mapping[str, float]": "dict", "tuple[str, ...]": "list"}
PARTS = {"Weights": {"exploit", "collusion", "externality"}, "Pools": set(POOLS)}


def write_settings(file: Path | str, settings: SFTSettings | SEPOSettings) -> None:
    """Write all fields, as ``read_settings`` reads them."""
    write_json(file, asdict(settings))


def read_settings(file: Path | str, kind: type[Settings]) -> Settings:
    """The settings in ``file``; those that it leaves out are the defaults of ``kind``. The manifest of a run stands for
    the settings in it.

    Raises
    ------
    ValueError
        The file is missing or broken, or a field is unknown, missing or not what it must be.
    """
    values = read_json(file)
    if isinstance(values, dict) and isinstance(asked := values.get("request"), dict):
        values = asked.get("settings")
    if not isinstance(values, dict):
        raise RunError(f"{file} must hold an object with the fields of {kind.__name__}, got {values!r:.40}")
    try:
        declared = _declared(kind, values)
        needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
        if missing := [name for name in needed if name not in values]:
            raise ValueError(f"{', '.join(missing)} missing; write them as numbers")
        return kind(**{name: _value(name, declared[name], each) for name, each in values.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None


def changed(settings: Settings, given: Mapping[str, str]) -> Settings:
    """``settings`` with other values of those that are ``given`` by name, as they are written on a command line.

    Raises
    ------
    ValueError
        A name is unknown, or a value is not what its setting must be.

    >>> changed(SFTSettings(records=8, epochs=1, learning_rate=1e-3), {"records": "16"}).records
    16
    """
    declared, values = _declared(type(settings), given), {}
    for name, text in given.items():
        kind, _, empty = declared[name].partition(" | ")
        if empty and text.lower() in ("none", "null"):
            values[name] = None
            continue
        written = SHAPES.get(kind, kind)
        value = parameter(name, text, written)
        values[name] = tuple(value) if written == "list" else _value(name, kind, value)
    return replace(settings, **values)


def _declared(kind: type[Settings], named: Iterable[str]) -> dict[str, str]:
    """How every setting of ``kind`` is declared; ValueError where one of ``named`` is none of them."""
    declared = {field.name: str(field.type) for field in fields(kind)}
    if unknown := sorted(set(named) - declared.keys()):
        raise ValueError(f"unknown setting {', '.join(unknown)}; known: {', '.join(declared)}")
    return declared


def _value(name: str, declared: str, value: Any) -> Any:
    kind, _, empty = declared.partition(" | ")
    if value is None and empty == "None":
        return None
    if kind in KINDS and not KINDS[kind][1](value):
        wanted = KINDS[kind][0] + (" or null" if empty else "")
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    if kind not in PARTS:
        return value
    if value.keys() != PARTS[kind]:
        raise ValueError(f"{name} must be {KINDS[kind][0]}, got {value!r}")
    if kind == "Weights":
        return Weights(**value)
    return Pools(**value)
