"""Replies that can only be legal: the tree of token sequences that spell a legal action.

A constrained decode walks this tree; at each branching it chooses among the branches by the model's
probabilities restricted to them. The probability of an action is the product over its branchings, exact and
without sampling. Where a token has no rival its probability is 1 and no model is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class ReplyTree:
    """Token sequences of the legal replies, one per action and each closed by the end-of-reply token.

    Raises
    ------
    ValueError
        Two actions are spelled by the same tokens.
    """

    replies: tuple[Tokens, ...]

    def __post_init__(self) -> None:
        if len(set(self.replies)) != len(self.replies):
            raise ValueError("two legal actions have the same tokens; the tokenizer cannot tell them apart")

    @cached_property
    def branches(self) -> dict[Tokens, tuple[int, ...]]:
        """Every prefix at which more than one token can follow -> those tokens, ascending."""
        after: dict[Tokens, set[int]] = {}
        for reply in self.replies:
            for length, token in enumerate(reply):
                after.setdefault(reply[:length], set()).add(token)
        return {prefix: tuple(sorted(tokens)) for prefix, tokens in after.items() if len(tokens) > 1}

    def decisive(self, action: int) -> Tokens:
        """The reply of ``action`` up to its last branching: all that a model has to choose."""
        reply = self.replies[action]
        length = max((len(p) + 1 for p in self.branches if reply[: len(p)] == p), default=1)
        return reply[:length]


def reply_tree(tokenized: Sequence[Sequence[int]], end: int) -> ReplyTree:
    """The tree of ``tokenized`` actions, each closed by the token ``end``."""
    return ReplyTree(tuple((*tokens, end) for tokens in tokenized))
