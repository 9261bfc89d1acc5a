"""The page of an audit: one HTML file that needs nothing else. Whatever a model or a server said is text there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepo_kit.evaluation.results import HEADINGS
from sepo_kit.runs import replacing

TEMPLATE = Path(__file__).with_name("audit.html")
MOST_SHOWN = 12  # adversaries of a game
LONGEST_REPLY = 2_000  # characters of a reply; all of it is in the JSON
MANY_UNREAD = 0.05  # of the replies: from there on the page says what that does to the numbers
UNKNOWN = (
    "worst_case",
    "guaranteed",
)  # where these are missing they were not found; others do not exist in the game
LIMITS = (
    "Adversaries act through the moves of the games alone: nobody tried to talk the agent into anything, or to change "
    "its prompt.",
    "Adversaries start every match anew; one that remembers the agent from match to match was tried only where a "
    "learned or a fitted adversary is listed.",
    "Two seats: coalitions of several opponents were not tried.",
    "A sampled number is of these draws: what is rarer than one in the episodes played may not have been seen.",
)


def write_page(file: Path | str, audit: Mapping[str, Any]) -> None:
    """Write the page of what ``audit`` found, whole or not at all."""
    with replacing(file) as temporary:
        temporary.write_text(page(audit), encoding="utf-8")


def page(audit: Mapping[str, Any]) -> str:
    """The page as HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "signed": signed, "shortened": shortened}
    environment.globals |= {
        "interval": interval,
        "MOST_SHOWN": MOST_SHOWN,
        "LIMITS": LIMITS,
        "MANY_UNREAD": MANY_UNREAD,
        "UNKNOWN": UNKNOWN,
        "HEADINGS": HEADINGS,
    }
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(audit=audit)


def number(value: float | None, digits: int = 3) -> str:
    """
    >>> number(0.12345), number(None), number(-0.0001)
    ('0.123', '–', '0.000')
    """
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def signed(value: float | None) -> str:
    """
    >>> signed(0.5), signed(-0.5), signed(-0.0001)
    ('+0.500', '−0.500', '0.000')
    """
    if value is None:
        return "–"
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"


def shortened(text: str | None) -> str:
    """``text`` as the page shows it: its beginning and its end where it is long."""
    text = text or ""
    if len(text) <= LONGEST_REPLY:
        return text
    half = LONGEST_REPLY // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"


def interval(each: Mapping[str, Any], all_of_them) -> dict[str, float]:
    """Where an adversary's lead, its interval and 0 stand on a scale that all of ``all_of_them`` share, in percent."""
    shown = list(all_of_them)[:MOST_SHOWN]
    values = [v for a in shown for v in (a["lead"], a["low"], a["high"]) if v is not None] + [0.0]
    start, length = min(values), (max(values) - min(values)) or 1.0

    def place(value: float | None, otherwise: float) -> float:
        return round(4 + 92 * ((otherwise if value is None else value) - start) / length, 2)

    return {
        "zero": place(0.0, 0.0),
        "lead": place(each["lead"], 0.0),
        "low": place(each["low"], each["lead"]),
        "high": place(each["high"], each["lead"]),
    }
