"""A reference that follows: every few steps the KL penalty's reference moves to the policy.

A strong penalty keeps best responses from circling, but holds the policy where it began; moving the reference, each
time the policy has settled beside it, lets it go on without the circling. Source: NashPG, arXiv 2510.18183.

The reference is a second adapter called ``REFERENCE`` beside the one that is trained: TRL computes the penalty against
an adapter of that name where there is one. Checkpoints keep it, a finished run does not.
"""

from __future__ import annotations

from copy import copy

from transformers import TrainerCallback

REFERENCE = "ref"  # TRL's name
TRAINED = "default"  # PEFT's


class Renewal(TrainerCallback):
    """Gives ``model`` a reference adapter, now equal to the one that is trained, and renews it.

    ``every``: updates between two renewals. ``rollouts``: those of the trainer; what they keep of the reference is
    forgotten with it.
    """

    def __init__(self, model, rollouts, every: int) -> None:
        self.rollouts = rollouts
        self.every = every
        config = copy(model.peft_config[TRAINED])
        config.lora_dropout = 0.0  # a reference is no draw
        model.add_adapter(REFERENCE, config)
        self._renew(model)

    def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
        if state.global_step % self.every == 0:
            self._renew(model)
            self.rollouts.reference.clear()

    @staticmethod
    def _renew(model) -> None:
        weights = dict(model.named_parameters())
        for name, reference in weights.items():
            if f".{REFERENCE}." in name:
                trained = weights[name.replace(f".{REFERENCE}.", f".{TRAINED}.")]
                reference.data.copy_(trained.data)
                reference.requires_grad_(False)
