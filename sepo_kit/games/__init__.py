"""The rulebooks. Adding a game: one file here, one line below, one row in ``profiles.py``."""

from sepo_kit.games import auction, ipd, kuhn, leduc, negotiation_v1, negotiation_v2
from sepo_kit.games.base import Game, Weights
from sepo_kit.games.check import GameError, check_game

GAMES: dict[str, Game] = {
    module.GAME.spec.id: module.GAME for module in (ipd, auction, negotiation_v1, negotiation_v2, kuhn, leduc)
}


def get_game(game: str | Game) -> Game:
    """The game called ``game``; a ``Game`` is returned as it is.

    Raises
    ------
    ValueError
        Unknown id; the message lists the known ones.

    >>> get_game("kuhn").spec.rounds
    6
    """
    if isinstance(game, Game):
        return game
    if game not in GAMES:
        raise ValueError(f"unknown game {game!r}; known: {', '.join(GAMES)}")
    return GAMES[game]


def checked_game(game: str | Game) -> Game:
    """``get_game``, and ``check_game`` first where the game is not one of the kit's own, so that a broken rule is
    named before anything is trained on it.

    Raises
    ------
    ValueError
        Unknown id.
    GameError
        The game breaks a rule.
    """
    game = get_game(game)
    if GAMES.get(game.spec.id) is not game:
        check_game(game)
    return game


__all__ = ["GAMES", "Game", "GameError", "Weights", "check_game", "checked_game", "get_game"]
