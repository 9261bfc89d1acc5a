"""Parameters of a notebook from the command line, read as what the notebook declares them to be.

A notebook says ``runs: str``, so ``-p runs 2026`` is a text; ``weight: float = None``, so ``1e-1`` is a number and
``None`` is none. Nothing goes through YAML 1.1 on its own terms, for which ``1e-1`` is a text and ``no`` is false.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

WORDS = {"true": True, "false": False, "none": None, "null": None}
WANTED = {
    "bool": "True or False",
    "int": "a whole number",
    "float": "a number",
    "list": 'a list, as in [0, 1] or ["ipd", "kuhn"]',
    "dict": 'an object, as in {"exploit": 0.1}',
}


def split_pairs(given: Sequence[Sequence[str]]) -> dict[str, str]:
    """What followed each ``-p``, NAME VALUE or NAME=VALUE, as names and values; ValueError where it is neither, or a
    name is there twice.

    >>> split_pairs([["game", "kuhn"], ["runs=a=b"]])
    {'game': 'kuhn', 'runs': 'a=b'}
    """
    found = {}
    for words in given:
        name, equals, value = words[0].partition("=")
        if len(words) == 2 and not equals:
            value = words[1]
        elif len(words) != 1 or not equals:
            raise ValueError(f"-p takes NAME VALUE or NAME=VALUE, got {' '.join(words)!r}")
        if name in found:
            raise ValueError(
                f"-p {name} is given twice, as {found[name]!r} and as {value!r}; leave one of them out"
            )
        found[name] = value
    return found


def parameter(name: str, text: str, declared: str, default: str = "") -> Any:
    """The value of a parameter that a notebook declares as ``declared``, with ``default`` in its source.

    Raises
    ------
    ValueError
        The text is none of that kind.

    >>> (
    ...     parameter("runs", "2026", "str"),
    ...     parameter("weight", "1e-1", "float"),
    ...     parameter("games", "ipd", "list"),
    ... )
    ('2026', 0.1, ['ipd'])
    """
    if declared == "str":
        return text
    word = WORDS.get(text.lower(), text)
    if word is None and default == "None":
        return None
    try:
        if declared == "bool" and isinstance(word, bool):
            return word
        if declared == "int":
            return int(text)
        if declared == "float":
            return float(text)
        if declared in ("list", "dict"):
            return _structure(text, list if declared == "list" else dict)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, yaml.YAMLError):
        pass
    wanted = WANTED.get(declared, f"a {declared}") + (", or None" if default == "None" else "")
    raise ValueError(f"parameter {name} must be {wanted}, got {text!r}")


def as_yaml(parameters: Mapping[str, Any]) -> str:
    """``parameters`` for papermill's ``--parameters_yaml``: what it reads there is what is written here."""
    return yaml.safe_dump(dict(parameters), default_flow_style=True, width=2**31, sort_keys=False)


def _structure(text: str, kind: type) -> Any:
    """A list or object, in JSON, as Python writes it, or in YAML with bare words; a single word is a list of it."""
    try:
        found = json.loads(text)
    except ValueError:
        if kind is list and text and text[0] not in "[{(":
            return [_unquoted(word.strip()) for word in text.split(",")]
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            if not text or text[0] not in "[{":
                raise
            found = _unquoted(yaml.load(text, Loader=yaml.BaseLoader))  # [kuhn, no]: words stay words
    if kind is list and isinstance(found, int | float | str):
        return [found]
    if not isinstance(found, kind):
        raise ValueError
    return found


def _unquoted(value: Any) -> Any:
    """What YAML's structures hold, their scalars as words, or as numbers where JSON writes numbers so."""
    if isinstance(value, list):
        return [_unquoted(each) for each in value]
    if isinstance(value, dict):
        return {name: _unquoted(each) for name, each in value.items()}
    try:
        return json.loads(value)
    except ValueError:
        return value
