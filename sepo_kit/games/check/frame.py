"""What every check has: the game, the random numbers, what was seen so far, and how a broken rule is told."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from sepo_kit.games.base import Game, InformationState, State
from sepo_kit.games.numbers import is_finite

TOLERANCE = 1e-9
NO_ACTION = "no such action"

# A move is ("nature", outcome) or ("seats", actions); an episode is its (move, state after it) pairs, the
# first move being None.
Move = tuple[str, object]
Trail = list[tuple[Move | None, State]]


class GameError(ValueError):
    """A game breaks a rule; the message says which, what is allowed and what to mend."""


class Check:
    """One run of ``check_game``: the game, its random numbers, and what has been seen so far."""

    def __init__(self, game: Game, seed: int) -> None:
        self.game = game
        self.rng = np.random.default_rng(seed)
        self.visited: set[State] = set()
        self.seen: dict[InformationState, str] = {}  # information state -> prompt
        self.keys: dict[str, InformationState] = {}
        self.prompts: dict[str, InformationState] = {}
        self.starts: dict[int, State] = {}  # where each round began when it was first met
        self.named: dict[tuple, State] = {}  # by round and labels, the decision that was met first
        self.followed = 0  # positions that were looked at to compare those

    def require(self, holds: bool, wrong: str, mend: str) -> None:
        """Raise ``GameError`` unless ``holds``."""
        if not holds:
            raise GameError(f"{self.name}: {wrong}. {mend}")

    @property
    def name(self) -> str:
        return getattr(getattr(self.game, "spec", None), "id", type(self.game).__name__)

    def call(self, what: str, function: Callable, *arguments, **options):
        """``function(...)``, with anything it raises turned into a ``GameError``."""
        try:
            return function(*arguments, **options)
        except GameError:
            raise
        except Exception as error:
            given = ", ".join([*map(short, arguments), *(f"{k}={short(v)}" for k, v in options.items())])
            raise GameError(
                f"{self.name}: {what}({given}) raised {type(error).__name__}: {error}. "
                f"It must work in every position that play can reach; mend {what}"
            ) from error

    def refuses(self, what: str, function: Callable, *arguments, mend: str) -> None:
        """Require that ``function(...)`` raises ValueError."""
        given = ", ".join(map(short, arguments))
        try:
            function(*arguments)
        except ValueError:
            return
        except Exception as error:
            wrong = f"{what}({given}) raised {type(error).__name__} where only ValueError is allowed"
            raise GameError(f"{self.name}: {wrong}. {mend}") from error
        raise GameError(f"{self.name}: {what}({given}) was accepted. {mend}")

    def some(self, things: list, count: int) -> list:
        """Up to ``count`` of ``things`` at random."""
        chosen = self.rng.choice(len(things), size=min(count, len(things)), replace=False) if things else ()
        return [things[i] for i in chosen]


def finite(value: object) -> bool:
    return isinstance(value, int | float | np.number) and is_finite(value)


def is_hashable(thing: object) -> bool:
    try:
        hash(thing)
    except TypeError:
        return False
    return isinstance(thing, Hashable)


def is_equal(one: object, two: object) -> bool:
    try:
        return bool(one == two)
    except ValueError:  # arrays compare element by element
        return False


def short(thing: object, most: int = 160) -> str:
    text = repr(thing)
    return text if len(text) <= most else f"{text[:most]}..."
