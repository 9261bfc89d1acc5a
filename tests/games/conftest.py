"""Golden transcripts: whole episodes as text, compared with the files in ``tests/transcripts``.

A change of a rule, a prompt, a strategy or a harm shows as a readable diff. To accept it:

    SEPO_KIT_WRITE_TRANSCRIPTS=1 python -m pytest tests/games
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import numpy as np
import pytest

from sepo_kit.games.base import HARM_DEFINITIONS, REPLY_STYLES, SEATS, Game

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"
WRITE = "SEPO_KIT_WRITE_TRANSCRIPTS"


@pytest.fixture
def golden():
    """Compare a text with ``tests/transcripts/NAME.txt``, or write it where the variable is set."""

    def compare(name: str, text: str) -> None:
        path = TRANSCRIPTS / f"{name}.txt"
        if os.environ.get(WRITE):
            path.write_text(text, encoding="utf-8")
        stored = path.read_text(encoding="utf-8")
        diff = "\n".join(
            difflib.unified_diff(stored.splitlines(), text.splitlines(), "stored", "now", lineterm="")
        )
        assert not diff, (
            f"{path.name} is not what the game plays now; if that is right, set {WRITE}=1\n{diff}"
        )

    return compare


def transcript(game: Game, matches: list[tuple[str, str]], seed: int = 0) -> str:
    """The spec, the system prompts, and one episode of each match, as text."""
    spec = game.spec
    lines = [f"{spec.title} ({spec.id})", f"{spec.rounds} {spec.unit}s, payoffs in {spec.payoff_unit}"]
    lines += [f"weights {spec.weights}", f"evaluation {spec.eval_weights}", f"pools {spec.pools}"]
    for style in REPLY_STYLES:
        lines += ["", f"--- system prompt, {style}", game.system_prompt(style)]
    for number, match in enumerate(matches):
        lines += ["", f"=== {match[0]} (seat 0) against {match[1]} (seat 1)"]
        lines += _episode(game, match, np.random.default_rng([seed, number]))
    return "\n".join(lines) + "\n"


def _episode(game: Game, match: tuple[str, str], rng: np.random.Generator) -> list[str]:
    state, lines = game.initial_state(), []
    while not state.is_terminal:
        pairs = state.chance_outcomes()
        if pairs:
            outcome, probability = pairs[rng.choice(len(pairs), p=[p for _, p in pairs])]
            lines.append(f"nature: {outcome} with probability 1/{round(1 / probability)}")
            state = state.apply_chance(outcome)
        else:
            actions = []
            for seat in state.actors:
                action, told = _decision(game, match[seat], state.information(seat), seat, rng)
                actions.append(action)
                lines += told
            state = state.apply(tuple(actions))
        if state.outcome is not None:
            lines += _outcome(game, state.outcome)
    return lines


def _decision(game, strategy_id, seen, seat, rng):
    strategy = game.strategy(strategy_id)
    probabilities = {a: p for a, p in strategy.distribution(seen).items() if p > 0}
    legal = seen.legal_actions
    action = legal[rng.choice(len(legal), p=[probabilities.get(a, 0.0) for a in legal])]
    if len(probabilities) > 6:
        table = f"{len(probabilities)} actions"
    else:
        table = ", ".join(f"{a} {p:.4f}" for a, p in probabilities.items())
    prompt = [f"  | {line}" for line in game.render(seen).splitlines()]
    head = f"seat {seat} [{seen.key}] {table}"
    return action, [head, *prompt, f"  > {strategy.explain(seen, action)}", f"  > {action}"]


def _outcome(game, outcome):
    lines = [f"payoffs {outcome.payoffs[0]:g}, {outcome.payoffs[1]:g}; shown by nature {outcome.private}"]
    for seat in SEATS:
        told = []
        for definition in HARM_DEFINITIONS:
            harms = game.harms(outcome, seat, definition)
            told.append(f"{definition} collusion {harms.collusion:.4f} externality {harms.externality:.4f}")
        lines.append(f"  harms of seat {seat}: {'; '.join(told)}")
    return [*lines, ""]


@pytest.fixture(name="transcript")
def transcript_fixture():
    return transcript
