"""Replies that are given once and used in many matches: a policy that draws from a few replies per question.

Every question (a prompt, an information state) has at most so many replies, each drawn from the policy on its own; a
match picks one of them. A single match is then played as ever. Two matches that pick the same reply are not
independent, which ``objective/credit.py`` must know: ``Decision.said`` tells it. What follows from that is derived in
docs/method.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from sepo_kit.engine.episode import Decision
from sepo_kit.engine.policy import Policy
from sepo_kit.games.base import InformationState

Pick = tuple[Hashable, int]  # a question, and the number of a reply to it


class Reusing(Policy):
    """``policy`` with at most ``replies`` replies to each question.

    Which reply a match picks is decided by its own uniform number, and what a reply is by the seed, the question and
    the number of the reply: nothing depends on who else plays.

    Parameters
    ----------
    seed
        Other seeds are other replies. In training: the run's seed and the step.
    question
        What is asked in an information state, equal where the policy is asked the same; its ``repr`` must be the same
        in every process.
    """

    def __init__(
        self,
        policy: Policy,
        replies: int,
        seed: Sequence[int],
        question: Callable[[InformationState], Hashable],
    ) -> None:
        self.name = policy.name
        self.policy = policy
        self.replies = replies
        self.seed = tuple(seed)
        self.question = question
        self._given: dict[Pick, Decision] = {}

    @property
    def given(self) -> int:
        """How many replies there have been."""
        return len(self._given)

    def identity(self) -> str:
        return f"{self.policy.identity()} {self.replies} {self.seed}"

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        return self.policy.distributions(seen)

    def remember(self) -> AbstractContextManager[None]:
        return self.policy.remember()

    def act(self, seen: Sequence[InformationState], uniforms: Sequence[float]) -> list[Decision]:
        picked = [
            (self.question(state), int(uniform * self.replies))
            for state, uniform in zip(seen, uniforms, strict=True)
        ]
        new = self._to_be_asked(dict(zip(picked, seen, strict=True)))
        if not new:
            return [self._given[pick] for pick in picked]
        names = {pick: self._name(*pick) for pick in new}
        made = self.policy.act(
            list(new.values()), [float(np.random.default_rng(name).random()) for name in names.values()]
        )
        for (pick, name), decision in zip(names.items(), made, strict=True):
            self._given[pick] = replace(decision, said=name)
        return [self._given[pick] for pick in picked]

    def _to_be_asked(self, picked: dict[Pick, InformationState]) -> dict[Pick, InformationState]:
        """What has not been given yet of ``picked``; where half of a question's replies are wanted at once, all of
        them, since a few more in one batch cost less than a batch of a few later on."""
        new = {pick: state for pick, state in picked.items() if pick not in self._given}
        wanted = Counter(question for question, _ in new)
        for (question, _), state in list(new.items()):
            if 2 * wanted[question] >= self.replies:
                rest = ((question, number) for number in range(self.replies))
                new |= {pick: state for pick in rest if pick not in self._given and pick not in new}
        return new

    def _name(self, question: Hashable, number: int) -> int:
        """The same in every process, and hardly ever that of another reply: 63 bits."""
        label = repr((*self.seed, question, number)).encode()
        return int.from_bytes(blake2b(label, digest_size=8).digest(), "big") >> 1
