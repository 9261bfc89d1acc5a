"""The two reply styles as a trainer meets them: how rows are batched, sampled and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from trl import GRPOTrainer

from sepo_kit.games.base import Game
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.prefix import shares_prefixes
from sepo_kit.models.scoring import Said, passes, score_replies, scores_on_trees
from sepo_kit.training.memory import tokens_at_once
from sepo_kit.training.settings import SEPOSettings

Scores = tuple[Tensor, Tensor]  # log-probabilities and entropies


class Style(Protocol):
    """What a trainer must know of the way its agent replies."""

    def micro_rows(self, rows: int) -> int:
        """Rows of one forward and backward pass, a divisor of ``rows``."""

    def longest_reply(self) -> int:
        """Tokens of the longest reply that is trained on."""

    def attach(self, trainer: GRPOTrainer) -> None:
        """Let the player play with ``trainer``'s model, and with its backend where one generates."""

    def passes(self, ids: Tensor, mask: Tensor, width: int) -> list[list[int]]:
        """Numbers of the rows that go through the model together, forward and backward, before the next do."""

    def score(
        self,
        model: Any,
        ids: Tensor,
        mask: Tensor,
        width: int,
        known: dict | None,
        padded: Callable[[], Scores],
    ) -> Scores:
        """Log-probabilities and entropies of the last ``width`` tokens, both (B, ``width``); ``padded``: TRL's own, of
        rows padded to one length."""


class Direct:
    """The action only: scored within the legal actions, as many rows together as fit, since they share their forward
    passes."""

    def __init__(self, player: LanguageModel, game: Game, settings: SEPOSettings) -> None:
        self.player = player
        self.game = game

    def micro_rows(self, rows: int) -> int:
        return rows

    def longest_reply(self) -> int:
        tree = self.player.prompts.reply_tree(self.game.spec.actions)
        return max(len(tree.decisive(action)) for action in range(len(tree.replies)))

    def attach(self, trainer: GRPOTrainer) -> None:
        self.player.model = trainer.model

    def passes(self, ids, mask, width):
        return direct_passes(self.player.model, _rows(ids, mask, width))

    def score(self, model, ids, mask, width, known, padded):
        if torch.is_grad_enabled():
            return self.player.direct_log_probs(ids, mask, width, model, known)
        # Laid out as it will be with gradients, so that equal weights say the same to the last digit.
        scores = torch.zeros((2, len(ids), width), device=ids.device)
        for part in self.passes(ids, mask, width):
            found = self.player.direct_log_probs(ids[part], mask[part], width, model, known)
            scores[:, part] = torch.stack(found)
        return scores[0], scores[1]


class Reasoned:
    """A sentence and the action: every token of it counts, over the whole vocabulary.

    Sampled by the kit and scored on token trees where the model allows; else by TRL, in micro-batches. Where a reply
    could not be read, the constrained decode that chose instead is part of what was said, and scored as it was drawn.
    """

    def __init__(self, player: LanguageModel, game: Game, settings: SEPOSettings) -> None:
        self.player = player
        self.settings = settings

    @cached_property
    def on_trees(self) -> bool:
        """Whether rows share what they begin with."""
        return scores_on_trees(self.player.model)

    def micro_rows(self, rows: int) -> int:
        if self.on_trees:
            return rows
        return max(d for d in range(1, min(rows, self.settings.micro_rows) + 1) if rows % d == 0)

    def longest_reply(self) -> int:
        return self.settings.max_new_tokens

    def attach(self, trainer: GRPOTrainer) -> None:
        self.player.model = trainer.model
        if trainer.use_vllm or trainer.is_fsdp_enabled or not shares_prefixes(self.player.model):
            self.player.generate = lambda prompts: generate_single_turn(trainer, prompts)

    def passes(self, ids, mask, width):
        if not self.on_trees:
            return [list(range(len(ids)))]
        said = [(prompt, self.player.reply_and_choice(rest)[0]) for prompt, rest in _rows(ids, mask, width)]
        return passes(said, self.settings.pass_tokens)

    def score(self, model, ids, mask, width, known, padded):
        rows = [(prompt, *self.player.reply_and_choice(rest)) for prompt, rest in _rows(ids, mask, width)]
        if self.on_trees:
            said = [(prompt, reply) for prompt, reply, _ in rows]
            scored = score_replies(model, said, self.player.temperature)
            scores = [pad(part, (0, width - part.shape[1])) for part in (scored.log_probs, scored.entropies)]
        else:
            replied = torch.zeros(mask[:, -width:].shape, device=mask.device)
            for number, (_, reply, _) in enumerate(rows):
                replied[number, : len(reply)] = 1
            scores = [part * replied for part in padded()]
        unread = [number for number, (*_, choice) in enumerate(rows) if choice]
        where, *chosen = self.player.choice_log_probs([rows[number] for number in unread], model)
        if not where:
            return tuple(scores)
        at = (
            torch.tensor([unread[number] for number, _ in where], device=ids.device),
            torch.tensor([len(rows[unread[n]][1]) + position for n, position in where], device=ids.device),
        )
        return tuple(part.index_put(at, more) for part, more in zip(scores, chosen, strict=True))


STYLES = {"direct": Direct, "reasoned": Reasoned}


def direct_passes(model: torch.nn.Module, said: Sequence[Said]) -> list[list[int]]:
    """Numbers of the prompts with their direct replies that go through ``model`` together, as many as fit."""
    return passes(said, tokens_at_once(model), shares_prefixes(model))


def _rows(ids: Tensor, mask: Tensor, width: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Prompt and completion of each row, without padding."""
    split = ids.shape[1] - width
    return [
        tuple(
            tuple(part[real].tolist())
            for part, real in ((row[:split], on[:split]), (row[split:], on[split:]))
        )
        for row, on in zip(ids.cpu(), mask.cpu().bool(), strict=True)
    ]


def generate_single_turn(trainer: GRPOTrainer, prompts: list[list[int]]) -> list[list[int]]:
    """One reply per prompt from the backend TRL was configured with. The one place that calls TRL's private
    ``_generate_single_turn``, whose arity has changed between versions; 1 = every row has its own context."""
    replies, _ = trainer._generate_single_turn(prompts, None, {}, 1)
    return [list(reply) for reply in replies]
