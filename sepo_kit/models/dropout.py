"""Dropout, off where a model is asked and not trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off inside the block; it then draws no random numbers either."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
