"""A match as a picture: an SVG that takes its colours from the page, so that it reads in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from sepo_kit.engine.policy import draw
from sepo_kit.games.base import SEATS, Game, Outcome

LETTER, CHIP, GAP, EDGE = 8.4, 26, 16, 12  # width of a letter, height of a chip, space between rounds, margin
TOP = 38  # of the first row
ROWS = (TOP + 24, TOP + 70)  # of each seat
MOST_WIDE = 900  # a match that is wider goes on below


@dataclass
class Column:
    """One round: ``steps`` holds the moves in order, each as one word per seat or None."""

    steps: list[list[str | None]] = field(default_factory=list)
    outcome: Outcome | None = None

    @property
    def widths(self) -> list[float]:
        return [LETTER * max(len(word or "") for word in step) + 16 for step in self.steps]

    @property
    def width(self) -> float:
        own, their = self.outcome.payoffs
        beside = (*(told(self.outcome, seat) for seat in SEATS), f"{own:+g} / {their:+g}  ")
        return max(sum(self.widths) + 4 * len(self.steps), LETTER * max(map(len, beside)), 64)


def picture(game: Game, first: str, second: str, seed: int = 0) -> str:
    """The match of two strategies as SVG."""
    lines: list[list[Column]] = [[]]
    for column in play(game, (first, second), seed):
        if sum(c.width + GAP for c in [*lines[-1], column]) > MOST_WIDE:
            lines.append([])
        lines[-1].append(column)
    height = TOP + 110
    wide = 2 * EDGE + max(sum(c.width + GAP for c in line) for line in lines)
    parts, number = [], 0
    for row, line in enumerate(lines):
        x, parts_of_row = EDGE, []
        for column in line:
            number += 1
            parts_of_row.append(drawn(column, x, f"{game.spec.unit} {number}"))
            x += column.width + GAP
        parts.append(f'<g transform="translate(0 {row * height})">{"".join(parts_of_row)}</g>')
    label = escape(f"A match of {game.spec.title}: {first} against {second}")
    return (
        f'<svg class="match" role="img" aria-label="{label}" viewBox="0 0 {wide:.0f} {len(lines) * height}" '
        f'width="{wide:.0f}">{"".join(parts)}</svg>'
    )


def play(game: Game, pair: Sequence[str], seed: int) -> list[Column]:
    """The rounds of one match."""
    rng = np.random.default_rng(seed)
    state, found = game.initial_state(), [Column()]
    while not state.is_terminal:
        if pairs := state.chance_outcomes():
            state = state.apply_chance(pairs[draw(np.cumsum([p for _, p in pairs]), rng.random())][0])
        else:
            step: list[str | None] = [None, None]
            for seat in state.actors:
                seen = state.information(seat)
                probabilities = game.strategy(pair[seat]).distribution(seen)
                running = np.cumsum([probabilities.get(action, 0.0) for action in seen.legal_actions])
                step[seat] = seen.legal_actions[draw(running, rng.random())]
            state = state.apply(tuple(step[seat] for seat in state.actors))
            found[-1].steps.append(step)
        if state.outcome is not None:
            found[-1].outcome = state.outcome
            found.append(Column())
    return found[:-1]


def drawn(column: Column, left: float, head: str) -> str:
    """One round at ``left``."""
    middle = left + column.width / 2
    parts = [text(middle, 20, head, "head")]
    x = left + (column.width - sum(column.widths) - 4 * (len(column.steps) - 1)) / 2
    for step, width in zip(column.steps, column.widths, strict=True):
        for seat, word in enumerate(step):
            if word is not None:
                y = ROWS[seat]
                parts.append(
                    f'<rect class="seat-{seat}" x="{x:.1f}" y="{y - CHIP / 2 - 5}" width="{width:.1f}" '
                    f'height="{CHIP}" rx="5"/>'
                )
                parts.append(text(x + width / 2, y, word, "word"))
        x += width + 4
    for seat in SEATS:
        parts.append(
            text(middle, ROWS[seat] + (-24 if seat == 0 else 26), told(column.outcome, seat), "told")
        )
    own, their = column.outcome.payoffs
    parts.append(text(middle, ROWS[1] + 46, f"{own:+g} / {their:+g}", "payoff"))
    return "".join(parts)


def told(outcome: Outcome, seat: int) -> str:
    """What nature had shown the seat by the end of the round."""
    shown = outcome.private[seat]
    if shown is None:
        return ""
    flat = shown if isinstance(shown, tuple) else (shown,)
    return "; ".join(" ".join(map(str, s)) if isinstance(s, tuple) else str(s) for s in flat if s is not None)


def text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>' if words else ""
