"""Who sits opposite in an environment of one seat."""

from __future__ import annotations

from sepo_kit.engine.policy import Policy, scripted
from sepo_kit.games.base import POOLS, SEATS, Game


def opponents_of(game: Game, opponent: str | Policy, seat: int) -> tuple[Policy, ...]:
    """The policies that ``opponent`` of ``seat`` stands for: the members of a pool, one strategy, or a policy itself.

    Raises
    ------
    ValueError
        It is neither a pool nor a strategy of the game, the pool is empty, or there is no such seat.
    """
    if seat not in SEATS:
        raise ValueError(f"seat must be 0 or 1, got {seat!r}")
    if isinstance(opponent, Policy):
        return (opponent,)
    if opponent in POOLS:
        if not game.spec.pools[opponent]:
            filled = ", ".join(pool for pool in POOLS if game.spec.pools[pool])
            raise ValueError(f"the pool {opponent!r} of {game.spec.id} is empty; take one of {filled}")
        return tuple(scripted(game, member) for member in game.spec.pools[opponent])
    if opponent not in game.strategies:
        raise ValueError(
            f"unknown opponent {opponent!r} in {game.spec.id}; give a pool ({', '.join(POOLS)}), a strategy "
            f"({', '.join(game.strategies)}) or a policy"
        )
    return (scripted(game, opponent),)
