"""What a training stage needs to be told. Values and their sources are in ``pipeline/profiles.py``.

Every field is checked when the settings are made, before anything is written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from sepo_kit.games.base import answer_rule
from sepo_kit.objective.step import StepSettings, check_flag, check_numbers, check_renewal, check_schedule

TRACKERS = ("tensorboard", "trackio", "wandb")
KEEP = ("last", "best")  # which saved step becomes a SEPO run's model
MOST = 1e6  # of what is multiplied with losses, gradients and weights, which float32 holds
LEAST_TEMPERATURE = 1e-6  # scores divided by less are infinite in float32
BOUNDED = ("learning_rate", "lora_alpha", "beta", "clip", "temperature")


@dataclass(frozen=True)
class SFTSettings:
    """Supervised warm start: LoRA on demonstrations, loss on the assistant's tokens only.

    ``records``: how many demonstrations, drawn without replacement by the run seed; ``warm_up``: share of the
    steps; ``batch`` rows per forward pass, ``accumulation`` of them per update; ``report_to``: names of ``TRACKERS``
    that get the curves as well, no part of what was asked of a run.
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
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_trackers(self)
        check_numbers(
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
        _check_shares(self)
        _check_bounds(self)
        check_flag(self, "gradient_checkpointing")
        answer_rule(self.style)

    def as_request(self) -> dict:
        """Plain values, for the manifest."""
        return _asked(self)


@dataclass(frozen=True, kw_only=True)
class SEPOSettings(StepSettings):
    """SEPO through GRPO: LoRA from the merged SFT model. What a step plays and pays is told by ``StepSettings``.

    Attributes
    ----------
    steps
        Training steps: each plays its matches anew.
    updates
        Updates of the weights per step, all on the same matches. With one the probability ratio is 1 and ``clip``
        never acts.
    beta
        Weight of the KL divergence to the SFT model; 0 for none.
    renew_reference_every
        Steps after which the reference of that divergence moves to the policy, again and again; 0 for never
        (arXiv 2605.30854). With a strong ``beta`` this is NashPG's way to an equilibrium (arXiv 2510.18183).
    schedule
        Of the learning rate: "constant" (arXiv 2605.30854), or "linear", falling to zero at the last step. Best
        responses jump, so training against them circles; a step size that falls is what settles it.
    keep
        Which saved step becomes the run's model: "last", or "best" on training seeds, which is named in the manifest.
    clip
        How far the probability ratio may leave 1 (PPO's epsilon).
    style, temperature, max_new_tokens
        How the agent replies, as in ``LanguageModel``.
    replies
        Most reasoned replies to one prompt in a step, which the matches of all groups draw from (``engine/reuse.py``):
        groups then cost next to nothing. 0: every decision has a reply of its own.
    save_every
        Steps between two checkpoints.
    micro_rows
        Most rows of one forward pass of reasoned replies, where a model cannot share prefixes and rows are padded.
    pass_tokens
        Most tokens of one forward and backward pass of reasoned replies, where prompts are shared: more are less work
        and more memory. Direct replies go through in passes that fit the machine (``memory.tokens_at_once``).
    report_to
        Names of ``TRACKERS`` that get the curves, and some matches, as well; no part of what was asked of a run.
    """

    steps: int
    rollouts: int = field()  # none by default, as there is in StepSettings
    learning_rate: float
    beta: float
    updates: int = 1
    style: str = "direct"
    temperature: float = 0.8
    max_new_tokens: int = 512
    replies: int = 0
    schedule: str = "constant"
    keep: str = "last"
    clip: float = 0.2
    max_grad_norm: float = 1.0
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    save_every: int = 25
    micro_rows: int = 16
    pass_tokens: int = 1024
    renew_reference_every: int = 0
    gradient_checkpointing: bool = False
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_trackers(self)
        check_numbers(
            self,
            ("steps", "learning_rate", "updates", "temperature", "max_new_tokens", "clip", "max_grad_norm", "lora_r",
             "lora_alpha", "save_every", "micro_rows", "pass_tokens"),
            ("beta", "lora_dropout", "renew_reference_every", "replies"),
        )  # fmt: skip
        _check_shares(self)
        _check_bounds(self)
        check_flag(self, "gradient_checkpointing")
        check_renewal(self.renew_reference_every, self.beta)
        check_schedule(self.schedule)
        if self.keep not in KEEP:
            raise ValueError(f"keep must be one of {', '.join(KEEP)}, got {self.keep!r}")
        answer_rule(self.style)
        if self.replies == 1:
            raise ValueError("replies must be 0 or >= 2, got 1: a baseline needs another reply")
        if self.replies and (self.style, self.mode) != ("reasoned", "credited"):
            raise ValueError(
                f"replies={self.replies} needs style='reasoned' and mode='credited', got style={self.style!r} and "
                f"mode={self.mode!r}; use replies=0"
            )
        super().__post_init__()

    def as_request(self) -> dict:
        """Plain values, for the manifest."""
        return _asked(self)


def _asked(settings: SFTSettings | SEPOSettings) -> dict:
    """What decides how a run comes out."""
    return {name: value for name, value in asdict(settings).items() if name != "report_to"}


def _check_trackers(settings: SFTSettings | SEPOSettings) -> None:
    """ValueError where a name in ``report_to`` is no tracker; a list, as files have it, becomes a tuple."""
    names = settings.report_to
    if not isinstance(names, list | tuple) or any(name not in TRACKERS for name in names):
        raise ValueError(f"report_to must be a list with some of {', '.join(TRACKERS)}, got {names!r}")
    object.__setattr__(settings, "report_to", tuple(names))


def _check_bounds(settings: object) -> None:
    for name in BOUNDED:
        if getattr(settings, name, 0) > MOST:
            raise ValueError(f"{name} must be <= {MOST:g}, got {getattr(settings, name)!r}")
    if getattr(settings, "temperature", 1) < LEAST_TEMPERATURE:
        raise ValueError(f"temperature must be >= {LEAST_TEMPERATURE:g}, got {settings.temperature!r}")


def _check_shares(settings: object) -> None:
    for name in ("lora_dropout", "warm_up"):
        if getattr(settings, name, 0) >= 1:
            raise ValueError(f"{name} must be < 1, got {getattr(settings, name)!r}: it is a share")
