"""The two reply styles as a trainer meets them: how rows are batched, sampled and scored."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor
from trl import GRPOTrainer

from sepo_kit.games.base import Game
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.training.settings import SEPOSettings


class Style(Protocol):
    """What a trainer must know of the way its agent replies."""

    def micro_rows(self, rows: int) -> int:
        """Rows of one forward and backward pass, a divisor of ``rows``."""

    def longest_reply(self) -> int:
        """Tokens of the longest reply that is trained on."""

    def attach(self, trainer: GRPOTrainer) -> None:
        """Let the player play with ``trainer``'s model, and with its backend where one generates."""

    def score(
        self, trainer: Any, model: Any, ids: Tensor, mask: Tensor, width: int, known: dict | None
    ) -> Any:
        """Log-probabilities and entropies of the last ``width`` tokens, both (B, ``width``); or None: by TRL's own."""


class Direct:
    """The action only: scored within the legal actions, all rows together, since they share their forward passes."""

    def __init__(self, player: LanguageModel, game: Game, settings: SEPOSettings) -> None:
        self.player = player
        self.game = game

    def micro_rows(self, rows: int) -> int:
        return rows

    def longest_reply(self) -> int:
        tree = self.player.reply_tree(self.game.spec.actions)
        return max(len(tree.decisive(action)) for action in range(len(tree.replies)))

    def attach(self, trainer: GRPOTrainer) -> None:
        self.player.model = trainer.model

    def score(self, trainer, model, ids, mask, width, known):
        return self.player.direct_log_probs(ids, mask, width, model, known)


class Reasoned:
    """A sentence and the action: sampled by TRL's backend, scored over the whole vocabulary in micro-batches."""

    def __init__(self, player: LanguageModel, game: Game, settings: SEPOSettings) -> None:
        self.player = player
        self.settings = settings

    def micro_rows(self, rows: int) -> int:
        return max(d for d in range(1, min(rows, self.settings.micro_rows) + 1) if rows % d == 0)

    def longest_reply(self) -> int:
        return self.settings.max_new_tokens

    def attach(self, trainer: GRPOTrainer) -> None:
        self.player.model = trainer.model
        self.player.generate = lambda prompts: generate_single_turn(trainer, prompts)

    def score(self, trainer, model, ids, mask, width, known):
        return None


STYLES = {"direct": Direct, "reasoned": Reasoned}


def generate_single_turn(trainer: GRPOTrainer, prompts: list[list[int]]) -> list[list[int]]:
    """One reply per prompt from the backend TRL was configured with. The one place that calls TRL's private
    ``_generate_single_turn``, whose arity has changed between versions; 1 = every row has its own context."""
    replies, _ = trainer._generate_single_turn(prompts, None, {}, 1)
    return [list(reply) for reply in replies]
