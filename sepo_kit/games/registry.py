"""Which games are known: the kit's own, those of installed packages, and those registered by a script.

A package makes its games known to every process, notebooks and workers too, by entry points in the group
``sepo_kit.games``; they are loaded when something other than a game of the kit is first asked for.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points

from sepo_kit.games.base import Game
from sepo_kit.games.check import check_game

GROUP = "sepo_kit.games"
HOW = (
    f"a process knows a game of your own if it registers it (sk.register), or if an installed package names it as an "
    f"entry point in the group {GROUP!r} (docs/your_game.md), which notebooks, workers and the command line find too"
)


class Games(Mapping[str, Game]):
    """Games by id: ``own`` first, then those of entry points, then those registered, each in the order it came."""

    def __init__(self, own: Mapping[str, Game]) -> None:
        self._own = dict(own)
        self._known = dict(own)
        self._checked = list(own.values())
        self._passed: deque[Game] = deque(
            maxlen=8
        )  # of those that are in no registry; an adversary's holds an agent
        self._loaded = False
        self._broken: list[str] = []

    def __getitem__(self, game_id: str) -> Game:
        return self._own[game_id] if game_id in self._own else self._all()[game_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"<games {', '.join(self)}>"

    def get_game(self, game: str | Game) -> Game:
        """The game called ``game``; a ``Game`` is returned as it is.

        Raises
        ------
        ValueError
            Unknown id; the message lists the known ones and says how a game is made known.

        >>> from sepo_kit.games import get_game
        >>> get_game("kuhn").spec.rounds
        6
        """
        if isinstance(game, Game):
            return game
        if game not in self:
            broken = f"; {'; '.join(self._broken)}" if self._broken else ""
            raise ValueError(f"unknown game {game!r}; known: {', '.join(self)}; {HOW}{broken}")
        return self[game]

    def registered_game(self, game: str | Game) -> Game:
        """``get_game`` for those who list the games, a ``Game`` among them.

        Raises
        ------
        ValueError
            Unknown id, or a game that was not registered.
        """
        found = self.get_game(game)
        if self.get(found.spec.id) is not found:
            raise ValueError(f"game {found.spec.id!r} is not registered; sk.register(GAME) first")
        return found

    def register(self, game: Game) -> Game:
        """Make ``game`` known to this process by its id, after ``check_game``; the same object may come again.

        Returns
        -------
        Game
            ``game``, so that a file may end with ``GAME = sk.register(MyGame())``.

        Raises
        ------
        GameError
            It breaks a rule of the contract.
        ValueError
            Another game has its id.
        """
        if isinstance(game, Game) and self.get(game.spec.id) is game:
            return game
        check_game(game)
        self._add(game)
        self._checked.append(game)
        return game

    def checked_game(self, game: str | Game) -> Game:
        """``get_game``, and ``check_game`` first where the game has not passed it in this process and is not one of the
        kit's own, so that a broken rule is named before anything is trained on it.

        Raises
        ------
        ValueError
            Unknown id.
        GameError
            The game breaks a rule.
        """
        game = self.get_game(game)
        if not any(game is other for other in (*self._checked, *self._passed)):
            check_game(game)
            self._passed.append(game)
        return game

    # --- how they come in -------------------------------------------------------------------------

    def _all(self) -> Mapping[str, Game]:
        if not self._loaded:
            self._loaded = True  # first: a game's module may ask for the games
            for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
                self._load(point)
        return self._known

    def _load(self, point: EntryPoint) -> None:
        """Add the game of an entry point. A broken one is named in a line, and the kit goes on without it."""
        try:
            game = point.load()
            if not isinstance(game, Game):
                raise TypeError(
                    f"it is {type(game).__name__}, not an instance of Game; name the GAME of a file"
                )
            self._add(game)
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            self._broken.append(
                f"entry point '{point.name} = {point.value}' is left out: {type(error).__name__}: {first}"
            )
            warnings.warn(self._broken[-1], stacklevel=2)

    def _add(self, game: Game) -> None:
        known = self._all().get(game.spec.id)
        if known is game:
            return
        if known is not None:
            raise ValueError(
                f"game id {game.spec.id!r} is taken by {type(known).__module__}.{type(known).__qualname__}; "
                "give the spec of your game another id"
            )
        self._known[game.spec.id] = game
