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


def has_dropout(model: nn.Module) -> bool:
    """Whether a pass in training differs from one in evaluation."""
    config = model.config.get_text_config()
    return bool(getattr(config, "attention_dropout", 0.0)) or any(
        part.p > 0 for part in model.modules() if isinstance(part, nn.Dropout)
    )
