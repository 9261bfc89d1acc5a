"""Operations of this process on the files of a folder: counted, and something done before each. Loads nothing slow:
processes of a batch read it when they start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}

_watching: tuple[str, Callable[[int], None]] | None = None
_seen = 0
_hooked: list[Callable] = []  # an audit hook stays as long as the process


def _hook(event: str, arguments: tuple) -> None:
    global _seen
    if _watching is None or event not in EVENTS or not str(arguments[0]).startswith(_watching[0]):
        return
    if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        return
    _seen += 1
    _watching[1](_seen)


@contextmanager
def watched(folder: os.PathLike | str, act: Callable[[int], None]) -> Iterator[Callable[[], int]]:
    """Call ``act`` with its number before every operation on a file in ``folder``; gives how many there were."""
    global _watching, _seen
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(_hook)
    _watching, _seen = (f"{folder}{os.sep}", act), 0
    try:
        yield lambda: _seen
    finally:
        _watching = None
