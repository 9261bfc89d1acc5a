"""The run browser: curves of all runs side by side, and every recorded match move by move.

A thin layer: ``evaluation/archive.py`` reads, ``figures.py`` draws.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
import pandas as pd

from sepo_kit import figures
from sepo_kit.evaluation import archive
from sepo_kit.games import get_game
from sepo_kit.games.base import GameSpec
from sepo_kit.widgets.common import busy, escaped, friendly, message, sentence
from sepo_kit.widgets.markup import STYLE, cell, html_table, number

ALL = "all"
FILTERS = ("profile", "model", "game", "stage")
AT_FIRST = 6  # runs whose curves are drawn before any are chosen
WIDE = {"description_width": "initial"}

_STYLE = f"""<style>{STYLE}
.sepo-browser details {{ margin: 2px 0 }} .sepo-browser summary {{ cursor: pointer }}
.sepo-browser img {{ max-width: 100% }}
</style>"""


class Browser(widgets.VBox):
    """All runs under a folder: filter and compare them, open a match and read it; shows itself in a notebook.

    Parameters
    ----------
    root
        Folder of runs; it may be empty or not exist yet.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.found = archive.find_runs(self.root)
        self.filters = {name: _chooser(name.capitalize(), "215px") for name in FILTERS}
        self.again = widgets.Button(
            description="Look again", icon="refresh", tooltip="Read the folder once more"
        )
        self.runs = widgets.SelectMultiple(rows=7, layout={"width": "98%"})
        self.line = message()
        self.curves = widgets.HTML()
        self.run = _chooser("Run", "440px")
        self.recording = _chooser("Episodes of", "330px")
        self.match = _chooser("Match", "620px")
        self.before = widgets.Button(
            icon="chevron-left", tooltip="The match before", layout={"width": "40px"}
        )
        self.after = widgets.Button(icon="chevron-right", tooltip="The match after", layout={"width": "40px"})
        self.prompts = widgets.Checkbox(
            description="open all prompts", indent=False, layout={"width": "max-content"}
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
        whole = self.found[self.found["status"] != archive.BROKEN]
        for name, chooser in self.filters.items():
            self._offer(chooser, [ALL, *sorted({value for value in whole[name] if value})])
        self._filter()

    def _filter(self, _: object = None) -> None:
        """List the runs that pass the filters; keep those that were chosen."""
        listed = self.found[self.found["status"] != archive.BROKEN]
        for name, chooser in self.filters.items():
            if chooser.value != ALL:
                listed = listed[listed[name] == chooser.value]
        kept = set(self.runs.value)
        options = {
            f"{row.run}: {row.status}, step {row.step} of {row.steps}": str(row.path)
            for row in listed.itertuples()
        }
        self.runs.unobserve(self._draw, "value")
        self.runs.options = options
        trained = [str(path) for path in listed.loc[listed["stage"] == "sepo", "path"]]
        self.runs.value = [path for path in options.values() if path in kept] or (
            trained or list(options.values())
        )[:AT_FIRST]
        self.runs.observe(self._draw, "value")
        self._draw()

    def _chosen(self) -> pd.DataFrame:
        """The rows of the chosen runs."""
        return self.found[[str(path) in self.runs.value for path in self.found["path"]]]

    def _draw(self, _: object = None) -> None:
        """Draw the curves of the chosen runs, and offer their matches."""
        chosen = self._chosen()
        self.line.value = sentence(self._state())
        self.curves.value = ""
        with friendly(self.line), busy(self.line, "drawing"):
            metrics = archive.compare(chosen)
            if len(metrics):
                self.curves.value = picture(metrics)
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
        self.note.value = (
            ""
            if self.recording.value or not self.run.value
            else sentence(
                "This run has no recorded episodes: it was made before they were kept, or has not saved a step yet."
            )
        )
        if self.recording.value:
            with friendly(self.note):
                self.episodes = archive.read_episodes(self.recording.value)
                options = {
                    match_label(row): index
                    for index, row in enumerate(archive.matches_of(self.episodes).itertuples())
                }
        self._offer(self.match, options)
        self._read()

    def _step(self, by: int) -> None:
        """Go ``by`` matches on, if there is one."""
        if self.match.index is not None and 0 <= self.match.index + by < len(self.match.options):
            self.match.index += by

    def _read(self, _: object = None) -> None:
        """Show the chosen match."""
        place, count = self.match.index, len(self.match.options)
        self.before.disabled = place is None or place == 0
        self.after.disabled = place is None or place == count - 1
        self.moves.value = ""
        if self.episodes is None or place is None:
            return
        wanted = archive.matches_of(self.episodes).iloc[place][archive.MATCH]
        game = get_game(self.episodes["game"].iloc[0])
        with friendly(self.note):
            self.note.value = ""
            self.moves.value = moves_html(
                archive.read_match(self.episodes, **wanted), game.spec, self.prompts.value
            )

    def _offer(self, chooser: widgets.Dropdown, options, preferred: str | None = None) -> None:
        """Give ``chooser`` new options without its handler running; keep the choice where it is still there."""
        handlers = [handler for widget, handler in self._watched if widget is chooser]
        kept = chooser.value
        for handler in handlers:
            chooser.unobserve(handler, "value")
        chooser.options = options
        values = list(options.values()) if isinstance(options, dict) else options
        if preferred is not None:
            kept = options[preferred] if kept not in values else kept
        chooser.index = values.index(kept) if kept in values else (0 if values else None)
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


def moves_html(moves: pd.DataFrame, spec: GameSpec, prompts: bool) -> str:
    """``archive.read_match`` as a table; prompts folded away, or all open."""
    credited = [name for name in ("reward", "advantage") if name in moves]
    unit = spec.payoff_unit
    heads = [(spec.unit, "number"), ("who", "text"), ("told and said", "said"), ("plays", "text")]
    heads += [(f"earns ({unit})", "number"), *((name, "number") for name in credited)]
    rows = []
    for move in moves.itertuples():
        agent = move.who == "agent"
        told = f"<details{' open' if prompts else ''}><summary>prompt</summary>{_said(move.prompt)}</details>"
        cells = [cell(move.round, "number"), cell(move.who, "you" if agent else "other")]
        cells += [f"<td>{told}{_said(_words(move))}</td>", cell(move.action)]
        cells += [cell(number(move.own) if agent else "", "number")]
        cells += [cell(number(getattr(move, name), "+.3f"), "number", term=name) for name in credited]
        rows.append(f'<tr data-round="{move.round}">{"".join(cells)}</tr>')
    note = "Reward: the decision's share of the objective (scaled payoff). Advantage: what trains it."
    return html_table("sepo-moves", "Move by move", heads, rows) + (
        f"<small>{note}</small>" if credited else ""
    )


def _words(move) -> str:
    """What was said beside the action: a model's reply, a strategy's reason."""
    reply = "" if move.reply == move.action else move.reply
    note = (
        " (not readable: the action is a constrained decode)"
        if getattr(move, "fallback", False) is True
        else ""
    )
    return (reply or move.reason) + note


def _said(text: str) -> str:
    return f'<div class="sepo-said">{escaped(text)}</div>' if text else ""
