"""Information states by number, and what an agent plays at them as one flat array: the part of enumeration that
depends on the agent. The other part, which does not, is ``tree.py``.
"""

from __future__ import annotations

import numpy as np

from sepo_kit.engine.policy import Policy, flattened
from sepo_kit.games.base import InformationState

EQUAL = 1e-12  # replies that differ by less, in the largest payoff, are equals: rounding does not choose among them


class Seen:
    """Information states of one seat by number, with a place in one flat array for each of their actions.

    Number 0 and place 0 stand for a seat that does not move: one action, certain.
    """

    def __init__(self) -> None:
        self.states: list[InformationState | None] = [None]
        self.starts = [0]
        self.counts = [1]
        self.size = 1
        self._number: dict[InformationState, int] = {}
        self._arrays: tuple[np.ndarray, np.ndarray] = (np.array([0]), np.array([0]))

    def number(self, state: InformationState) -> int:
        """The number of ``state``, a new one if need be."""
        found = self._number.get(state)
        if found is None:
            found = self._number[state] = len(self.states)
            self.states.append(state)
            self.starts.append(self.size)
            self.counts.append(len(state.legal_actions))
            self.size += self.counts[-1]
        return found

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The first place of every information state, shape (I,), and the information state of every place."""
        if len(self._arrays[0]) < len(self.states):
            self._arrays = np.array(self.starts), np.repeat(np.arange(len(self.states)), self.counts)
        return self._arrays


class Answers:
    """What an agent plays: ``p`` holds its probabilities by place, asked for once per information state."""

    def __init__(self, seen: Seen, agent: Policy) -> None:
        self.seen = seen
        self.agent = agent
        self.p = np.zeros(seen.size)
        self.p[0] = 1.0
        self.known = np.zeros(len(seen.states), dtype=bool)
        self.known[0] = True

    def learn(self, numbers: np.ndarray) -> None:
        """Ask the agent about those information states of ``numbers`` that are not known yet.

        Raises
        ------
        NoDistribution
            The agent cannot state a distribution.
        ValueError
            What it states is not a distribution over the legal actions.
        """
        if self.seen.size > len(self.p):
            self.p = np.concatenate([self.p, np.zeros(self.seen.size - len(self.p))])
            self.known = np.concatenate(
                [self.known, np.zeros(len(self.seen.states) - len(self.known), dtype=bool)]
            )
        new = numbers[~self.known[numbers]]
        if not len(new):
            return
        if len(new) > 1:
            new = np.unique(new)
        self.known[new] = True
        states = [self.seen.states[i] for i in new.tolist()]
        rows = self.agent.distributions(states)
        values = flattened(self.agent, states, rows)
        counts = [self.seen.counts[i] for i in new.tolist()]
        first = np.cumsum(counts) - counts
        self.p[np.arange(len(values)) + np.repeat(self.seen.arrays()[0][new] - first, counts)] = values


class Everything(Answers):
    """No agent: 1 at every place, so that whatever is possible is reached."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.p = np.ones(seen.size)

    def learn(self, numbers: np.ndarray) -> None:
        if self.seen.size > len(self.p):
            self.p = np.ones(self.seen.size)
