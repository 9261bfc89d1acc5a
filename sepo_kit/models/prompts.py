"""Words and tokens: what a model is told of a state of a game, and what it may reply.

Every prompt is rendered and tokenized once and remembered, with the tree of its replies, while it is asked again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from sepo_kit.games.base import Game, InformationState
from sepo_kit.models.chat import opening, thinking_off
from sepo_kit.models.constrained import ReplyTree, reply_tree
from sepo_kit.models.prefix_cache import Context

KEPT = 2048  # about 40 MB at most where a prompt has 300 tokens


class Prompts:
    """The prompts of a game for one tokenizer, and the trees of replies to them.

    ``tokenizer``: with a chat template; ``style``: "direct" or "reasoned"; ``kept``: how many prompts are remembered,
    those last asked. Training needs at least those of a step.
    """

    def __init__(self, tokenizer, game: Game, style: str, kept: int = KEPT) -> None:
        self.tokenizer = tokenizer
        self.game = game
        self.style = style
        self.kept = kept
        self._ids: OrderedDict[InformationState, Context] = OrderedDict()  # last asked, last
        self._trees: dict[tuple[str, ...], ReplyTree] = {}
        self._tree_of: dict[Context, ReplyTree] = {}
        self._learned: dict[Context, ReplyTree] = {}

    def of(self, game: Game) -> Prompts:
        """Those of ``game``, none of them asked yet."""
        return Prompts(self.tokenizer, game, self.style, self.kept)

    @property
    def end_of_reply(self) -> int:
        """The token that closes an assistant message."""
        return self.tokenizer.eos_token_id

    def messages(self, seen: InformationState) -> list[dict[str, str]]:
        """The messages of one decision: rules, and what this seat has seen; one where the template knows no system."""
        return opening(self.tokenizer, self.game.system_prompt(self.style), self.game.render(seen))

    def ids(self, seen: InformationState) -> Context:
        """Tokens of the prompt, up to where the assistant's reply begins."""
        ids = self._ids.get(seen)
        if ids is not None:
            self._ids.move_to_end(seen)
            return ids
        ids = tuple(
            self.tokenizer.apply_chat_template(
                self.messages(seen),
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                **thinking_off(self.tokenizer),
            )
        )
        self._ids[seen] = ids
        self._tree_of[ids] = self.reply_tree(seen.legal_actions)
        if len(self._ids) > self.kept:
            self._ids.popitem(last=False)
        if len(self._tree_of) > 2 * self.kept:
            self._tree_of = self.trees_of(self._ids.values())
        return ids

    def reply_tree(self, legal_actions: tuple[str, ...]) -> ReplyTree:
        """The token sequences that spell the legal actions."""
        if legal_actions not in self._trees:
            tokenized = [self.tokenizer.encode(a, add_special_tokens=False) for a in legal_actions]
            self._trees[legal_actions] = reply_tree(tokenized, self.end_of_reply)
        return self._trees[legal_actions]

    def tree_of(self, prompt: Context) -> ReplyTree | None:
        """What may be replied to ``prompt``; None where it was asked neither here nor where trees were learned from."""
        return self._tree_of.get(prompt) or self._learned.get(prompt)

    def trees_of(self, prompts: Iterable[Context]) -> dict[Context, ReplyTree]:
        """What may be replied to ``prompts`` that were asked here."""
        return {prompt: self._tree_of[prompt] for prompt in prompts}

    def learn_trees(self, trees: dict[Context, ReplyTree]) -> None:
        """Know the replies to prompts that other processes' players were asked, in place of those learned before."""
        self._learned = trees
