"""check_game finds wordings of a game that do not say all that the game says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from coins import Coins, CoinState

from sepo_kit.games import GameError, check_game
from sepo_kit.games.base import Wording

RULES = "Say RED or BLUE."
RENAMED = Wording(RULES, {"your call?": "and you?"}, {"RED": "GREEN", "BLUE": "PINK"})


def worded(wording=RENAMED, **changes):
    """The toy game with a wording of its own."""
    return type("Worded", (Coins,), {"wordings": {"other": replace(wording, **changes)}})()


def initials(calls):
    return " ".join(f"{first[0]}{second[0]}" for first, second in calls)


BROKEN = {
    "no mapping": (
        type("Worded", (Coins,), {"wordings": [RENAMED]})(),
        "Give a mapping from name to Wording",
    ),
    "no wording": (
        type("Worded", (Coins,), {"wordings": {"other": "Say it."}})(),
        "Give a mapping from name to Wording",
    ),
    "no rules": (worded(rules=" "), "wording 'other' has the rules ' '"),
    "phrases of no text": (worded(phrases={"your call?": 3}), "Give texts and what is said in their place"),
    "phrase of nothing": (worded(phrases={"": "and you?"}), "Give texts and what is said in their place"),
    "names in small letters": (worded(names={"RED": "Green"}), "in capitals"),
    "name of no action": (worded(names={"RDE": "GREEN"}), "renames 'RDE', which no action has in it"),
    "one name for two": (
        worded(names={"RED": "GREEN", "BLUE": "GREEN"}),
        "wording 'other' calls the actions ('GREEN', 'GREEN')",
    ),
    "another action's name": (worded(names={"RED": "BLUE"}), "calls the actions ('BLUE', 'BLUE')"),
    "names that are no words": (worded(names={"RED": "+"}), "renames 'RED' to '+'. Name actions by words"),
    "old name that is read": (
        type(
            "Worded",
            (Coins,),
            {
                "wordings": {"other": RENAMED},
                "parse": lambda self, reply, legal: (
                    legal[0] if reply == "?" else Coins.parse(self, reply, legal)
                ),
            },
        )(),
        "wording 'other' reads 'RED' as 'GREEN', not None",
    ),
    "name that is not told": (
        type(
            "Worded",
            (Coins,),
            {
                "wordings": {"other": replace(RENAMED, rules="Say RED or its opposite.")},
                "render": lambda self, seen: f"Coins {seen.coins}, calls {initials(seen.calls)}: your call?",
            },
        )(),
        "calls an action 'PINK', and neither its rules nor its prompts say so",
    ),
    "phrase that nobody says": (
        worded(phrases={"your calls?": "and you?"}),
        "replaces 'your calls?', which no prompt says",
    ),
    "prompts alike": (
        worded(phrases={"Coins (0,)": "A coin", "Coins (1,)": "A coin"}),
        "gives the same text for CoinInformation(",
    ),
    "nothing changed": (worded(Wording("Call RED or BLUE.")), "'other' says all as the game itself does"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_wording_that_says_less_than_the_game_is_named(name):
    game, message = BROKEN[name]
    with pytest.raises(GameError) as caught:
        check_game(game)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "wording",
    [
        RENAMED,
        Wording("Say RED or BLUE, please."),
        Wording(RULES, names={"RED": "BLUE", "BLUE": "RED"}),
        Wording(RULES, {"calls": "said"}, {"RED": "GREEN"}),
    ],
)
def test_a_wording_that_says_as_much_passes(wording):
    check_game(worded(wording))


class LongCoinState(CoinState):
    rounds = 7


class Streak(Coins):
    """Seven rounds; whoever was shown no 1 in any of them is told so, which hardly ever happens."""

    spec = replace(Coins.spec, rounds=7)
    state = LongCoinState
    wordings = {"other": Wording(RULES, {"Not a single 1!": "All are 0."})}

    def render(self, seen):
        return super().render(seen) + (" Not a single 1!" if seen.coins == (0,) * 7 else "")


def test_a_phrase_that_is_seldom_said_is_looked_for_in_more_play(monkeypatch):
    check_game(Streak())
    monkeypatch.setattr("sepo_kit.games.check.wordings.MORE_EPISODES", 1)
    with pytest.raises(GameError, match="replaces 'Not a single 1!', which no prompt says"):
        check_game(Streak())


def test_two_wordings_that_are_one_are_named():
    game = type("Worded", (Coins,), {"wordings": {"one": RENAMED, "two": RENAMED}})()
    with pytest.raises(GameError, match="wording 'two' says all as 'one' does"):
        check_game(game)
