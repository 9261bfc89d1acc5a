"""What a training stage needs to be told. Values and their sources are in ``pipeline/profiles.py``.

Every field is checked when the settings are made, before anything is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from sepo_kit.games.base import Weights, answer_rule
from sepo_kit.objective.credit import check_mode
from sepo_kit.objective.limits import DualAscent

SHARES = ("lora_dropout", "warm_up")


def _check(settings: object, positive: tuple[str, ...], not_negative: tuple[str, ...] = ()) -> None:
    for declared in fields(settings):
        name, value = declared.name, getattr(settings, declared.name)
        if name in positive + not_negative:
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value!r}")
            if value < 0 or (value == 0 and name in positive):
                bound = "> 0" if name in positive else ">= 0"
                raise ValueError(f"{name} must be {bound}, got {value!r}")
            if declared.type == "int" and not isinstance(value, int):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
            if name in SHARES and value >= 1:
                raise ValueError(f"{name} must be < 1, got {value!r}: it is a share")


@dataclass(frozen=True)
class SFTSettings:
    """Supervised warm start: LoRA on demonstrations, loss on the assistant's tokens only.

    ``records``: how many demonstrations, drawn without replacement by the run seed; ``warm_up``: share of the
    steps; ``batch`` rows per forward pass, ``accumulation`` of them per update.
    """

    records: int
    epochs: float
    learning_rate: float
    style: str = "direct"
    batch: int = 2
    accumulation: int = 4
    warm_up: float = 0.05
    max_length: int = 512
    lora_r: int = 32
    lora_alpha: int = 64
    lora_dropout: float = 0.05
    save_every: int = 25
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        _check(
            self,
            (
                "records",
                "epochs",
                "learning_rate",
                "batch",
                "accumulation",
                "max_length",
                "lora_r",
                "lora_alpha",
                "save_every",
            ),
            ("lora_dropout", "warm_up"),
        )
        answer_rule(self.style)

    def as_request(self) -> dict:
        """Plain values, for the manifest."""
        return asdict(self)


@dataclass(frozen=True)
class SEPOSettings:
    """SEPO through GRPO: LoRA from the merged SFT model.

    ``rollouts``: episodes per group (the n of GRPO), which share all draws but the agent's; ``groups``: groups
    per opponent and step, each with its own draws; ``beta``: weight of the KL to the SFT model;
    ``clip``: of the probability ratio; ``weights``: None for the game's own; ``micro_rows``: most rows of one
    forward pass of reasoned replies. ``horizon``: None for the mode's own; ``limits``: instead of fixed weights,
    what the penalties may at most be, as in ``DualAscent``, whose weights start from ``weights``.
    """

    steps: int
    rollouts: int
    learning_rate: float
    beta: float
    groups: int = 1
    mode: str = "credited"
    horizon: str | None = None
    common_random_numbers: bool = True
    weights: Weights | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    dual_rate: float = 0.5
    style: str = "direct"
    temperature: float = 0.8
    max_new_tokens: int = 512
    clip: float = 0.2
    max_grad_norm: float = 1.0
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    save_every: int = 25
    micro_rows: int = 16
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        _check(
            self,
            ("steps", "rollouts", "groups", "learning_rate", "temperature", "max_new_tokens", "clip", "max_grad_norm",
             "lora_r", "lora_alpha", "save_every", "micro_rows"),
            ("beta", "lora_dropout"),
        )  # fmt: skip
        if self.rollouts < 2:
            raise ValueError(f"rollouts must be >= 2, got {self.rollouts}: a baseline needs another rollout")
        if self.weights is not None and not isinstance(self.weights, Weights):
            raise ValueError(f"weights must be a Weights or None for the game's own, got {self.weights!r}")
        answer_rule(self.style)
        check_mode(self.mode, self.horizon)
        if not isinstance(self.common_random_numbers, bool):
            raise ValueError(
                f"common_random_numbers must be True or False, got {self.common_random_numbers!r}"
            )
        DualAscent(
            self.limits, self.weights or Weights(0.0, 0.0, 0.0), self.dual_rate
        )  # checks its arguments

    def as_request(self) -> dict:
        """Plain values, for the manifest."""
        return asdict(self)
