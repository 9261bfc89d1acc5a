"""Replies of servers on disk, each under a hash of all that was asked: nothing is paid for twice.

A file holds what was asked and what was replied, as JSON, whole or not at all. Several processes may share a folder.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sepo_kit.runs import RunError, read_json, write_json

FIELDS = {"text": str, "finish": str, "prompt_tokens": int, "completion_tokens": int, "first_token": dict}


class KeptReplies:
    """The replies in ``folder``; with None, nothing is kept."""

    def __init__(self, folder: Path | str | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def get(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """What was replied to ``question``, None where it was not asked before or the file cannot be used."""
        if self.folder is None:
            return None
        try:
            kept = read_json(self._file(question))
            reply = kept["reply"] if kept["question"] == question else None
            usable = all(isinstance(reply[name], kind) for name, kind in FIELDS.items())
        except (RunError, OSError, KeyError, TypeError):
            return None
        return reply if usable else None

    def put(self, question: dict[str, Any], reply: dict[str, Any]) -> None:
        """Keep ``reply``, whose fields are ``FIELDS``."""
        if self.folder is not None:
            write_json(self._file(question), {"question": question, "reply": reply})

    def _file(self, question: dict[str, Any]) -> Path:
        name = label(question)
        return self.folder / name[:2] / f"{name}.json"


def label(question: dict[str, Any]) -> str:
    """The SHA-256 of ``question``, plain JSON values: the same for equal ones.

    >>> label({"a": 1, "b": 2}) == label({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
