"""One run in several processes, started by ``accelerate launch``: who goes first, who gets what, who is missing.

In the usual single process all of this does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object


def world() -> PartialState:
    """The processes of this run, on CPUs where there is no GPU."""
    return PartialState(cpu=not torch.cuda.is_available())


def dealt(items: Sequence, number: int, of: int) -> list:
    """The items that process ``number`` gets when they are dealt out one by one to ``of`` processes."""
    return list(items[number::of])


def collected(mine: Any, total: int) -> list:
    """What ``dealt`` gave away, from all processes, in its first order: ``total`` items in every process."""
    hands = gather_object([mine])
    return [hands[item % len(hands)][item // len(hands)] for item in range(total)]


@contextmanager
def lost_processes_named() -> Iterator[None]:
    """Turn the many errors of a connection whose other end died into one line.

    Raises
    ------
    ConnectionError
        Another process of this run is gone.
    """
    try:
        yield
    except RuntimeError as error:
        alone = world().num_processes == 1
        if alone or not (isinstance(error, torch.distributed.DistError) or "gloo" in str(error)):
            raise
        raise ConnectionError(
            f"process {world().process_index}: another process of this run has ended, so this one stops too; its own "
            "message or the launcher's says why; the last checkpoint is kept"
        ) from error
