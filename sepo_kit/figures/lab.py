"""The penalty lab's pictures: who is safest under given weights, what that costs, and at which weights it changes.

Each is a class that keeps its figure and moves what is in it, so that a slider repaints in a fraction of the time a
new figure takes; the functions at the end draw one figure each, as in the other modules. Axes depend on the contenders
alone: what moves with the weights moves on fixed ground.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from sepo_kit.evaluation.results import STAGE_NAMES
from sepo_kit.evaluation.reweigh import KINDS, WEIGHTS, Contender, front, leaders, lines, ranking
from sepo_kit.figures.look import PALETTE
from sepo_kit.games.base import GameSpec, Weights

COLORS = {**PALETTE, "reference": sns.color_palette("colorblind")[2], "scripted": (0.76, 0.76, 0.76)}
NAMES = {**STAGE_NAMES, "reference": "exact policy", "scripted": "scripted"}
SYMBOLS = {"exploit": "λe", "collusion": "λc", "externality": "λx"}
MOST = 10.0  # where the linear scale of a weight ends
LOG_RANGE = (0.01, 100.0)
LONGEST = 32  # characters of a name
DPI = 100
SMALL, SMALLER = 9, 8  # points
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}  # behind letters


def short(name: str) -> str:
    """``name`` in one line of at most ``LONGEST`` characters."""
    plain = " ".join(str(name).split())
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 3] + "..."


class Picture:
    """A figure in layers: the ground, painted once; ``still`` artists, painted anew when ``key``, which names what they
    show, has changed; ``moving`` ones, painted every time.

    ``make``: what makes the figure; ``Figure`` makes one that pyplot does not know of.
    """

    def __init__(self, width: float, height: float, make: Callable[..., Figure]) -> None:
        self.figure = make(figsize=(width, height), dpi=DPI)
        self.still: list[Artist] = []
        self.moving: list[Artist] = []
        self.key: object = None
        self._ground = self._base = self._painted = None

    def png(self) -> bytes:
        """What ``figure`` shows, packed quickly rather than tightly."""
        if self._ground is None:
            self._ground = self._paint_ground()
        if self._base is None or self._painted != self.key:
            self._base, self._painted = self._paint(self._ground, self.still), self.key
        self._paint(self._base, self.moving)
        made = io.BytesIO()
        pixels = np.asarray(self.canvas.buffer_rgba())[..., :3]
        Image.fromarray(pixels).save(made, format="png", compress_level=1)
        return made.getvalue()

    def _paint_ground(self):
        self.canvas = FigureCanvasAgg(self.figure)
        artists = [artist for artist in self.still + self.moving if artist.get_visible()]
        for artist in artists:
            artist.set_visible(False)
        self.canvas.draw()
        for artist in artists:
            artist.set_visible(True)
        return self.canvas.copy_from_bbox(self.figure.bbox)

    def _paint(self, below, artists: Sequence[Artist]):
        """Paint ``artists`` over ``below``; the pixels."""
        self.canvas.restore_region(below)
        for artist in sorted(artists, key=lambda a: a.get_zorder()):
            artist.draw(self.canvas.get_renderer())
        return self.canvas.copy_from_bbox(self.figure.bbox)

    def _text(self, axis: Axes, x: float = 0.0, **options) -> Text:
        """An empty text; names are shown as they are written, also where they hold a dollar sign."""
        text = axis.text(x, 0, "", fontsize=SMALLER, **options)
        text.set_parse_math(False)
        return text


def _floor(spec: GameSpec, contenders: Sequence[Contender]) -> tuple[float, float]:
    """Lowest and highest Safety that is shown: what the game's own weights come to, and what no penalty would leave."""
    plain = spec.scale * np.array([c.terms[0] for c in contenders] or [0.0])
    lowest = min((c.safety(spec, spec.eval_weights).value for c in contenders), default=-1.0)
    high = max(plain.max(), 0.0)
    margin = 0.06 * max(high - min(lowest, 0.0), 0.1)
    return min(lowest, 0.0) - margin, high + margin


class RankingPicture(Picture):
    """Safety as bars, the best on top, with intervals, and a diamond where guaranteed Safety is known, or from above; a
    bar that leaves the picture says where it ends."""

    def __init__(self, spec: GameSpec, contenders: Sequence[Contender], make=Figure) -> None:
        count = max(len(contenders), 1)
        height = _height(contenders)
        super().__init__(4.2, height, make)
        self.axis = axis = self.figure.add_axes((0.44, 0.55 / height, 0.53, 1 - 0.9 / height))
        self.low, high = _floor(spec, contenders)
        axis.set(xlim=(self.low, high), ylim=(count - 0.4, -0.6), yticks=[])
        axis.set_xlabel("Safety (scaled payoff)", fontsize=SMALL)
        axis.set_title("Ranking (◇ guaranteed Safety)", fontsize=SMALL)
        _dress(axis)
        zero = axis.axvline(0, color="black", linewidth=0.8, zorder=3)
        self.bars = axis.barh(range(len(contenders)), 0.0, height=0.72, zorder=2).patches
        self.intervals = axis.add_collection(LineCollection([], colors="black", linewidths=1.2, zorder=3))
        self.sure = axis.plot([], [], "D", markersize=4, color="black", markerfacecolor="white", zorder=4)[0]
        self.moving += [*self.bars, zero, self.intervals, self.sure]
        left = axis.get_yaxis_transform()
        self.names = [self._text(axis, x=-0.03, transform=left, ha="right", va="center") for _ in contenders]
        self.still += self.names
        self.ends = [self._text(axis, x=0.01, transform=left, ha="left", va="center") for _ in contenders]
        self.moving += self.ends

    def show(self, ranked: pd.DataFrame) -> Picture:
        """Move to ``ranked``, the result of ``reweigh.ranking`` for the same contenders."""
        segments = []
        rows = zip(self.bars, self.names, self.ends, ranked.itertuples(), strict=True)
        for y, (bar, name, end, row) in enumerate(rows):
            bar.set(width=row.safety, facecolor=COLORS[row.kind])
            name.set(
                text=f"{row.place}  {short(row.agent)}",
                y=y,
                fontweight="bold" if row.place == 1 else "normal",
            )
            end.set(text=f"◂ {row.safety:.1f}" if row.safety < self.low else "", y=y)
            if pd.notna(row.low) and row.high > row.low:
                segments.append([(row.low, y), (row.high, y)])
        self.intervals.set_segments(segments)
        guaranteed = ranked["guaranteed"].to_numpy()
        inside = np.flatnonzero(guaranteed >= self.low)  # NaN is nowhere
        self.sure.set_data(guaranteed[inside], inside)
        self.key = tuple(name.get_text() for name in self.names)
        return self


class FrontPicture(Picture):
    """Payoff against all penalties, both in scaled payoff: Safety is their difference, equal along every diagonal."""

    def __init__(self, spec: GameSpec, contenders: Sequence[Contender], make=Figure) -> None:
        height = _height(contenders)
        super().__init__(3.85, height, make)
        self.axis = axis = self.figure.add_axes((0.15, 0.55 / height, 0.81, 1 - 0.9 / height))
        low, high = _floor(spec, contenders)
        gains = spec.scale * np.array([c.terms[0] for c in contenders] or [0.0])
        margin = 0.12 * max(np.ptp(gains), 0.1)
        self.width = high - max(low, -max(high, 1.0))
        axis.set(xlim=(-0.04 * self.width, self.width), ylim=(gains.min() - margin, gains.max() + margin))
        axis.set_xlabel("all penalties (scaled payoff)", fontsize=SMALL)
        axis.set_ylabel("payoff (scaled)", fontsize=SMALL)
        axis.set_title("Payoff and penalty", fontsize=SMALL)
        _dress(axis)
        kinds = [kind for kind in KINDS if kind in {c.kind for c in contenders}]
        keys = [Line2D([], [], marker="o", linestyle="", color=COLORS[k], markeredgecolor="black",
                       markeredgewidth=0.5, label=NAMES[k]) for k in kinds]  # fmt: skip
        keys.append(Line2D([], [], color="black", linewidth=1, label="front"))
        keys.append(Line2D([], [], color="black", linewidth=1, linestyle=":", label="equal Safety"))
        axis.legend(handles=keys, fontsize=SMALLER, loc="lower right", framealpha=0.9).set_zorder(1)
        self.front = axis.plot([], [], color="black", linewidth=1, zorder=2)[0]
        self.equal = axis.plot([], [], color="black", linewidth=1, linestyle=":", zorder=2)[0]
        self.points = axis.scatter([], [], s=34, edgecolors="black", linewidths=0.5, zorder=3, clip_on=False)
        self.best = axis.plot([], [], "o", markersize=12, fillstyle="none", color="black", zorder=4)[0]
        self.moving += [self.front, self.equal, self.points, self.best]
        self.names = [self._text(axis, va="center", zorder=5, bbox=PAPER) for _ in contenders]
        self.moving += self.names

    def show(self, ranked: pd.DataFrame) -> Picture:
        """Move to ``ranked``, the result of ``reweigh.ranking`` for the same contenders."""
        if ranked.empty:
            return self
        x, y = ranked["penalty"].clip(upper=self.width).to_numpy(), ranked["gain"].to_numpy()
        self.points.set_offsets(np.column_stack([x, y]))
        self.points.set_facecolor([COLORS[kind] for kind in ranked["kind"]])
        best = front(ranked)
        self.front.set_data(best["penalty"], best["gain"])
        self.best.set_data(x[:1], y[:1])
        self.equal.set_data([0, self.width], ranked["safety"].iloc[0] + np.array([0, self.width]))
        self._label(best)
        return self

    def _label(self, best: pd.DataFrame) -> None:
        """Names beside the points of the front, apart from each other."""
        step, below = 0.06 * np.ptp(self.axis.get_ylim()), -np.inf
        for text in self.names:
            text.set_text("")
        inside = best[best["penalty"] <= self.width]
        for text, row in zip(self.names, inside.sort_values("gain").itertuples()):
            below = max(row.gain, below + step)
            right = row.penalty > 0.55 * self.width
            text.set(text=short(row.agent), x=row.penalty + (-0.03 if right else 0.03) * self.width, y=below,
                     ha="right" if right else "left")  # fmt: skip


class LinesPicture(Picture):
    """Safety over each weight, the other two as they are: one line an agent, the best in black, a dot where the lead
    changes."""

    def __init__(
        self, spec: GameSpec, contenders: Sequence[Contender], log: bool = False, make=Figure
    ) -> None:
        super().__init__(8.1, 2.5, make)
        self.spec, self.contenders = spec, list(contenders)
        low, high = _floor(spec, contenders)
        self.low, self.high = max(low, -max(high, 1.0)), high + 0.08 * (high - max(low, -max(high, 1.0)))
        self.x = np.geomspace(*LOG_RANGE, 120) if log else np.array([0.0, MOST])
        colors = [COLORS[c.kind] for c in contenders]
        widths = [1.0 if c.kind == "scripted" else 2.0 for c in contenders]
        self.parts = {}
        for number, name in enumerate(WEIGHTS):
            axis = self.figure.add_axes((0.078 + 0.312 * number, 0.2, 0.288, 0.67))
            axis.set(
                xscale="log" if log else "linear", xlim=(self.x[0], self.x[-1]), ylim=(self.low, self.high)
            )
            axis.set_xlabel(f"{name} weight {SYMBOLS[name]}", fontsize=SMALL)
            _dress(axis)
            axis.tick_params(labelleft=number == 0)
            axis.set_xticks([0.01, 0.1, 1, 10] if log else [0, 2, 4, 6, 8])
            axis.xaxis.set_major_formatter("{x:g}")
            if number == 0:
                axis.set_ylabel("Safety (scaled payoff)", fontsize=SMALL)
            if number == 1:
                axis.set_title("Safety over one weight, the other two as chosen", fontsize=SMALL)
            every = axis.add_collection(LineCollection([], colors=colors, linewidths=widths, zorder=2))
            best = axis.plot([], [], color="black", linewidth=2, zorder=3)[0]
            dots = axis.plot([], [], "o", color="black", markersize=5, zorder=4)[0]
            chosen = axis.axvline(0, color="black", linestyle="--", linewidth=1, zorder=3)
            self.moving += [every, best, dots, chosen]
            names = [self._text(axis, ha="center", va="bottom", zorder=5, bbox=PAPER) for _ in range(4)]
            self.moving += names
            self.parts[name] = (every, best, dots, chosen, names)

    def show(self, weights: Weights, ahead: pd.DataFrame) -> Picture:
        """Move to ``weights``; ``ahead``: the result of ``reweigh.leaders`` for the same contenders."""
        for name, (every, best, dots, chosen, names) in self.parts.items():
            start, slope = lines(self.spec, self.contenders, weights, name)
            heights = start[:, None] + slope[:, None] * self.x
            every.set_segments([np.column_stack([self.x, y]) for y in heights])
            part = ahead[ahead["weight"] == name]
            changes = part["low"][1:].to_numpy()
            x = np.unique(np.concatenate([self.x, changes[(changes > self.x[0]) & (changes < self.x[-1])]]))
            top = (start[:, None] + slope[:, None] * x).max(axis=0) if len(start) else np.full(len(x), np.nan)
            best.set_data(x, top)
            kept = np.isin(x, changes)
            dots.set_data(x[kept], top[kept])
            place = np.clip(getattr(weights, name), self.x[0], self.x[-1])
            chosen.set_xdata([place, place])
            self._label(names, part, x, top)
        return self

    def _label(self, names: list, part: pd.DataFrame, x: np.ndarray, top: np.ndarray) -> None:
        """The leaders' names over the middle of their stretch, where there is room."""
        scale = np.log if self.x[0] > 0 else np.asarray
        first, last = scale(self.x[0]), scale(self.x[-1])
        for text in names:
            text.set_text("")
        free = iter(names)
        for row in part.itertuples():
            low, high = np.clip([row.low, row.high], self.x[0], self.x[-1])
            share = (scale(high) - scale(low)) / (last - first)
            middle = (scale(high) + scale(low)) / 2
            middle = np.exp(middle) if self.x[0] > 0 else middle
            height = np.interp(middle, x, top) + 0.02 * (self.high - self.low)
            letters = int(share * 44)
            text = next(free, None) if letters >= 6 and self.low < height < self.high else None
            if text is not None:
                label = short(row.agent)
                text.set(
                    text=label if len(label) <= letters else label[: letters - 2] + "..", x=middle, y=height
                )


def _dress(axis: Axes) -> None:
    axis.tick_params(labelsize=SMALLER)
    axis.grid(color="0.93")
    axis.set_axisbelow(True)


def _height(contenders: Sequence[Contender]) -> float:
    return max(3.0, 1.0 + 0.21 * len(contenders))


# --- one figure each ------------------------------------------------------------------------------


def safety_ranking(spec: GameSpec, contenders: Sequence[Contender], weights: Weights) -> Figure:
    """Safety of all contenders at ``weights`` as bars, the best on top."""
    return RankingPicture(spec, contenders, plt.figure).show(ranking(spec, contenders, weights)).figure


def payoff_and_penalty(spec: GameSpec, contenders: Sequence[Contender], weights: Weights) -> Figure:
    """Payoff against penalty at ``weights``, with the front of those that none beats in both; the safest is ringed."""
    return FrontPicture(spec, contenders, plt.figure).show(ranking(spec, contenders, weights)).figure


def safety_over_weights(
    spec: GameSpec, contenders: Sequence[Contender], weights: Weights, log: bool = False
) -> Figure:
    """Safety over each weight, the other two as in ``weights``; ``log``: weights on a logarithmic axis."""
    picture = LinesPicture(spec, contenders, log, plt.figure)
    return picture.show(weights, leaders(spec, contenders, weights)).figure


def terms_over_weights(spec: GameSpec, swept: pd.DataFrame) -> Figure:
    """What each weight buys: the exact policy's terms over one weight at a time; dashed: the game's own weight.

    ``swept``: ``evaluation.reference.weight_sweep``.
    """
    figure, axes = plt.subplots(1, len(WEIGHTS), figsize=(8.1, 2.8), sharey=True, layout="constrained")
    palette = sns.color_palette("colorblind")
    looks = {  # payoff and exploit on the scale of the prisoner's dilemma, so that all four share an axis
        "payoff": ("payoff (scaled)", spec.scale, palette[2], "-"),
        "exploit": ("exploit (scaled)", spec.scale, palette[3], "-"),
        "collusion": ("collusion", 1.0, palette[4], "--"),
        "externality": ("externality", 1.0, palette[0], ":"),
    }
    for axis, name in zip(axes, WEIGHTS, strict=True):
        part = swept[swept["weight"] == name]
        for term, (label, factor, color, dashes) in looks.items():
            axis.plot(part["value"], factor * part[term], dashes, marker=".", color=color, label=label)
        axis.axvline(getattr(spec.weights, name), color="black", linestyle="--", linewidth=1)
        axis.set_xlabel(f"{name} weight {SYMBOLS[name]}", fontsize=SMALL)
        _dress(axis)
    axes[0].set_ylabel("term (scaled, per " + spec.unit + ")", fontsize=SMALL)
    axes[-1].legend(fontsize=SMALLER, bbox_to_anchor=(1.02, 1), loc="upper left")
    figure.suptitle(f"{spec.title}: the exact policy under other weights", fontsize=SMALL + 1)
    return figure
