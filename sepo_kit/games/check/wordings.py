"""Other wordings: they say all that the game says, and what they call an action is read as that action."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sepo_kit.games.base import Wording
from sepo_kit.games.check.episodes import EpisodeChecks
from sepo_kit.games.check.frame import short
from sepo_kit.games.wordings import WordedGame

SITUATIONS = 500  # whose prompts are compared in every wording
READ = 30  # actions that are read back in every wording that renames some
MORE_EPISODES = 1000  # played to meet a phrase that was not met


@dataclass(frozen=True)
class Sought:
    """A text to be met in a prompt of the game, and what is wrong where it never is."""

    is_in: Callable[[str], bool]
    wrong: str
    mend: str


class WordingChecks(EpisodeChecks):
    """Checks of ``Game.wordings`` on the prompts that play has met."""

    def wordings(self) -> None:
        wordings = self.game.wordings
        self.require(
            isinstance(wordings, Mapping) and all(isinstance(each, Wording) for each in wordings.values()),
            f"game.wordings is {short(wordings)}",
            "Give a mapping from name to Wording",
        )
        for name, wording in wordings.items():
            self.texts(name, wording)
            self.names(name, wording)
        worded = {name: WordedGame(self.game, wording) for name, wording in wordings.items()}
        for name, game in worded.items():
            if game.wording.names:
                self.read_back(name, game)
        self.told_apart(worded)
        self.all_met(sought for name, game in worded.items() for sought in self.sought(name, game))

    def texts(self, name: str, wording: Wording) -> None:
        self.require(
            isinstance(wording.rules, str) and bool(wording.rules.strip()),
            f"wording {name!r} has the rules {short(wording.rules)}",
            "Give the rules as text",
        )
        for what in ("phrases", "names"):
            pairs = getattr(wording, what)
            self.require(
                isinstance(pairs, Mapping)
                and all(isinstance(text, str) for pair in pairs.items() for text in pair)
                and "" not in pairs,
                f"wording {name!r} has the {what} {short(pairs)}",
                "Give texts and what is said in their place",
            )

    def names(self, name: str, wording: Wording) -> None:
        """Whether names are of actions, in capitals, and no two actions have one."""
        for own, other in wording.names.items():
            self.require(
                all(re.fullmatch(r"\w(.*\w)?", word) and word == word.upper() for word in (own, other)),
                f"wording {name!r} renames {own!r} to {other!r}",
                "Name actions by words in capitals",
            )
            self.require(
                any(re.search(rf"\b{re.escape(own)}\b", action) for action in self.game.spec.actions),
                f"wording {name!r} renames {own!r}, which no action has in it",
                f"Rename words of spec.actions: {short(self.game.spec.actions)}",
            )
        actions = WordedGame(self.game, wording).spec.actions
        self.require(
            len({action.upper() for action in actions}) == len(actions),
            f"wording {name!r} calls the actions {short(actions)}",
            "Give each a name of its own",
        )

    def read_back(self, name: str, worded: WordedGame) -> None:
        """Whether replies in the names of a wording are read as these, and others not."""
        found = {}
        for seen in {seen.legal_actions: seen for seen in self.seen}.values():
            legal = worded.reword(seen).legal_actions
            found |= {own: (other, legal) for own, other in zip(seen.legal_actions, legal, strict=True)}
        for own, (other, legal) in self.some(list(found.items()), READ):
            for reply in (other, f"I have thought about it.\n{other}"):
                self.read_as(name, worded, reply, legal, other)
            if own not in legal:
                self.read_as(name, worded, own, legal, None)

    def read_as(self, name: str, worded: WordedGame, reply: str, legal: tuple[str, ...], action: str | None):
        got = self.call("parse", worded.parse, reply, legal)
        self.require(
            got == action,
            f"wording {name!r} reads {reply!r} as {got!r}, not {action!r} (legal: {short(legal)})",
            'Give names that parse() reads, with the game\'s own in their place; "?" in their place is no action',
        )

    def told_apart(self, worded: Mapping[str, WordedGame]) -> None:
        """Whether situations are told apart in every wording, and wordings from each other and from the game."""
        met = self.some(list(self.seen), SITUATIONS) if worded else []
        own = [self.seen[seen] for seen in met]
        whole = {(in_one_line(self.game.system_prompt()), *own): "the game itself"}
        for name, game in worded.items():
            texts = [game.said(text) for text in own]
            first = {}
            for seen, text in zip(met, texts, strict=True):
                other = first.setdefault(text, seen)
                self.require(
                    other == seen,
                    f"wording {name!r} gives the same text for {short(other)} and {short(seen)}: {short(text)}",
                    "What phrases say in the place of others must tell situations apart as these do",
                )
            other = whole.setdefault((in_one_line(game.system_prompt()), *texts), repr(name))
            self.require(
                other == repr(name),
                f"wording {name!r} says all as {other} does",
                "Say it in other words, or leave it out",
            )

    def sought(self, name: str, worded: WordedGame) -> Iterable[Sought]:
        """The phrases of a wording, and the names that its rules do not tell."""
        for phrase in worded.wording.phrases:
            yield Sought(
                lambda text, phrase=phrase: phrase in text,
                f"wording {name!r} replaces {phrase!r}, which no prompt says that play has met",
                "Write it as render() does, or leave it out",
            )
        for other in worded.wording.names.values():
            word = re.compile(rf"\b{re.escape(other)}\b")
            if not word.search(worded.system_prompt()):
                yield Sought(
                    lambda text, word=word: word.search(worded.said(text)) is not None,
                    f"wording {name!r} calls an action {other!r}, and neither its rules nor its prompts say so",
                    "Say in the rules, in the game's own names, what the actions are",
                )

    def all_met(self, sought: Iterable[Sought]) -> None:
        """Whether every text sought is in some prompt; more is played as long as one was not met."""
        missing = unmet(sought, list(self.seen.values()))
        for _ in range(MORE_EPISODES):
            if not missing:
                return
            before = len(self.seen)
            self.play()
            missing = unmet(missing, list(self.seen.values())[before:])
        if missing:
            self.require(False, missing[0].wrong, missing[0].mend)


def unmet(sought: Iterable[Sought], prompts: Sequence[str]) -> list[Sought]:
    return [each for each in sought if not any(map(each.is_in, prompts))]


def in_one_line(text: str) -> str:
    return " ".join(text.split())
