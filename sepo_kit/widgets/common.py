"""What all widgets share: text that stays text, friendly lines, a sign of work. No widget lives here."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import ipywidgets as widgets

from sepo_kit.games import GAMES

EXPECTED = (ValueError, OSError, FloatingPointError)  # bad input and bad files, not bugs

# The wheel is there at once but invisible for half a second: quick work shows nothing, and no thread is needed.
_WHEEL = """<style>
@keyframes sepo-turn { to { transform: rotate(1turn) } }
@keyframes sepo-appear { to { opacity: 1 } }
.sepo-busy { opacity: 0; animation: sepo-appear 0s 0.5s forwards }
.sepo-busy i { display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.5em; border-radius: 50%;
  border: 2px solid currentColor; border-right-color: transparent; animation: sepo-turn 1s linear infinite }
</style>"""


def escaped(text: object) -> str:
    """``text`` so that HTML shows it as it is written, in an element or in a quoted attribute.

    >>> escaped("<b>bold</b>")
    '&lt;b&gt;bold&lt;/b&gt;'
    """
    return html.escape(str(text))


def sentence(text: object) -> str:
    """``text`` as the HTML of a friendly line; screen readers say it when it changes."""
    return f'<div class="sepo-message" role="status">{escaped(text)}</div>' if str(text) else ""


def message(text: object = "") -> widgets.HTML:
    """A friendly line of plain text, to be shown or filled later."""
    return widgets.HTML(sentence(text))


def game_titles() -> list[tuple[str, str]]:
    """Title and id of every game that is known, to choose from; where titles are the same, the id is in them."""
    titles = [(known.spec.title, name) for name, known in GAMES.items()]
    count = Counter(title for title, _ in titles)
    return [(f"{title} [{name}]" if count[title] > 1 else title, name) for title, name in titles]


@contextmanager
def busy(line: widgets.HTML, text: str = "working") -> Iterator[None]:
    """Let ``line`` show a turning wheel while the block runs, from half a second on.

    Afterwards it says again what it said before, unless the block gave it something else to say.
    """
    before = line.value
    wheel = f'{_WHEEL}<div class="sepo-busy" role="status"><i></i>{escaped(text)} ...</div>'
    line.value = wheel
    try:
        yield
    finally:
        if line.value == wheel:
            line.value = before


@contextmanager
def friendly(line: widgets.HTML) -> Iterator[None]:
    """Show bad input and bad files, which the library names in one sentence, in ``line`` instead of a stack trace."""
    try:
        yield
    except EXPECTED as error:
        line.value = sentence(error)
