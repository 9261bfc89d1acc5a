"""Dropout, off where a model is asked and not trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

DRAWN = ("drop", "jitter")  # in the name of a number in a configuration


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off inside the block; it then draws no random numbers either."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def has_dropout(model: nn.Module) -> bool:
    """Whether a pass in training may draw anything. Some layers do without a module of their own, so what the
    configuration says counts as well."""
    return _says_dropout(model.config.to_dict()) or any(
        part.p > 0 for part in model.modules() if isinstance(part, nn.Dropout)
    )


def _says_dropout(config: dict) -> bool:
    return any(
        _says_dropout(value)
        if isinstance(value, dict)
        else isinstance(value, int | float) and value > 0 and any(word in str(name) for word in DRAWN)
        for name, value in config.items()
    )
