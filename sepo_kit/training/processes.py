"""One run in several processes, started by ``accelerate launch``: who goes first, who gets what, who is missing.

In the usual single process all of this does nothing. ``docs/several_processes.md`` says how to start one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object


def world() -> PartialState:
    """The processes of this run, on CPUs where there is no GPU."""
    return PartialState(cpu=not torch.cuda.is_available())


def sharded() -> bool:
    """Whether the model is spread over the processes (FSDP), as ``accelerate launch`` says."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def share_of_work() -> tuple[int, int]:
    """This process's number, and how many share the episodes and rows of a SEPO step.

    Under FSDP no process can compute without the others, so all do the same work and share the memory only.
    """
    if sharded():
        return 0, 1
    return world().process_index, world().num_processes


def dealt(items: Sequence, number: int, of: int) -> list:
    """The items that process ``number`` gets when they are dealt out one by one to ``of`` processes."""
    return list(items[number::of])


def collected(hands: Sequence[Sequence]) -> list:
    """What ``dealt`` gave away, in its first order again."""
    total = sum(len(hand) for hand in hands)
    return [hands[item % len(hands)][item // len(hands)] for item in range(total)]


def from_all(mine: Any, of: int) -> list:
    """What each of ``of`` processes has, in every one of them."""
    return gather_object([mine]) if of > 1 else [mine]


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
