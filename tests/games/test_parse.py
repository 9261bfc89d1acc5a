"""Replies: an action is read only where exactly one legal action stands on the last non-empty line."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sepo_kit.games.base import parse_action

DILEMMA = ("COOPERATE", "DEFECT")
KUHN = ("PASS", "BET", "FOLD", "CALL")
DEMANDS = tuple(str(number) for number in range(1, 10))

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
    ("Defection is bad, so COOPERATE", "COOPERATE"),
    ("DEFECT\n" * 20_000 + "COOPERATE", "COOPERATE"),
]

NOT_READ = [
    "",
    " \n\t\n",
    "I do not know.",
    "COOPERATE\nI am sure.",
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
    "_COOPERATE_",
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
    lines = [line for line in reply.splitlines() if line.strip()]
    found = [word.upper() for word in words_of(lines[-1]) if word.upper() in vocabulary]
    assert action in legal
    assert set(found) == {action}


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


@pytest.mark.parametrize(
    "piece", ["COOPERATE ", "COOPERATE-", "7.", "7,", "7", "-", "A", "\n", "\u0301", "<b>", "C", "1a"]
)
def test_100_kilobytes_are_read_at_once(piece):
    start = time.perf_counter()
    for legal in (DILEMMA, DEMANDS):
        parse_action(piece * (100_000 // len(piece)) + "x", legal)
    assert time.perf_counter() - start < 5.0
