"""A fresh learner against a frozen agent: what it comes to gain, and how many episodes it takes.

The learner is a softmax table over the short label and sits in seat 1, where its lead over the agent is what it is
paid: each of its decisions earns its lead from that round on, less the mean of the step's other episodes there. It
needs nothing of the agent but its play. Every check measures the greedy table in fresh episodes, so that the gain of
the last check is a lower bound on the worst case up to its interval.

Source: Williams, Simple statistical gradient-following algorithms (1992); Timbers et al., Approximate exploitability
(2020), for learned best responses as a measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from sepo_kit.adversaries.gain import measured_gain
from sepo_kit.engine.policy import Policy, tabular
from sepo_kit.engine.rollout import Match, play_matches
from sepo_kit.evaluation.statistics import Estimate, over_seeds
from sepo_kit.exact.ascent import OpenTable
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState
from sepo_kit.objective.step import check_numbers
from sepo_kit.runs import Run, append_line, read_json, read_lines, write_json
from sepo_kit.study.tabular import Logits

CURVE, STATE = "curve.jsonl", "learner.json"
LEARNER = "learner"


@dataclass(frozen=True, kw_only=True)
class AdversarySettings:
    """How an adversary is trained.

    Attributes
    ----------
    steps, episodes
        Steps, and episodes of each.
    learning_rate
        Of plain gradient ascent on the logits, on advantages divided by their standard deviation.
    row
        Attribute of the information states that names a row of the learner's table.
    check_every, check_episodes
        Steps between two checks; fresh episodes of each.

    Raises
    ------
    ValueError
        A value is out of its range.
    """

    steps: int = 200
    episodes: int = 32
    learning_rate: float = 0.5
    row: str = "label"
    check_every: int = 20
    check_episodes: int = 200

    def __post_init__(self) -> None:
        check_numbers(self, ("steps", "episodes", "learning_rate", "check_every", "check_episodes"))
        for name in ("episodes", "check_episodes"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be >= 2, got {getattr(self, name)}: a mean needs another one")


@dataclass(frozen=True)
class Attack:
    """What a learner found.

    ``adversary``: the table it ended with, greedy, a policy of seat 1. ``curve``: a row per check, with ``episodes``
    played to learn until then, and ``gain`` with ``low`` and ``high``, per round, as in ``Gain``.
    """

    adversary: Policy = field(repr=False)
    curve: pd.DataFrame = field(repr=False)

    def episodes_until(self, margin: float) -> int | None:
        """Episodes until it surely gained more than ``margin`` per round; None where it never did."""
        over = self.curve[self.curve["low"] > margin]
        return None if over.empty else int(over["episodes"].iloc[0])


def train_adversary(
    agent: Policy,
    game: Game | str,
    folder: Path | str,
    settings: AdversarySettings | None = None,
    seed: int = 0,
) -> Attack:
    """Train a table against ``agent``, which stays as it is; goes on where a stopped training left off.

    Parameters
    ----------
    agent
        Anything that acts in seat 0, also one that answers in free text.
    folder
        Where the learning curve and the learner are kept; one folder for each agent, game, settings and seed.

    Raises
    ------
    RunError
        The folder belongs to another request.
    ValueError
        The information states have no label ``settings.row``.
    """
    game = get_game(game)
    settings = settings or AdversarySettings()
    request = {
        "stage": "adversary", "agent": agent.name, "game": game.spec.id, "seed": seed, "settings": asdict(settings)
    }  # fmt: skip
    tabular(game, {}, row=settings.row)  # refuses an unknown row
    run = Run(folder, request)
    logits = Logits(game, settings.row)
    begin = 0
    if (run.path / STATE).exists():
        kept = read_json(run.path / STATE)
        begin = kept["step"]
        logits.logits = {label: np.array(values) for label, values in kept["logits"].items()}
    for step in range(begin, 0 if run.done else settings.steps + 1):
        if step % settings.check_every == 0 or step == settings.steps:
            _check(run, game, agent, logits, settings, seed, step)
        if step < settings.steps:
            _learn(game, agent, logits, settings, seed, step)
    if not run.done:
        run.finish(steps=settings.steps)
    curve = pd.DataFrame(read_lines(run.path / CURVE)).drop_duplicates("step", keep="last", ignore_index=True)
    return Attack(_greedy(logits), curve)


def time_to_exploit(attacks: Sequence[Attack], margin: float) -> Estimate:
    """Episodes until a fresh learner surely gained more than ``margin``: the mean over ``attacks``, of several seeds,
    with its interval; no value where one of them never did.

    Raises
    ------
    ValueError
        There are no attacks.
    """
    if not attacks:
        raise ValueError("no attacks to average; train some with train_adversary, one for each seed")
    taken = [attack.episodes_until(margin) for attack in attacks]
    if any(t is None for t in taken):
        return Estimate(None, None, None, len(taken))
    return over_seeds(taken)


def _check(
    run: Run, game: Game, agent: Policy, logits: Logits, settings: AdversarySettings, seed: int, step: int
) -> None:
    found = measured_gain(game, agent, _greedy(logits), settings.check_episodes, seed)
    played = step * settings.episodes
    append_line(
        run.path / CURVE,
        {"step": step, "episodes": played, "gain": found.value, "low": found.low, "high": found.high},
    )
    rows = {label: values.tolist() for label, values in logits.logits.items()}
    write_json(run.path / STATE, {"step": step, "logits": rows})
    run.progress(step, settings.steps)


def _greedy(logits: Logits) -> Policy:
    rows = {label: np.eye(len(values))[int(values.argmax())] for label, values in logits.logits.items()}
    return OpenTable(LEARNER, rows, logits.label)


class _Learner(Policy):
    """The table as it plays, keeping the states it met."""

    name = LEARNER

    def __init__(self, logits: Logits) -> None:
        self.inner = logits.policy()
        self.met: dict[str, tuple[InformationState, np.ndarray]] = {}

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        rows = self.inner.distributions(seen)
        self.met.update((state.key, (state, row)) for state, row in zip(seen, rows, strict=True))
        return rows


def _learn(
    game: Game, agent: Policy, logits: Logits, settings: AdversarySettings, seed: int, step: int
) -> None:
    """One step of policy gradient on the learner's lead."""
    learner = _Learner(logits)
    todo = [Match("attack", LEARNER, index) for index in range(settings.episodes)]
    played = play_matches(
        game, agent, todo, seed, opponents={LEARNER: learner}, step=step, common_random_numbers=False
    )
    leads = np.array([np.subtract(e.their, e.own) for e in played])  # (E, T)
    if not game.spec.independent_rounds:
        leads = np.cumsum(leads[:, ::-1], axis=1)[:, ::-1]
    others = (leads.sum(axis=0) - leads) / (len(leads) - 1)
    advantage = leads - others
    scale = float(advantage.std()) or 1.0
    gradient: dict[str, np.ndarray] = {}
    for episode, row in zip(played, advantage / scale, strict=True):
        for decision in episode.answers:
            state, p = learner.met[decision.information]
            score = -p * row[decision.round]
            score[state.legal_actions.index(decision.action)] += row[decision.round]
            label = logits.label(state)
            gradient[label] = gradient.get(label, 0.0) + score
    for label, slope in gradient.items():
        logits.logits[label] = logits.logits[label] + settings.learning_rate * slope / settings.episodes
