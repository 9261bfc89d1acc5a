"""The penalty lab: move the weights and see who is safest, at which weights that changes, and what they buy.

A layer over ``evaluation.contenders``, ``evaluation.reweigh``, ``evaluation.reference`` and ``figures.lab``, which give
the same numbers and pictures without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ipywidgets as widgets
import pandas as pd

from sepo_kit.evaluation.contenders import Stored, run_folders, scripted, stored
from sepo_kit.evaluation.reference import Reference, reference
from sepo_kit.evaluation.reweigh import WEIGHTS, Contender, leaders, passes, ranking, steady
from sepo_kit.evaluation.statistics import between
from sepo_kit.figures.lab import SYMBOLS, FrontPicture, LinesPicture, RankingPicture
from sepo_kit.games import get_game, registered_game
from sepo_kit.games.base import GameSpec, Weights
from sepo_kit.pipeline.notebooks import training_lines
from sepo_kit.pipeline.profiles import PROFILES
from sepo_kit.runs.project import PROJECT, profile_of
from sepo_kit.widgets.common import busy, escaped, friendly, game_titles, message, sentence
from sepo_kit.widgets.markup import STYLE, cell, html_table, number
from sepo_kit.widgets.weight_slider import WeightSlider

ALL, NONE = "all runs", "none: scripted strategies only"
SHOWN_PROBLEMS = 4
_STYLE = f"""<style>{STYLE}
.sepo-lab th, .sepo-lab th.sepo-number {{ vertical-align: bottom; max-width: 7em; white-space: normal }}
.sepo-lab th, .sepo-lab td {{ padding: 1px 8px }}
.sepo-lab td.sepo-text {{ overflow-wrap: anywhere; min-width: 5em }}
.sepo-lab .sepo-ranking td.sepo-text {{ min-width: 7.5em }}
.sepo-lab img {{ height: auto; object-fit: contain }}
.sepo-lab .sepo-command {{ user-select: all; white-space: pre-wrap; overflow-wrap: anywhere; padding: 8px;
  border: 1px solid var(--jp-border-color2, #ddd) }}
</style>"""
ROW = widgets.Layout(flex_flow="row wrap", align_items="center")


class PenaltyLab(widgets.VBox):
    """The penalty lab as one widget.

    Parameters
    ----------
    runs
        The folder that holds run folders (default: the project's ``runs``); it need not exist.
    game
        The game to begin with.
    run
        The run folder to begin with, by name (default: all there are).
    weights
        The weights to begin with (default: the game's evaluation weights).

    Raises
    ------
    ValueError
        Unknown game, or one that was not registered.
    """

    def __init__(
        self,
        runs: Path | str | None = None,
        game: str = "ipd",
        run: str | None = None,
        weights: Weights | None = None,
    ) -> None:
        spec = registered_game(game).spec
        self.runs = Path(runs) if runs else PROJECT / "runs"
        self.trained: Reference | None = None
        self._held = False
        chosen = weights or spec.eval_weights
        self.sliders = {name: WeightSlider(name, getattr(chosen, name)) for name in WEIGHTS}
        self._make_controls(spec.id, run)
        self._make_views()
        super().__init__(
            [
                widgets.HTML(_STYLE),
                widgets.HBox([self.game, self.run, self.log_scale, self.reset], layout=ROW),
                widgets.HBox(list(self.sliders.values()), layout=ROW),
                self.says,
                widgets.HBox([self.pictures["ranking"], self.pictures["front"]], layout=ROW),
                self.pictures["lines"],
                self.flips,
                self.table,
                widgets.HBox([self.train, self.plan, self.write], layout=ROW),
                self.trained_view,
                self.commands,
            ]
        )
        self.add_class("sepo-page")
        self.add_class("sepo-lab")
        self._load()

    # --- parts ------------------------------------------------------------------------------------

    def _make_controls(self, game: str, run: str | None) -> None:
        wide, narrow = widgets.Layout(width="21em"), {"description_width": "initial"}
        self.game = widgets.Dropdown(
            options=game_titles(), value=game, description="game", layout=wide, style=narrow
        )
        names = [profile_of(folder) for folder in run_folders(self.runs)]
        self.run = widgets.Dropdown(
            options=[ALL, *names, NONE] if names else [NONE], description="runs", layout=wide, style=narrow
        )
        if run is not None:
            self.run.value = run if run in names else NONE
        self.log_scale = widgets.Checkbox(
            description="log scale", indent=False, layout=widgets.Layout(width="7em")
        )
        self.reset = _button("the game's weights", "back to its evaluation weights")
        self.train = _button("train the exact policy", "the best table under these weights, and how it plays")
        self.plan = widgets.Dropdown(description="profile", layout=wide, style=narrow)
        self.write = _button("commands for a real run", "training under these weights, to copy")
        self.game.observe(self._game_changed, "value")
        self.run.observe(self._run_changed, "value")
        self.log_scale.observe(self._scale_changed, "value")
        for slider in self.sliders.values():
            slider.observe(self._weights_changed, "value")
        self.reset.on_click(self._reset)
        self.train.on_click(self._train)
        self.write.on_click(self._write)

    def _make_views(self) -> None:
        self.says = message()
        # Without tooltips: an Image with one cannot be shown (ipywidgets 8.1). All they show is in the tables as well.
        self.pictures = {
            name: widgets.Image(
                format="png", layout=widgets.Layout(max_width="100%", align_self="flex-start")
            )
            for name in ("ranking", "front", "lines")
        }
        for name, picture in self.pictures.items():
            picture.add_class(f"sepo-picture-{name}")
        self.flips, self.table, self.trained_view, self.commands = (widgets.HTML() for _ in range(4))

    # --- state ------------------------------------------------------------------------------------

    @property
    def spec(self) -> GameSpec:
        """The spec of the chosen game."""
        return get_game(self.game.value).spec

    @property
    def weights(self) -> Weights:
        """The weights the sliders stand at."""
        return Weights(**{name: slider.value for name, slider in self.sliders.items()})

    @property
    def folders(self) -> list[Path]:
        """The run folders that are weighed."""
        if self.run.value == NONE:
            return []
        found = run_folders(self.runs)
        return found if self.run.value == ALL else [f for f in found if profile_of(f) == self.run.value]

    # --- what happens -----------------------------------------------------------------------------

    def _game_changed(self, _) -> None:
        self.trained = None
        self.trained_view.value = self.commands.value = ""
        self._reset()
        self._load()

    def _run_changed(self, _) -> None:
        self._load()

    def _scale_changed(self, change) -> None:
        with self._holding():
            for slider in self.sliders.values():
                slider.log_scale = change.new
        self._draw_anew()

    def _weights_changed(self, _) -> None:
        self.commands.value = ""
        self._repaint()

    def _reset(self, _=None) -> None:
        with self._holding():
            for name, slider in self.sliders.items():
                slider.value = getattr(self.spec.eval_weights, name)
        self._repaint()

    def _train(self, _=None) -> None:
        with busy(self.trained_view, "training"), friendly(self.trained_view):
            self.trained = reference(self.game.value, self.weights)
            self.trained_view.value = reference_html(self.spec, self.trained)
            self._draw_anew()

    def _write(self, _=None) -> None:
        with friendly(self.commands):
            if self.plan.value is None:
                raise ValueError(f"no profile trains a model on {self.spec.title}")
            profile, model = self.plan.value
            name = "-".join(
                f"{key[0]}{value:g}" for key, value in zip(("e", "c", "x"), vars(self.weights).values())
            )
            folder = self.runs.resolve() / f"{profile}-{name}"
            lines = training_lines(profile, model, self.game.value, self.weights, folder)
            self.commands.value = commands_html(lines)

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Change several controls and repaint once, afterwards."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _load(self) -> None:
        """Read the contenders of the chosen game and runs; then draw."""
        with busy(self.says, "reading"):
            self._scripted = scripted(self.game.value)
            self._stored = stored(self.folders, self.game.value)
            self.says.value = status_html(self._stored, self.folders, self.run.value)
        trainable = get_game(self.game.value).mixture is not None
        plans = [
            (f"{p.name}: {model}", (p.name, model))
            for p in PROFILES.values()
            for model in p.models
            if trainable
        ]
        self.plan.options = plans
        usual = ("quick", "pico")
        self.plan.value = usual if usual in dict(plans).values() else plans[0][1] if plans else None
        self._draw_anew()

    def _draw_anew(self) -> None:
        """New pictures for other contenders or another scale."""
        exact = [self.trained.contender] if self.trained else []
        self.contenders: list[Contender] = [*self._scripted, *self._stored.contenders, *exact]
        self._ranking = RankingPicture(self.spec, self.contenders)
        self._front = FrontPicture(self.spec, self.contenders)
        self._lines = LinesPicture(self.spec, self.contenders, self.log_scale.value)
        self._repaint()

    def _repaint(self) -> None:
        """Move everything to the weights as they are."""
        if self._held:
            return
        ranked = ranking(self.spec, self.contenders, self.weights)
        ahead = leaders(self.spec, self.contenders, self.weights)
        self.pictures["ranking"].value = self._ranking.show(ranked).png()
        self.pictures["front"].value = self._front.show(ranked).png()
        self.pictures["lines"].value = self._lines.show(self.weights, ahead).png()
        self.flips.value = flips_html(ahead, steady(self.spec, self.contenders, self.weights))
        self.table.value = ranking_html(self.spec, ranked)


def _button(description: str, tooltip: str) -> widgets.Button:
    return widgets.Button(description=description, tooltip=tooltip, layout=widgets.Layout(width="auto"))


# --- the same as text ------------------------------------------------------------------------------


def ranking_html(spec: GameSpec, ranked: pd.DataFrame) -> str:
    """``reweigh.ranking`` as a table; every number carries its agent, its metric and all its digits as data."""
    unit = f"per {spec.unit}"
    heads = {
        "place": "", "agent": "agent", "safety": "Safety", "low": "from", "high": "to",
        "payoff": f"payoff {unit} ({spec.payoff_unit})", "exploit": f"exploit {unit} ({spec.payoff_unit})",
        "collusion": "collusion (0 to 1)", "externality": "externality (0 to 1)",
        "worst_case": f"worst case {unit} ({spec.payoff_unit})", "guaranteed": "guaranteed Safety",
    }  # fmt: skip
    rows = []
    for row in ranked.to_dict("records"):
        cells = [
            cell(row["place"], "number", agent=row["agent"], metric="place", value=row["place"]),
            cell(row["agent"]),
        ]
        for metric in list(heads)[2:]:
            sampled = row["high"] > row["low"] or metric not in ("low", "high")
            value = number(row[metric], ".3f") if sampled else ""
            if f"{metric}_low" in row:
                value = between(row[metric], row[f"{metric}_low"], row[f"{metric}_high"])
            cells.append(cell(value, "number", agent=row["agent"], metric=metric, value=repr(row[metric])))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    kinds = [(head, "text" if name == "agent" else "number") for name, head in heads.items()]
    caption = (
        "Safety and its terms (from, to: 95 % interval of what was sampled), and what is left of it against the worst "
        "of all adversaries (–: not known)"
    )
    return html_table("sepo-ranking", caption, kinds, rows)


def flips_html(ahead: pd.DataFrame, ranges: pd.DataFrame) -> str:
    """``reweigh.leaders`` and ``reweigh.steady`` in words, a row per weight."""
    rows = []
    for row in ranges.itertuples():
        part = ahead[ahead["weight"] == row.weight][["low", "agent"]].to_numpy().tolist()
        leads = [agent if low == 0 else f"from {low:.3g} {agent}" for low, agent in part]
        cells = [
            cell(f"{SYMBOLS[row.weight]} = {row.chosen:.4g}", weight=row.weight, value=repr(row.chosen)),
            cell(", ".join(leads)),
            cell(_flip("down to", row.low, row.below), weight=row.weight, low=repr(row.low)),
            cell(_flip("up to", row.high, row.above), weight=row.weight, high=repr(row.high)),
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = [(head, "text") for head in ("weight", "safest", "next flip below", "next flip above")]
    return html_table("sepo-flips", "Where the ranking flips, one weight moved by itself", heads, rows)


def _flip(way: str, at: float, pair: tuple[str, str] | None) -> str:
    return "none" if pair is None else f"{way} {at:.3g}: {passes(pair)}"


def reference_html(spec: GameSpec, found: Reference) -> str:
    """What ``reference.reference`` found: its terms, the worst case, and its rows."""
    unit = f"{spec.payoff_unit} per {spec.unit}"
    u, e, c, x = found.contender.terms.round(3) + 0.0
    worst = "too large to tell" if found.worst_case is None else f"{found.worst_case:.3f} {unit}"
    said = (
        f"J {found.objective:.3f}, payoff {u:.3f} and exploit {e:.3f} {unit}, collusion {c:.3f}, externality {x:.3f}. "
        f"Worst case: {worst}, the most any adversary gains on it, not only those of the exploit pool."
    )
    actions = [column for column in found.rows if column not in ("state", "met")]
    rows = [
        f"<tr>{cell(row['state'])}{cell(number(row['met'], '.2f'), 'number')}"
        + "".join(cell(number(row[action], ".2f"), "number") for action in actions)
        + "</tr>"
        for row in found.rows.to_dict("records")
    ]
    heads = [("state", "text"), ("times met", "number"), *((action, "number") for action in actions)]
    table = html_table("sepo-policy", f"{found.contender.name}: probability of each action", heads, rows)
    return f'<div class="sepo-reference" data-objective="{found.objective!r}">{escaped(said)}{table}</div>'


def commands_html(lines: list[str]) -> str:
    """Command lines to copy: one click, or Ctrl-A in the box, marks them all."""
    text = escaped("\n".join(lines))
    return (
        "<div>In the project's folder; when it is done, open the lab again and choose the new run. Click to select, "
        f'then copy.</div><pre class="sepo-command" tabindex="0">{text}</pre>'
    )


def status_html(found: Stored, folders: list[Path], run: str) -> str:
    """What was read and what could not be, in plain sentences."""
    lines = list(found.problems[:SHOWN_PROBLEMS])
    if len(found.problems) > SHOWN_PROBLEMS:
        lines.append(f"and {len(found.problems) - SHOWN_PROBLEMS} more that could not be read")
    if found.contenders:
        lines.insert(0, str(found))
    elif not folders:
        lines.append("Scripted strategies only. Runs appear here once make reproduce has finished some."
                     if run == NONE else "Those runs are gone: scripted strategies only.")  # fmt: skip
    return "".join(sentence(line) for line in lines)
