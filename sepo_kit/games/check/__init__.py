"""``check_game``: does a game keep the contract that play, training and evaluation rely on?

Public: point it at your own game (``docs/game_file.md``). It looks at every state where there are few, else
at what seeded play reaches, and raises ``GameError`` at the first broken rule: what is wrong, what is
allowed, what to mend. Under a second a game.
"""

from __future__ import annotations

from sepo_kit.games.base import Game
from sepo_kit.games.check.frame import GameError
from sepo_kit.games.check.hidden import HiddenChecks
from sepo_kit.games.check.independence import IndependenceChecks
from sepo_kit.games.check.kit import KitChecks
from sepo_kit.games.check.labels import LabelChecks
from sepo_kit.games.check.spec import SpecChecks
from sepo_kit.games.check.wordings import WordingChecks

EPISODES = 30


class GameChecks(SpecChecks, WordingChecks, HiddenChecks, IndependenceChecks, LabelChecks, KitChecks):
    """All checks of one game."""


def check_game(game: Game, seed: int = 0) -> None:
    """Check that ``game`` keeps the contract of ``base.py``.

    Parameters
    ----------
    seed
        Seed of the random play; the same seed checks the same positions.

    Raises
    ------
    GameError
        The first rule found broken.

    >>> from sepo_kit.games import get_game
    >>> check_game(get_game("kuhn"))
    """
    if not isinstance(game, Game):
        raise GameError(
            f"check_game needs an instance of Game, got {game!r}. Pass the GAME of your game file"
        )
    check = GameChecks(game, seed)
    check.spec()
    check.pools()
    check.mixture()
    check.hashes()
    check.system_prompts()
    check.every_state()
    episodes = []
    for _ in range(EPISODES):
        episode = check.play()
        episodes.append(episode)
        check.rounds(episode)
        check.same_again(episode)
        check.hidden_information(episode)
        check.independent_rounds(episode)
    check.words()
    check.strategies()
    check.sizes()
    check.rows()
    for episode in episodes:
        check.label_suffices(episode)
    check.wordings()


__all__ = ["GameError", "check_game"]
