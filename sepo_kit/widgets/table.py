"""The table: sit down and play any game against any strategy, the reference policy or a trained run.

A thin layer: playing is ``engine/sitting.py``; who may sit opposite and what a match came to is
``evaluation/match.py``.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import ipywidgets as widgets
import pandas as pd

from sepo_kit.engine.sitting import Sitting
from sepo_kit.evaluation.match import opponent, opponents, score, transcript
from sepo_kit.games import get_game, registered_game
from sepo_kit.games.base import GameSpec
from sepo_kit.widgets.common import busy, escaped, friendly, game_titles, message
from sepo_kit.widgets.markup import STYLE, cell, html_table, number

MOST_BUTTONS = 9  # with more actions, they are chosen from lists
SEATS = {"first seat": 0, "second seat": 1}

_STYLE = f"""<style>{STYLE}
.sepo-table .sepo-prompt {{ padding: 8px 12px; margin: 4px 0; border-left: 4px solid var(--sepo-you);
  background: var(--jp-layout-color2, #f4f4f4) }}
</style>"""


class Table(widgets.VBox):
    """A table to sit down at; shows itself in a notebook.

    Parameters
    ----------
    runs
        Folder of runs: those that are finished may sit opposite.
    game
        The game on the table at first.
    seed
        Of the first match; every new match takes the next.

    Raises
    ------
    ValueError
        Unknown game, or one that was not registered.
    """

    def __init__(self, runs: Path | str | None = None, game: str = "kuhn", seed: int = 0) -> None:
        self.runs = runs
        self.seed = seed
        self.sitting: Sitting | None = None
        self.game = _chooser("Game", "270px", options=game_titles(), value=registered_game(game).spec.id)
        self.opponent = _chooser("Against", "325px")
        self.seat = _chooser("You take the", "190px", options=SEATS)
        self.again = widgets.Button(
            description="New match", icon="refresh", tooltip="Start over with new chances"
        )
        self.reveal = widgets.Checkbox(
            description="show the opponent's probabilities and reasons",
            indent=False,
            layout={"width": "max-content"},
        )
        self.line = message()
        self.prompt = widgets.HTML()
        self.actions = Actions(self._act)
        self.told = widgets.HTML()
        self.score = widgets.HTML()
        choices = widgets.HBox([self.game, self.opponent, self.seat], layout={"flex_flow": "row wrap"})
        after = widgets.HBox([self.again, self.reveal], layout={"flex_flow": "row wrap"})
        super().__init__(
            [
                widgets.HTML(_STYLE),
                choices,
                self.line,
                self.prompt,
                self.actions,
                after,
                self.score,
                self.told,
            ]
        )
        self.add_class("sepo-page")
        self.add_class("sepo-table")
        self.again.add_class("sepo-again")
        self.game.observe(lambda _: self._offer(), "value")
        for chooser in (self.opponent, self.seat):
            chooser.observe(self._begin, "value")
        self.again.on_click(self._begin)
        self.reveal.observe(lambda _: self._show(), "value")
        self._offer()

    # --- what is chosen ---------------------------------------------------------------------------

    def _offer(self) -> None:
        """Offer who can sit opposite in the chosen game, and begin a match against the first."""
        self.line.value = ""
        chosen = get_game(self.game.value)
        found = opponents(chosen)
        with friendly(self.line):
            found = opponents(chosen, self.runs)
        self.opponent.unobserve(self._begin, "value")
        self.opponent.options = found
        self.opponent.index = 0
        self.opponent.observe(self._begin, "value")
        said = self.line.value
        self._begin()
        self.line.value = said + self.line.value

    def _begin(self, _: object = None) -> None:
        """Start a match as it is chosen; where the opponent cannot play, say why."""
        self.sitting = None
        self.line.value = ""
        self.actions.hold()
        chosen = get_game(self.game.value)
        with friendly(self.line), busy(self.line, "seating the opponent"):
            self.sitting = Sitting(chosen, opponent(chosen, self.opponent.value), self.seat.value, self.seed)
            self.seed += 1
        self._show()

    def _act(self, action: str) -> None:
        if self.sitting is None or action not in self.sitting.legal_actions:
            return  # pressed before the page had caught up
        with friendly(self.line), busy(self.line, "waiting for the opponent"):
            self.sitting.act(action)
            self.line.value = ""
        self._show()
        if self.sitting.over:
            self.again.focus()

    # --- what is shown ----------------------------------------------------------------------------

    def _show(self) -> None:
        sitting = self.sitting
        if sitting is None:
            self.prompt.value = self.told.value = self.score.value = ""
            self.actions.offer(())
            return
        spec = sitting.game.spec
        over = f"The match is over after {spec.rounds} {spec.unit}s." if sitting.over else ""
        self.prompt.value = (
            f'<div class="sepo-prompt sepo-said" role="status" data-round="{sitting.round + 1}">'
            f"{escaped(over or sitting.prompt)}</div>"
        )
        self.actions.offer(sitting.legal_actions)
        self.score.value = score_html(score(sitting), spec) if sitting.over else ""
        self.told.value = transcript_html(transcript(sitting), spec, sitting.opponent.name, self.reveal.value)


def _chooser(label: str, width: str, **options) -> widgets.Dropdown:
    style = {"description_width": "initial"}
    return widgets.Dropdown(description=label, style=style, layout={"width": width}, **options)


class Actions(widgets.HBox):
    """A button for each legal action, or where there are many, a list for each of their parts.

    Widgets are kept and renamed: the one that has the keyboard keeps it from move to move.
    """

    def __init__(self, play) -> None:
        super().__init__(layout={"flex_flow": "row wrap"})
        self._play = play
        self.buttons: list[widgets.Button] = []
        self.lists: list[widgets.Dropdown] = []
        self.submit = widgets.Button(
            description="Play", button_style="primary", tooltip="Play what is chosen"
        )
        self.submit.add_class("sepo-action")
        self.submit.on_click(lambda _: self._play(self.chosen))
        self.add_class("sepo-actions")

    @property
    def chosen(self) -> str:
        """The action that the lists spell."""
        return " ".join(part.value for part in self.lists)

    def offer(self, legal_actions: tuple[str, ...]) -> None:
        """Offer ``legal_actions``; none where the match is over."""
        if len(legal_actions) > MOST_BUTTONS:
            self._offer_lists(parts_of(legal_actions))
            return
        while len(self.buttons) < len(legal_actions):
            self.buttons.append(self._button())
        for button, action in zip(self.buttons, legal_actions, strict=False):
            button.description = action
        self._place(self.buttons[: len(legal_actions)])

    def hold(self) -> None:
        """Let nothing be played until the next offer."""
        for child in self.children:
            child.disabled = True

    def _offer_lists(self, parts: list[tuple[str, ...]]) -> None:
        while len(self.lists) < len(parts):
            self.lists.append(widgets.Dropdown(layout={"width": "max-content"}))
        for chooser, words in zip(self.lists, parts, strict=False):
            if chooser.options != words:
                chooser.options = words
                chooser.index = 0
        del self.lists[len(parts) :]
        self._place([*self.lists, self.submit])

    def _button(self) -> widgets.Button:
        button = widgets.Button(layout={"width": "auto", "min_width": "64px"})
        button.add_class("sepo-action")
        button.on_click(lambda pressed: self._play(pressed.description))
        return button

    def _place(self, wanted: list[widgets.Widget]) -> None:
        for child in wanted:
            child.disabled = False
        if list(self.children) != wanted:
            self.children = wanted


def parts_of(legal_actions: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The words at each place of the actions, if every combination of them is an action; else the actions.

    >>> parts_of(("A=0 B=0", "A=0 B=1", "A=1 B=0", "A=1 B=1"))
    [('A=0', 'A=1'), ('B=0', 'B=1')]
    >>> parts_of(("A=0 B=0", "A=1 B=1"))
    [('A=0 B=0', 'A=1 B=1')]
    """
    split = [action.split(" ") for action in legal_actions]
    if len({len(words) for words in split}) == 1:
        parts = [tuple(dict.fromkeys(words)) for words in zip(*split, strict=True)]
        if {" ".join(words) for words in product(*parts)} == set(legal_actions):
            return parts
    return [legal_actions]


# --- HTML -----------------------------------------------------------------------------------------


def transcript_html(told: pd.DataFrame, spec: GameSpec, opponent: str, reasons: bool) -> str:
    """``match.transcript`` as a table, the newest round first; with probabilities and ``reasons`` or without."""
    told = told[(told["you"] != "") | (told["opponent"] != "")]
    if told.empty:
        return ""
    unit = spec.payoff_unit
    heads = [(spec.unit, "number"), ("you", "text"), (opponent, "text")]
    heads += [(f"you earn ({unit})", "number"), (f"it earns ({unit})", "number")]
    heads += [("its probabilities", "text"), ("its reason", "said")] if reasons else []
    rows = []
    for row in told.iloc[::-1].itertuples():
        cells = [cell(row.round, "number"), cell(row.you, "you"), cell(row.opponent, "other")]
        cells += [cell(number(row.own), "number"), cell(number(row.their), "number")]
        cells += [cell(row.probabilities), cell(row.reason, "said")] if reasons else []
        rows.append(f'<tr data-round="{row.round}">{"".join(cells)}</tr>')
    return html_table("sepo-log", "What happened, newest first", heads, rows)


def score_html(found: pd.DataFrame, spec: GameSpec) -> str:
    """``match.score`` as a table."""
    unit = f"{spec.payoff_unit} per {spec.unit}"
    terms = {"payoff": unit, "exploit": unit, "collusion": "0 to 1", "externality": "0 to 1"}
    heads = [("", "text"), *((f"{term} ({of})", "number") for term, of in terms.items())]
    rows = [
        f'<tr data-who="{escaped(row.who)}">{cell(row.who, "other" if row.Index else "you")}'
        + "".join(cell(number(getattr(row, term), ".3f"), "number", term=term) for term in terms)
        + "</tr>"
        for row in found.itertuples()
    ]
    note = "Exploit is how much more the other one earned, never below 0; all numbers are those of this match alone."
    return html_table("sepo-score", "What the match came to", heads, rows) + f"<small>{note}</small>"
