"""How much work is done at once: as much as fits, and when memory runs out the same again in smaller pieces."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from tqdm import tqdm

from sepo_kit.models.prefix import checkpoints_gradients
from sepo_kit.runs import is_out_of_memory, memory_said

T = TypeVar("T")
# What one pass may hold for its backward pass: bytes on a CPU, where a process takes up to twice as many, and the share
# of a GPU's memory.
HELD = 3 * 2**30
SHARE = 0.25


class DoesNotFit(MemoryError):
    """Memory ran out, in one line."""


@contextmanager
def no_memory_named(what: str) -> Iterator[None]:
    """``DoesNotFit`` for whatever libraries raise inside the block where memory runs out."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DoesNotFit) or not is_out_of_memory(error):
            raise
        raise DoesNotFit(
            f"{what}: memory ran out ({memory_said(error)}); use a smaller model or shorter replies, or allow more "
            "memory, and run the same command again: it goes on from the last checkpoint"
        ) from error


def tokens_at_once(model: nn.Module) -> int:
    """Most tokens of one forward and backward pass through ``model`` with the kit's adapters.

    What is held of a token was counted with SmolLM2: in every layer at most about twelve vectors of the hidden size and
    five of the MLP's; of layers that are computed again for the backward pass one vector, and all that for one of them.
    """
    weight = next(model.parameters())
    config = model.config.get_text_config()
    layers, hidden = config.num_hidden_layers, config.hidden_size
    layer = 12 * hidden + 5 * (getattr(config, "intermediate_size", None) or 4 * hidden)
    token = layers * hidden + layer if checkpoints_gradients(model) else layers * layer
    held = SHARE * torch.cuda.get_device_properties(weight.device).total_memory if weight.is_cuda else HELD
    return max(int(held / (token * weight.element_size())), 1)


def until_it_fits(attempt: Callable[[int], T], pieces: int, most: int, what: str) -> T:
    """``attempt(pieces)``; where memory runs out, again with twice as many, and a line that says so.

    Raises
    ------
    DoesNotFit
        Not in ``most`` pieces either.
    """
    while True:
        try:
            return attempt(pieces)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if pieces >= most:
                raise DoesNotFit(
                    f"{what} does not fit into memory, in {pieces} piece(s) ({memory_said(error)}); use a smaller "
                    "model or shorter replies, or allow more memory, and run again: the last checkpoint is kept"
                ) from error
        # Outside of the handler: the error holds the frames, and they hold the tensors.
        pieces = min(2 * pieces, most)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        tqdm.write(f"{what}: out of memory; once more, in {pieces} pieces", file=sys.stderr)


class Gradients:
    """The gradients of ``model`` as they are now, to be put back if a step has to be repeated."""

    def __init__(self, model: nn.Module) -> None:
        self.held = [
            (p, None if p.grad is None else p.grad.clone()) for p in model.parameters() if p.requires_grad
        ]

    def restore(self) -> None:
        for parameter, grad in self.held:
            parameter.grad = None if grad is None else grad.clone()
