"""Replies: an action is read only where the last line that holds more than markup is that action."""

from __future__ import annotations

import csv
import time
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sepo_kit.games import get_game
from sepo_kit.games.negotiation_v2 import demands_on
from sepo_kit.games.replies import LONGEST_LINE, last_line, parse_action, plain

DILEMMA = ("COOPERATE", "DEFECT")
KUHN = ("PASS", "BET", "FOLD", "CALL")
DEMANDS = tuple(str(number) for number in range(1, 10))
# game, legal actions ("*": those on a pool of 2, 1, 4), reply, the action it is (empty: none), whether reading nothing
# is no fault either
with (Path(__file__).parent / "replies.csv").open(encoding="utf-8", newline="") as file:
    CASES = list(csv.DictReader(file))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['game']}-{case['reply']}")
def test_cases(case):
    legal = demands_on((2, 1, 4)) if case["legal"] == "*" else tuple(case["legal"].split())
    found = get_game(case["game"]).parse(case["reply"], legal)
    assert found == (case["right"] or None) or (found is None and case["refusing_is_fine"] == "1")


def test_there_are_cases_of_every_game_read_and_not_read():
    kinds = {(case["game"], bool(case["right"])) for case in CASES}
    assert len(kinds) == 2 * 5 and len(CASES) > 250


READ = [
    ("COOPERATE", "COOPERATE"),
    ("cooperate", "COOPERATE"),
    ("  Defect.  ", "DEFECT"),
    ("They defected.\nAction: COOPERATE", "COOPERATE"),
    ("COOPERATE\n\n \t\n", "COOPERATE"),
    ("DEFECT? No.\r\nCOOPERATE", "COOPERATE"),
    ("**DEFECT**", "DEFECT"),
    ('{"action": "DEFECT"}', "DEFECT"),
    ("<b>DEFECT</b>", "DEFECT"),
    ("DEFECT, DEFECT!", "DEFECT"),
    ("我选择 COOPERATE。", "COOPERATE"),
    ("Мой ход: DEFECT", "DEFECT"),
    ("🙂 COOPERATE 🙂", "COOPERATE"),
    ("_COOPERATE_", "COOPERATE"),
    ("DEFECT\n" * 20_000 + "COOPERATE", "COOPERATE"),
]

NOT_READ = [
    "",
    " \n\t\n",
    "I do not know.",
    "COOPERATE\nI am sure.",
    "Defection is bad, so COOPERATE",  # a reason, and the action in passing
    "COOPERATE or DEFECT",
    "COOPERATE,DEFECT",
    "COOPERATE-DEFECT",
    "COOPERATE/DEFECT",
    "COOPERATE.DEFECT",
    "<b>COOPERATE</b><i>DEFECT</i>",
    "COOPERATEDEFECT",
    "COOPERATION",
    "non-COOPERATE",
    "COOPERATE's",
    "snake_COOPERATE_case",
    "C O O P E R A T E",
    "COOPER\x00ATE",
    "COOPER\u200bATE",
    "COOPERATE\u200b",
    "COOPERATE\u0301",
    "СООРЕRATE",  # Cyrillic letters
    "ＤＥＦＥＣＴ",  # full-width letters
    "合作",
    "تعاون",
    "1",
]


@pytest.mark.parametrize(("reply", "action"), READ)
def test_read(reply, action):
    assert parse_action(reply, DILEMMA) == action


@pytest.mark.parametrize("reply", NOT_READ)
def test_not_read(reply):
    assert parse_action(reply, DILEMMA) is None


@pytest.mark.parametrize("reply", ["PAſS", "pa\u017f\u017f"])
def test_letters_that_only_look_alike_when_case_is_ignored(reply):
    assert parse_action(reply, KUHN) is None


def test_actions_may_hold_any_signs():
    """Whole on the last line they are read; markup within them is told apart from markup around them."""
    words = ("A*B", "(1, 2)", "~", "<x>", "\U0001f44d", "- 1", "ДА", "raise to 10", "raise to 100")
    for word in words:
        assert parse_action(f"Well.\n{word}", words) == word
    assert parse_action("Action: **A*B**", words) == "A*B"
    assert parse_action("My choice is: да.", words) == "ДА"
    assert parse_action("I raise to 100!", words) == "raise to 100"
    assert parse_action("AB", words) is None


def test_actions_that_differ_in_case_or_markup_alone_are_only_read_as_they_are():
    words = ("a", "A", "*A*")
    assert [parse_action(word, words) for word in words] == list(words)
    assert parse_action("Action: A", words) is None


def test_a_word_of_the_game_is_no_lead_in():
    assert parse_action("Bid: PASS", ("PASS", "BID")) is None
    assert parse_action("Bid: PASS", ("PASS",), ("PASS", "BID")) is None
    assert parse_action("I bid.", ("PASS", "BID")) == "BID"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("**Action:** `fold`", "Action: fold"),
        ("\\boxed{\\text{Call}}", "Call"),
        ("it's <b>7</b>", "it's 7"),
        ("7*7", "7*7"),
        ("[ ] BET", "\u2610 BET"),
        ("<think>BET", "<think>BET"),
        ("=> BET", ": BET"),
    ],
)
def test_plain(line, words):
    assert plain(line) == words


def test_the_last_line_is_the_last_that_holds_more_than_markup():
    assert last_line("BET\n```\n---\n</answer>\n\n\U0001f642") == "BET"
    assert last_line("BET\n</think>") == "</think>"
    assert last_line("- PASS\n\n- BET") is None
    assert last_line("***\n\n") is None


@pytest.mark.parametrize("game", ["ipd", "auction", "negotiation_v1", "negotiation_v2", "kuhn"])
def test_all_demonstrations_are_read_as_their_action(game):
    path = Path(__file__).parents[2] / "data" / "sft" / f"{game}.parquet"
    frame = pd.read_parquet(path, columns=["reason", "action"]).drop_duplicates()
    assert len(frame) > 10
    rules = get_game(game)
    for row in frame.itertuples():
        for reply in (row.action, f"{row.reason}\n{row.action}"):
            assert rules.parse(reply, rules.spec.actions) == row.action


def test_a_word_of_the_game_that_is_not_legal_now_is_not_read():
    assert parse_action("BET", ("FOLD", "CALL"), KUHN) is None
    assert parse_action("They BET, I CALL", ("FOLD", "CALL"), KUHN) is None
    assert parse_action("CALL", ("FOLD", "CALL"), KUHN) == "CALL"


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("7", "7"),
        ("Action: 7.", "7"),
        ("I demand 7 points", "7"),
        ("(7)", "7"),
        ("**7**", "7"),
        ("10 is the pie\n5", "5"),
        ("7, 7", "7"),
        ("17", None),
        ("0", None),
        ("10", None),
        ("-7", None),
        ("\u22127", None),
        ("\u20137", None),
        ("+7", None),
        ("7.5", None),
        ("7,5", None),
        (".7", None),
        ("7%", None),
        ("7/10", None),
        ("7 of 10", None),
        ("5 or 12", None),
        ("10-5", None),
        ("5:4", None),
        ("7e2", None),
        ("7th", None),
        ("07", None),
        ("7½", None),
        ("7²", None),
        ("７", None),
        ("٧", None),
        ("seven", None),
        ("7\u20e3", None),
        ("9" * 100_000, None),
    ],
)
def test_numbers(reply, action):
    assert parse_action(reply, DEMANDS) == action


# --- hostile text ---------------------------------------------------------------------------------

WORDS = (*DILEMMA, *KUHN, *DEMANDS, "10", "0", "-3", "2.5", "cooperate", "Bet", "defects", "call-fold")
GLUE = (
    "",
    " ",
    ",",
    ".",
    "-",
    "/",
    "'",
    "\n",
    "\r\n",
    "\t",
    "\x00",
    "\x1b[31m",
    "\u200b",
    "\u0301",
    "\u2028",
)
HTML = ("<b>", "</b>", "<br>", "<!-- ", " -->", "&nbsp;", "<script>", "<a href='")
hostile = st.lists(
    st.one_of(st.sampled_from(WORDS), st.sampled_from(GLUE), st.sampled_from(HTML), st.text(max_size=8)),
    max_size=14,
).map("".join)
vocabularies = st.sampled_from([(DILEMMA, DILEMMA), (KUHN[:2], KUHN), (KUHN[2:], KUHN), (DEMANDS, DEMANDS)])


def words_of(line: str) -> list[str]:
    """The runs of letters, digits and marks in ``line``, by their categories: no regular expression."""
    words, word = [], ""
    for letter in line:
        if letter == "_" or unicodedata.category(letter)[0] in "LNM":
            word += letter
        else:
            words, word = [*words, word], ""
    return [word for word in [*words, word] if word]


@settings(deadline=None)
@given(hostile, vocabularies)
@example("PASS,BET", (KUHN[:2], KUHN))
@example("10-5", (DEMANDS, DEMANDS))
def test_an_action_read_stands_alone_on_the_last_line(reply, words):
    legal, vocabulary = words
    action = parse_action(reply, legal, vocabulary)
    if action is None:
        return
    lines = [
        words_of(line.replace("<b>", " ").replace("</b>", " ").replace("<br>", " "))
        for line in reply.splitlines()
    ]
    last = [line for line in lines if line][-1]
    found = [word.upper() for word in last if word.upper() in vocabulary]
    assert action in legal
    assert set(found) == {action}


DENIALS = (
    "not ",
    "never ",
    "I won't ",
    "they ",
    "Round 2: ",
    "\u274c ",
    "~",
    "-",
    ">",
    "<think>",
    "3 x ",
    "x_",
)
DOUBTS = (
    "?",
    "...",
    ":",
    " or not",
    " if they do",
    " wins",
    " \u00bd",
    "%",
    "/10",
    ".5",
    " and 3",
    "_x",
    " \U0001f914",
)


@settings(deadline=None)
@given(hostile, vocabularies, st.data())
def test_a_line_that_says_more_than_its_action_is_not_read(reply, words, data):
    legal, vocabulary = words
    action = data.draw(st.sampled_from(legal))
    before = data.draw(st.sampled_from(["", "Action: ", "I will ", "My choice is "]))
    denied = f"{reply}\n{before}{data.draw(st.sampled_from(DENIALS))}{action}"
    doubted = f"{reply}\n{before}{action}{data.draw(st.sampled_from(DOUBTS))}"
    assert parse_action(denied, legal, vocabulary) is None
    assert parse_action(doubted, legal, vocabulary) is None


@settings(deadline=None)
@given(hostile, vocabularies, st.data())
def test_a_clean_last_line_is_read_whatever_stands_before(reply, words, data):
    legal, vocabulary = words
    action = data.draw(st.sampled_from(legal))
    ending = data.draw(st.sampled_from(["", "\n", "\n\n", " \n\t\n"]))
    assert parse_action(f"{reply}\n{action}{ending}", legal, vocabulary) == action
    assert parse_action(f"{reply}\nAction: {action.lower()}.{ending}", legal, vocabulary) == action


@settings(deadline=None)
@given(hostile, vocabularies, st.data())
def test_two_actions_on_the_last_line_are_never_read(reply, words, data):
    legal, vocabulary = words
    first, second = data.draw(st.permutations(legal))[:2]
    glue = data.draw(st.sampled_from([" ", ", ", ",", "-", "/", " or ", "\t", ";", "|", ".", "> <"]))
    assert parse_action(f"{reply}\n{first}{glue}{second}", legal, vocabulary) is None


@settings(deadline=None)
@given(st.text(), vocabularies)
def test_text_in_any_script_never_raises(reply, words):
    assert parse_action(reply, *words) in (None, *words[0])


@settings(deadline=None, max_examples=50)
@given(hostile, st.integers(1, 300))
def test_games_read_hostile_text_as_a_legal_action_or_none(reply, times):
    for game, legal in (
        ("negotiation_v2", demands_on((2, 1, 4))),
        ("kuhn", KUHN[2:]),
        ("negotiation_v1", DEMANDS),
    ):
        assert get_game(game).parse(reply * times, legal) in (None, *legal)


PIECES = (
    "COOPERATE ", "COOPERATE-", "COOPERATE, ", "7.", "7,", "7, ", "7", "-", "- ", "A", "\n", "\u0301", "<b>", "<b>\n",
    "C", "1a", "I will ", "Action: ", "so ", "[", "[ ", "{", "{}\n", '{"a":', "\U0001f642", "\U0001f642\n",
    "\U0001f642\u200d", "\\boxed{", "BOOKS=1 ", "BOOKS=1 HATS=0 BALLS=2, ", "- PASS\n", "<b> ", "'", "=", "=>", " ",
    "\u2014\n",
)  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("size", [LONGEST_LINE - 50, 100_000])
def test_100_kilobytes_are_read_at_once(piece, size):
    """The longest line that is still read, and a reply as long as none is."""
    reply = piece * (size // len(piece))
    start = time.process_time()
    for legal in (DILEMMA, DEMANDS):
        for text in (reply, reply + "x", "I" + reply, reply + "7"):
            parse_action(text, legal)
    get_game("negotiation_v2").parse(reply + "x", demands_on((2, 1, 4)))
    assert (time.process_time() - start) / 9 < 1.0
