"""A game in other words: its rules and situations said anew, and its actions renamed. What is played stays the same.

An agent that plays by the situation plays the same in all of them; one that plays by the words of its training does
not. Each game brings wordings of its own (``Game.wordings``), which no training ever shows; those of the kit's games
are in ``words/``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from sepo_kit.games.base import Game, Harms, InformationState, Outcome, State, Wording, answer_rule

WORDS = Path(__file__).parent / "words"


def read_wordings(path: Path | str) -> dict[str, Wording]:
    """Wordings by name from a TOML file: a table each, with the fields of ``Wording``."""
    with open(path, "rb") as file:
        return {name: Wording(**wording) for name, wording in tomllib.load(file).items()}


@dataclass(frozen=True)
class WordedInformation(InformationState):
    """``seen`` with the names that its actions have in a wording."""

    seen: InformationState
    named: tuple[str, ...]

    @property
    def legal_actions(self) -> tuple[str, ...]:
        return self.named

    @property
    def key(self) -> str:
        return self.seen.key

    @property
    def label(self) -> str:
        return self.seen.label

    @property
    def round(self) -> int:
        return self.seen.round


class WordedGame(Game):
    """``game`` as ``wording`` says it: what an agent is asked and how its reply is read. It is asked of
    ``WordedInformation``; states and strategies are the game's own.

    >>> from sepo_kit.games import get_game
    >>> kuhn = get_game("kuhn")
    >>> worded = WordedGame(kuhn, kuhn.wordings["renamed"])
    >>> seen = worded.reword(kuhn.initial_state().apply_chance(("K", "J")).information(0))
    >>> worded.parse("I raise the stakes.\\nBLUE", seen.legal_actions)
    'BLUE'
    """

    def __init__(self, game: Game, wording: Wording) -> None:
        self.game = game
        self.wording = wording
        self.strategies = game.strategies
        self.spec = replace(game.spec, actions=tuple(self._named(action) for action in game.spec.actions))

    def reword(self, seen: InformationState) -> WordedInformation:
        """``seen`` with its actions renamed, in the same order."""
        return WordedInformation(seen, tuple(self._named(action) for action in seen.legal_actions))

    def initial_state(self) -> State:
        return self.game.initial_state()

    def system_prompt(self, style: str = "reasoned") -> str:
        return f"{self._named(self.wording.rules)}\n{answer_rule(style)}"

    def render(self, seen: WordedInformation) -> str:
        return self.said(self.game.render(seen.seen))

    def said(self, text: str) -> str:
        """What the game says of a situation, in these words."""
        return self._named(_replaced(text, self.wording.phrases))

    def parse(self, reply: str, legal_actions: Sequence[str]) -> str | None:
        # A name of the game itself means nothing here.
        meant = {name: "?" for name in self.wording.names} | self._back
        reply = _replaced(reply, meant, words=True, flags=re.IGNORECASE)
        own = self.game.parse(reply, [_replaced(action, self._back, words=True) for action in legal_actions])
        return None if own is None else self._named(own)

    def harms(self, outcome: Outcome, seat: int = 0, definition: str = "corrected") -> Harms:
        return self.game.harms(outcome, seat, definition)

    @property
    def _back(self) -> dict[str, str]:
        return {other: name for name, other in self.wording.names.items()}

    def _named(self, text: str) -> str:
        return _replaced(text, self.wording.names, words=True)


def _replaced(text: str, replacements: Mapping[str, str], *, words: bool = False, flags: int = 0) -> str:
    """``text`` with all ``replacements`` made in one go, the longest first; ``words``: of whole words only; in either
    case where ``flags`` say so and the replaced are in capitals."""
    if not replacements:
        return text
    pattern = _any_of(tuple(replacements), words, flags)
    return pattern.sub(lambda found: replacements[found[0].upper() if flags else found[0]], text)


@lru_cache(maxsize=256)
def _any_of(texts: tuple[str, ...], words: bool, flags: int) -> re.Pattern[str]:
    pattern = "|".join(map(re.escape, sorted(texts, key=len, reverse=True)))
    return re.compile(rf"\b(?:{pattern})\b" if words else pattern, flags)
