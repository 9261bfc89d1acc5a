"""The rulebooks. A game of the kit is one file here and one word in ``KIT_GAMES``; a user's own game is registered:
by ``register``, or by its package's entry point."""

from sepo_kit.games import auction, ipd, kuhn, leduc, negotiation_v1, negotiation_v2
from sepo_kit.games.base import Game, Weights
from sepo_kit.games.check import GameError, check_game
from sepo_kit.games.registry import Games

PAPER_GAMES = ("ipd", "auction", "negotiation_v1", "negotiation_v2", "kuhn")  # those of arXiv 2605.30854
KIT_GAMES: dict[str, Game] = {
    module.GAME.spec.id: module.GAME for module in (ipd, auction, negotiation_v1, negotiation_v2, kuhn, leduc)
}
GAMES = Games(KIT_GAMES)
get_game, register, checked_game = GAMES.get_game, GAMES.register, GAMES.checked_game
registered_game = GAMES.registered_game

__all__ = [
    "GAMES",
    "KIT_GAMES",
    "PAPER_GAMES",
    "Game",
    "GameError",
    "Weights",
    "check_game",
    "checked_game",
    "get_game",
    "register",
    "registered_game",
]
