"""Replies that can only be legal: the tree of token sequences that spell a legal action.

A constrained decode walks this tree; at each branching it chooses among the branches by the model's
probabilities restricted to them. The probability of an action is the product over its branchings, exact and
without sampling. Where a token has no rival its probability is 1 and no model is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sepo_kit.engine.policy import draw

BELOW_ONE = float(np.nextafter(1.0, 0.0))

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

    @cached_property
    def behind(self) -> dict[Tokens, tuple[range, ...]]:
        """Every branching -> for each of its branches the actions behind it."""
        found = {}
        for prefix, tokens in self.branches.items():
            starts = [(*prefix, token) for token in tokens]
            actions = [[a for a, r in enumerate(self.replies) if r[: len(s)] == s] for s in starts]
            found[prefix] = tuple(range(some[0], some[-1] + 1) for some in actions)
        return found

    @cached_property
    def in_order(self) -> bool:
        """Whether the actions behind every branch lie together, so that a draw can go down the tree."""
        return all(
            sum(map(len, parts)) == max(part.stop for part in parts) - min(part.start for part in parts)
            for parts in self.behind.values()
        )

    def decisive(self, action: int) -> Tokens:
        """The reply of ``action`` up to its last branching: all that a model has to choose."""
        reply = self.replies[action]
        length = max((len(p) + 1 for p in self.branches if reply[: len(p)] == p), default=1)
        return reply[:length]


class Walk:
    """A draw that goes down a tree ``in_order``, one branching at a time: the action that an inverse CDF over all
    actions gives, from the probabilities of the branchings on its way alone.

    ``uniform`` is in [0, 1). At the end ``action`` is the one drawn, with ``probability``.
    """

    def __init__(self, tree: ReplyTree, uniform: float) -> None:
        self.tree = tree
        self.uniform = uniform
        self.left = range(len(tree.replies))
        self.probability = 1.0
        self._length = 0

    @property
    def action(self) -> int:
        return self.left.start

    def branching(self) -> Tokens | None:
        """Where a choice is to be made next; None at the end."""
        reply = self.tree.replies[self.left.start]
        while len(self.left) > 1 and reply[: self._length] not in self.tree.branches:
            self._length += 1
        return reply[: self._length] if len(self.left) > 1 else None

    def take(self, probabilities: np.ndarray) -> None:
        """Choose at the branching, given the ``probabilities`` of its branches, shape (B,)."""
        prefix = self.tree.replies[self.left.start][: self._length]
        parts = self.tree.behind[prefix]
        order = sorted(range(len(parts)), key=lambda branch: parts[branch].start)
        cumulative = np.cumsum(probabilities[order])
        place = draw(cumulative.tolist(), self.uniform)
        chosen = probabilities[order[place]]
        below = cumulative[place] - chosen
        self.uniform = min(max((self.uniform * cumulative[-1] - below) / chosen, 0.0), BELOW_ONE)
        self.probability *= chosen / cumulative[-1]
        self.left = parts[order[place]]
        self._length += 1


def reply_tree(tokenized: Sequence[Sequence[int]], end: int) -> ReplyTree:
    """The tree of ``tokenized`` actions, each closed by the token ``end``."""
    return ReplyTree(tuple((*tokens, end) for tokens in tokenized))
