"""Replies that can only be legal: the tree of token sequences that spell a legal action.

A constrained decode walks this tree; at each branching it chooses among the branches by the model's
probabilities restricted to them. The probability of an action is the product over its branchings, exact and
without sampling. Where a token has no rival its probability is 1 and no model is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    def above(self) -> dict[Tokens, tuple[Tokens, int] | None]:
        """Every branching, after those on the way to it -> the one before it and which of its branches leads here;
        None at the root."""
        found: dict[Tokens, tuple[Tokens, int] | None] = {}
        for prefix in self.branches:
            before = [shorter for shorter in found if prefix[: len(shorter)] == shorter]
            nearest = max(before, key=len, default=None)
            if nearest is None:
                found[prefix] = None
            else:
                found[prefix] = nearest, self.branches[nearest].index(prefix[len(nearest)])
        return found

    def within_reach(self, known: Callable[[Tokens], np.ndarray | None], least: float) -> list[Tokens]:
        """The branchings that a reply comes to with a probability of at least ``least``, as far as that is ``known``:
        log-probabilities of the branches of a branching, shape (B,), or None."""
        comes: dict[Tokens, float] = {}
        for prefix, above in self.above.items():
            comes[prefix] = 1.0
            if above is not None:
                before, branch = above
                log_p = known(before) if comes[before] >= least else None
                comes[prefix] = comes[before] * (1.0 if log_p is None else float(np.exp(log_p[branch])))
        return [prefix for prefix, probability in comes.items() if probability >= least]

    def distribution(self, log_p: Mapping[Tokens, np.ndarray]) -> np.ndarray:
        """Probabilities of the actions, shape (A,), from the log-probabilities of the branches, shape (B,), of each
        branching; even behind a branching that is not among them."""
        totals = np.zeros(len(self.replies))
        found = {prefix: dict(zip(self.branches[prefix], row, strict=False)) for prefix, row in log_p.items()}
        for action, reply in enumerate(self.replies):
            totals[action] = sum(
                found[reply[:n]][token] for n, token in enumerate(reply) if reply[:n] in found
            )
        missing = self.branches.keys() - found.keys()
        for prefix in missing:
            if (above := self.above[prefix]) is None or above[0] not in missing:  # the first on its way
                behind = [reply[: len(prefix)] == prefix for reply in self.replies]
                totals[behind] -= np.log(np.count_nonzero(behind))
        probabilities = np.exp(totals)
        return probabilities / probabilities.sum()

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
