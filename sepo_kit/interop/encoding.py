"""Actions as numbers, information states as vectors: what all adapters share.

An action's number is its place in ``spec.actions``, and a mask has 1 where an action is legal now. A vector is the
text that names an information state (its ``key``), as the bits of its UTF-8 bytes, padded with zeros: lossless, of
one length for every game, and made of nothing but what the seat has seen.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sepo_kit.games.base import Game, InformationState

PROBES = 64  # random matches that measure a game
SLACK = 32  # bytes that vectors are longer than, and multiples of


class Encoding:
    """The numbers of one game.

    ``length``: floats in the vector of a key. ``most_outcomes``: the most outcomes of one chance node, 0 where
    nature does not move. ``simultaneous``: whether seats move at once. The three are measured on random matches.
    """

    def __init__(self, game: Game) -> None:
        self.actions = game.spec.actions
        self.number = {action: number for number, action in enumerate(self.actions)}
        self.most_outcomes, self.simultaneous, longest = 0, False, 0
        rng = np.random.default_rng(0)
        for _ in range(PROBES):
            state = game.initial_state()
            while not state.is_terminal:
                outcomes = state.chance_outcomes()
                if outcomes:
                    self.most_outcomes = max(self.most_outcomes, len(outcomes))
                    state = state.apply_chance(outcomes[rng.integers(len(outcomes))][0])
                    continue
                self.simultaneous |= len(state.actors) > 1
                seen = [state.information(seat) for seat in state.actors]
                longest = max(longest, *(len(s.key.encode()) for s in seen))
                state = state.apply(tuple(s.legal_actions[rng.integers(len(s.legal_actions))] for s in seen))
        self.bytes = (longest // SLACK + 2) * SLACK
        self.length = 8 * self.bytes

    def legal(self, seen: InformationState | None) -> list[int]:
        """Numbers of the legal actions, ascending; [] where the seat is not to move."""
        return [] if seen is None else sorted(self.number[action] for action in seen.legal_actions)

    def mask(self, seen: InformationState | None) -> np.ndarray:
        """1 for each legal action: int8, shape (A,)."""
        mask = np.zeros(len(self.actions), dtype=np.int8)
        mask[self.legal(seen)] = 1
        return mask

    def vector(self, seen: InformationState | None) -> np.ndarray:
        """The key in bits: float32, shape (``length``,); zeros where the seat is not to move."""
        return bits("" if seen is None else seen.key, self.bytes)


def bits(text: str, most: int) -> np.ndarray:
    """The bits of the text's UTF-8 bytes, padded to ``most`` bytes: float32, shape (8 * most,).

    Raises
    ------
    ValueError
        The text is longer.

    >>> bits("A", 2).astype(int).tolist()
    [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    data = text.encode()
    if len(data) > most:
        raise ValueError(
            f"an information state's text has {len(data)} bytes, vectors hold {most}; shorten its key: {text!r}"
        )
    return np.unpackbits(np.frombuffer(data.ljust(most, b"\0"), dtype=np.uint8)).astype(np.float32)


@lru_cache(maxsize=64)
def encoding(game: Game) -> Encoding:
    """The encoding of ``game``, made once."""
    return Encoding(game)


def forfeit(game: Game, finished: int) -> float:
    """What a seat earns for an action that is not legal: the least that the rounds after ``finished`` can pay."""
    return game.spec.payoff_bounds[0] * (game.spec.rounds - finished)
