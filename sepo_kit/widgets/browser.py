"""The run browser: curves of all runs side by side, and every recorded match move by move.

A thin layer: ``evaluation/archive.py`` reads, ``figures/`` draws.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
import pandas as pd

from sepo_kit import figures
from sepo_kit.evaluation import archive
from sepo_kit.evaluation.archive import AGENT
from sepo_kit.games import get_game
from sepo_kit.games.base import Game
from sepo_kit.widgets.common import busy, escaped, friendly, message, sentence
from sepo_kit.widgets.markup import STYLE, cell, html_table, number

ALL = "all"
FILTERS = ("profile", "model", "game", "stage")
AT_FIRST = 6  # runs whose curves are drawn before any are chosen
WIDE = {"description_width": "initial"}

_STYLE = f"""<style>{STYLE}
.sepo-browser details {{ margin: 2px 0 }} .sepo-browser summary {{ cursor: pointer }}
.sepo-browser details .sepo-said {{ margin: 2px 0 6px 14px; opacity: 0.8 }}
.sepo-browser img {{ max-width: 100% }}
</style>"""
NOT_RECORDED = (
    "This run has no recorded episodes: it was made before they were kept, or has not saved a step yet."
)


class Browser(widgets.VBox):
    """All runs under a folder: filter and compare them, open a match and read it; shows itself in a notebook.

    Parameters
    ----------
    root
        Folder of runs; it may be empty or not exist yet.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.filters = {name: _chooser(name.capitalize(), "172px") for name in FILTERS}
        self.again = widgets.Button(
            description="Look again",
            icon="refresh",
            tooltip="Read the folder once more",
            layout={"width": "110px"},
        )
        self.runs = widgets.SelectMultiple(rows=7, layout={"width": "auto"})
        self.line = message()
        self.curves = widgets.HTML()
        self.run = _chooser("Run", "440px")
        self.recording = _chooser("Episodes of", "330px")
        self.match = _chooser("Match", "560px")
        self.before = widgets.Button(
            icon="chevron-left", tooltip="The match before", layout={"width": "40px"}
        )
        self.after = widgets.Button(icon="chevron-right", tooltip="The match after", layout={"width": "40px"})
        self.prompts = widgets.Checkbox(
            description="open prompts", indent=False, layout={"width": "max-content"}
        )
        self.note = message()
        self.moves = widgets.HTML()
        super().__init__(
            [
                widgets.HTML(_STYLE),
                _row(*self.filters.values(), self.again),
                self.runs,
                self.line,
                self.curves,
                _row(self.run, self.recording),
                _row(self.match, self.before, self.after, self.prompts),
                self.note,
                self.moves,
            ]
        )
        for name in ("sepo-page", "sepo-browser"):
            self.add_class(name)
        self._watched = [
            (self.runs, self._draw),
            (self.run, self._list_recordings),
            (self.recording, self._list_matches),
            (self.match, self._read),
            (self.prompts, self._read),
            *((chooser, self._filter) for chooser in self.filters.values()),
        ]
        for widget, handler in self._watched:
            widget.observe(handler, "value")
        self.again.on_click(self._look)
        self.before.on_click(lambda _: self._step(-1))
        self.after.on_click(lambda _: self._step(+1))
        self._look()

    # --- which runs -------------------------------------------------------------------------------

    def _look(self, _: object = None) -> None:
        """Read the folder, and offer what is in it."""
        with busy(self.line, "reading the runs"):
            self.found = archive.find_runs(self.root)
        for name, chooser in self.filters.items():
            values = sorted({value for value in self._whole[name] if value})
            self._offer(chooser, {value: value for value in (ALL, *values)})
        self._filter()

    @property
    def _whole(self) -> pd.DataFrame:
        """The rows of the runs that can be read."""
        return self.found[self.found["status"] != archive.BROKEN]

    def _filter(self, _: object = None) -> None:
        """List the runs that pass the filters; keep those that were chosen, else choose the first few."""
        listed = self._whole
        for name, chooser in self.filters.items():
            listed = listed if chooser.value == ALL else listed[listed[name] == chooser.value]
        options = {
            f"{row.run}: {row.status}, step {row.step} of {row.steps}": str(row.path)
            for row in listed.itertuples()
        }
        kept = [path for path in options.values() if path in self.runs.value]
        trained = [str(path) for path in listed.loc[listed["stage"].isin(["sepo", "worst-case"]), "path"]]
        with self._quietly(self.runs):
            self.runs.options = options
            self.runs.value = kept or (trained or list(options.values()))[:AT_FIRST]
        self._draw()

    def _chosen(self) -> pd.DataFrame:
        """The rows of the chosen runs."""
        return self.found[[str(path) in self.runs.value for path in self.found["path"]]]

    def _draw(self, _: object = None) -> None:
        """Draw the curves of the chosen runs, and offer their matches."""
        chosen = self._chosen()
        self.line.value = sentence(self._state())
        drawn = ""
        with friendly(self.line), busy(self.line, "drawing"):
            metrics = archive.compare(chosen)
            drawn = picture(metrics) if len(metrics) else ""
        self.curves.value = drawn
        self._offer(self.run, {row.run: str(row.path) for row in chosen.itertuples()})
        self._list_recordings()

    def _state(self) -> str:
        """What there is to say of the folder."""
        broken = self.found[self.found["status"] == archive.BROKEN]
        if self.found.empty:
            return (
                f"No runs in {self.root} yet. Train one (this notebook, or: make reproduce) and look again."
            )
        if len(broken):
            return f"{len(broken)} of {len(self.found)} run folders cannot be read: {'; '.join(broken['problem'])}"
        return "" if self.runs.options else "No run passes the filters; set one of them to 'all'."

    # --- which match ------------------------------------------------------------------------------

    def _list_recordings(self, _: object = None) -> None:
        found = archive.recordings(self.run.value) if self.run.value else {}
        last = [label for label in found if label.startswith("training")][-1:]
        self._offer(self.recording, {label: str(file) for label, file in found.items()}, *last)
        self._list_matches()

    def _list_matches(self, _: object = None) -> None:
        self.episodes, options = None, {}
        self.note.value = ""
        if self.recording.value:
            with friendly(self.note):
                self.episodes = archive.read_episodes(self.recording.value)
                listed = archive.matches_of(self.episodes).itertuples()
                options = {match_label(row): index for index, row in enumerate(listed)}
        elif self.run.value:
            self.note.value = sentence(NOT_RECORDED)
        self._offer(self.match, options)
        self._read()

    def _step(self, by: int) -> None:
        """Go ``by`` matches on, if there is one."""
        if self.match.index is not None and 0 <= self.match.index + by < len(self.match.options):
            self.match.index += by

    def _read(self, _: object = None) -> None:
        """Show the chosen match."""
        place, count = self.match.index, len(self.match.options)
        self.before.disabled = place in (None, 0)
        self.after.disabled = place in (None, count - 1)
        shown = ""
        if place is not None:
            wanted = archive.matches_of(self.episodes).iloc[place][archive.MATCH]
            with friendly(self.note):
                self.note.value = ""
                game = get_game(self.episodes.game)
                shown = moves_html(archive.read_match(self.episodes, **wanted), game, self.prompts.value)
        self.moves.value = shown

    # --- choosers ---------------------------------------------------------------------------------

    def _offer(self, chooser: widgets.Dropdown, options: dict, preferred: str | None = None) -> None:
        """Give ``chooser`` new options; keep the choice where it is still there, else take ``preferred``."""
        values = list(options.values())
        wanted = chooser.value if chooser.value in values else options.get(preferred)
        with self._quietly(chooser):
            chooser.options = options
            chooser.index = values.index(wanted) if wanted in values else (0 if values else None)

    @contextmanager
    def _quietly(self, chooser: widgets.Widget) -> Iterator[None]:
        """Change ``chooser`` inside the block without its handler running."""
        handlers = [handler for widget, handler in self._watched if widget is chooser]
        for handler in handlers:
            chooser.unobserve(handler, "value")
        yield
        for handler in handlers:
            chooser.observe(handler, "value")


def _chooser(label: str, width: str) -> widgets.Dropdown:
    return widgets.Dropdown(description=label, style=WIDE, layout={"width": width})


def _row(*children: widgets.Widget) -> widgets.HBox:
    return widgets.HBox(children, layout={"flex_flow": "row wrap"})


# --- HTML -----------------------------------------------------------------------------------------


def picture(metrics: pd.DataFrame) -> str:
    """``figures.run_curves`` as an image in HTML."""
    figure = figures.run_curves(metrics)
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=90)
        data = base64.b64encode(file.getvalue()).decode()
    plt.close(figure)
    names = ", ".join(metrics["run"].unique())
    return f'<img class="sepo-curves" alt="Training curves of {escaped(names)}" src="data:image/png;base64,{data}">'


def match_label(row) -> str:
    """One line that tells a match from the others; ``row`` of ``archive.matches_of``."""
    who = f"{row.pool}: {row.opponent}, group {row.group}, rollout {row.index}"
    return f"{who}: earned {row.own:.2f} against {row.their:.2f}"


def moves_html(moves: pd.DataFrame, game: Game, prompts: bool) -> str:
    """``archive.read_match`` as a table below the rules that every prompt begins with; prompts folded, or all open.

    A model opposite has its own prompts and replies, and where it answers in the other style, its own rules.
    """
    credited = [name for name in ("reward", "advantage") if name in moves]
    heads = [(game.spec.unit, "number"), ("who", "text"), ("told and said", "said"), ("plays", "text")]
    heads += [(f"earns ({game.spec.payoff_unit})", "number"), *((name, "number") for name in credited)]
    rows = []
    for move in moves.itertuples():
        agent = move.who == AGENT
        cells = [cell(move.round, "number"), cell(move.who, "you" if agent else "other")]
        cells += [f"<td>{_folded(move.prompt, prompts)}{_said(_words(move))}</td>", cell(move.action)]
        cells += [cell(number(move.own) if agent else "", "number")]
        cells += [cell(number(getattr(move, name), "+.3f"), "number", term=name) for name in credited]
        rows.append(f'<tr data-round="{move.round}">{"".join(cells)}</tr>')
    mine = moves[moves["who"] == AGENT]
    rules = {_style_of(mine): "the rules, as the model is told them"}
    other = moves[(moves["who"] != AGENT) & (moves["reply"] != "")]
    if len(other):
        rules.setdefault(_style_of(other), "the rules, as the other model is told them")
    note = "Reward: the decision's share of the objective (scaled payoff). Advantage: what trains it."
    return (
        "".join(
            f'<details class="sepo-rules"><summary>{head}</summary>{_said(game.system_prompt(style))}</details>'
            for style, head in rules.items()
        )
        + html_table("sepo-moves", "Move by move", heads, rows)
        + (f"<small>{note}</small>" if credited else "")
    )


def _style_of(moves: pd.DataFrame) -> str:
    """The reply style of a model's moves."""
    return "direct" if (moves["reply"] == moves["action"]).all() else "reasoned"


def _folded(prompt: str, opened: bool) -> str:
    """A prompt under its last line, which asks; a prompt of one line as it is."""
    *before, last = prompt.splitlines()
    if not before:
        return _said(last)
    return f"<details{' open' if opened else ''}><summary>{escaped(last)}</summary>{_said(prompt)}</details>"


def _words(move) -> str:
    """What was said beside the action: a model's reply, a strategy's reason."""
    reply = "" if move.reply == move.action else move.reply
    note = (
        " (not readable: the action is a constrained decode)"
        if getattr(move, "fallback", False) is True
        else ""
    )
    reading = getattr(move, "reading", None)
    note += f" [its reason: {reading}]" if isinstance(reading, str) else ""
    return (reply or move.reason) + note


def _said(text: str) -> str:
    return f'<div class="sepo-said">{escaped(text)}</div>' if text else ""
