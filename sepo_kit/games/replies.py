"""How an action is read off a reply in free text.

The last line that holds more than markup must *be* the action. Around it may stand markup (emphasis, quotes,
brackets, code fences, LaTeX boxes, tags, emoji) and a short lead-in ("Action:", "My choice is", "I will"). Any other
word, number or sign on the line makes it None, so a line that denies an action, gives it to somebody else, counts
something or only mentions it is not read. Refusing costs a fallback, guessing costs the truth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache

LONGEST_LINE = 1000  # characters: longer lines are not read, so none takes long to refuse

# --- markup ---------------------------------------------------------------------------------------

# Tags that say no more than "this is the answer". Others, as <think> or <del>, say that it is not.
TAGS = (
    "answer|final|final[_-]answer|action|choice|decision|move|bid|demand|response|reply|"
    "b|i|u|em|strong|code|pre|p|br|div|span|mark|center"
)
COMMANDS = "boxed|fbox|text|textbf|textit|texttt|textrm|emph|mathbf|mathrm|mathit|mathtt|displaystyle"
TYPESETTING = re.compile(rf"</?(?:{TAGS}) ?/?>|\\(?:{COMMANDS})(?![A-Za-z])|\\[\[\]()]", re.IGNORECASE)
# Among the symbols: those that deny or doubt, boxes to tick, letters and numbers in circles, flags.
NO_EMOJI = (
    "\u2573\u2610\u2612\u2715-\u2718\u274c\u274e\u2753\u2754\u26d4\u2460-\u24ff\u2776-\u2793"
    "\U0001f100-\U0001f1ff\U0001f44e\U0001f645\U0001f6ab\U0001f6d1\U0001f914\U0001f937"
)
EMOJI = re.compile(
    rf"(?:(?![{NO_EMOJI}])[\u2300-\u2bff\U0001f000-\U0001faff][\u200d\ufe0f\U0001f3fb-\U0001f3ff]*)+"
)
UNTICKED = re.compile(r"\[\s*\]")
ARROW = re.compile(r"[-=]+>|[\u2192\u21d2]")
MARKS = re.compile(r"[*_`#$\"'\u201c\u201d\u2018\u00ab\u00bb\u300c\u300d()\[\]{}]+")
RULE = re.compile(r"-+|={3,}|[\u2014\u2500]+")
BULLET = re.compile(r"\s*[-*+\u2022]\s")
ALIKE = str.maketrans("\u2019\uff1a\uff0c\uff1b\u3002\uff01", "':,;.!")


def plain(line: str) -> str:
    """``line`` without its markup, one space between words. What markup would glue or cut within a word stays."""
    line = line.translate(ALIKE)
    line = UNTICKED.sub("\u2610", TYPESETTING.sub(" ", line))
    line = ARROW.sub(":", EMOJI.sub(" ", line))
    return " ".join(MARKS.sub(_outside_words, line).split())


def _outside_words(marks: re.Match[str]) -> str:
    line, start, end = marks.string, marks.start(), marks.end()
    within = line[start - 1 : start].isalnum() and line[end : end + 1].isalnum()
    return marks.group() if within else " "


def last_line(reply: str) -> str | None:
    """The last line of ``reply`` that holds more than markup, as it stands; None where there is none, where it is too
    long, or where it is one of several items of a list."""
    lines = [line for line in reply.splitlines() if line.strip(" \t*_`$")]
    while lines:
        line = lines.pop().strip()
        if len(line) > LONGEST_LINE:
            return None
        words = plain(line)
        if words and not RULE.fullmatch(words):
            listed = BULLET.match(line) and lines and BULLET.match(lines[-1])
            return None if listed else line
    return None


# --- what may stand before an action, and after it ------------------------------------------------

NOUN = "(?:action|answer|bid|choice|decision|demand|move|pick|play|reply|response)"
IS = "(?:(?: is| will be)? ?[:=] ?|(?: is| will be)(?: to)? | [-\u2013\u2014] )"
# "The bid is LOW" may be anybody's; "the final bid" and "my bid" are not.
LABEL = (
    f"(?:I think |I believe )?(?:the answer|(?:the |my )?(?:final|chosen) {NOUN}|my (?:next )?{NOUN}|{NOUN}){IS}"
    f"|(?:final |chosen )?{NOUN} "
)
CLAUSE = (
    "I(?:'ll| will| shall|'m going to| am going to|'ve decided to| have decided to| decide to)?"
    "(?: now| again| also| just| simply| still| therefore| thus)?"
    "(?: (?:bid|choose|demand|go for|go with|opt for|pick|play|select|take)(?: to)?)? "
)
ELSEWHERE = (  # the same in the languages that models fall into
    "(?:我选择|我的选择是|选择|行动|答案|最终答案) ?:? ?|(?:мой ход|мой выбор|я выбираю|ответ|mi acción|mi elección"
    "|elijo|respuesta|mon choix|je choisis|réponse|meine Wahl|ich wähle|Antwort)(?: ?: ?| )"
)
OPENING = "(?:[-+>:\u2022\u2013\u2014]+ (?![0-9]))?(?:(?:finally|hence|in conclusion|ok|okay|so|therefore|thus)[,:]? )?"
LEAD_IN = f"{OPENING}(?:{LABEL}|{ELSEWHERE})?(?:{CLAUSE})?"
# "7 points"; "now"; the action said again; a full stop.
TAIL = (
    "(?:(?<=[0-9]) points?)?(?: now| again| this (?:hand|round|time))?"
    r"(?: ?[,;.!] (?:so )?(?P=action)){0,3} ?(?:\.|!{1,3})?"
)
ANSWERS = ("action", "answer", "bid", "choice", "decision", "demand", "final_answer", "move")
REASONS = ("analysis", "explanation", "rationale", "reason", "reasoning", "thinking", "thought", "thoughts")


def parse_action(reply: str, legal_actions: Sequence[str], vocabulary: Sequence[str] = ()) -> str | None:
    """Read the action that the last line of ``reply`` is, in any case.

    Parameters
    ----------
    vocabulary
        Words that are actions elsewhere in the game: like the legal ones, they are no part of a lead-in.

    Returns
    -------
    str | None
        One of ``legal_actions``; None where the line is anything else: never a guess.

    >>> parse_action("They defected.\\nAction: COOPERATE", ("COOPERATE", "DEFECT"))
    'COOPERATE'
    >>> parse_action("They will COOPERATE.", ("COOPERATE", "DEFECT")) is None
    True
    >>> parse_action("I take 7 of 10", ("6", "7")) is None
    True
    """
    stripped = reply.strip()
    literal = stripped[max(stripped.rfind("\n"), stripped.rfind("\r")) + 1 :].strip()
    if literal in legal_actions:  # whatever signs a game has in its actions
        return literal
    spelled = _spelled(tuple(legal_actions))
    pattern = "|".join(map(re.escape, sorted(spelled, key=len, reverse=True)))
    word = said(reply, pattern, (*vocabulary, *legal_actions)) if spelled else None
    return None if word is None else spelled.get(word.lower())


def said(reply: str, action: str, vocabulary: Sequence[str] = ()) -> str | None:
    """What stands in the place of the action on the last line of ``reply``, as written there; None where nothing does.

    ``action``: a regular expression of actions, as ``plain`` writes them; it must not begin in the middle of a word.
    """
    line = last_line(reply)
    if line is None:
        return None
    match = _sentence(action).fullmatch(plain(_answer_in_json(line) or line))
    if match is None:
        return None
    word = match["action"]
    if action.isascii() and not word.isascii():  # where case is ignored, "\u017f" passes for "s"
        return None
    around = f"{match.string[: match.start('action')]} {match.string[match.end('action') :]}".lower()
    others = {other.lower() for other in vocabulary} - {word.lower()}
    return None if others & set(re.findall(r"\w+", around)) else word


@lru_cache(maxsize=1024)
def _sentence(action: str) -> re.Pattern[str]:
    return re.compile(f"{LEAD_IN}(?P<action>{action}){TAIL}", re.IGNORECASE)


@lru_cache(maxsize=1024)
def _spelled(actions: tuple[str, ...]) -> dict[str, str]:
    """The actions by what is left of them in a plain line, where that names one."""
    found: dict[str, list[str]] = {}
    for action in actions:
        found.setdefault(plain(action).lower(), []).append(action)
    return {word: one[0] for word, one in found.items() if word and len(one) == 1}


def _answer_in_json(line: str) -> str | None:
    """The one answer of a JSON object on one line that holds reasons besides, else None."""
    if not (line.startswith("{") and line.endswith("}")):
        return None
    try:
        pairs = json.loads(line, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    answers = [value for key, value in pairs if key.lower() in ANSWERS]
    others = [key for key, _ in pairs if key.lower() not in (*ANSWERS, *REASONS)]
    if len(answers) != 1 or others or isinstance(answers[0], bool) or not isinstance(answers[0], str | int):
        return None
    return str(answers[0])
