"""The same training on a table: one row of logits per state instead of a language model.

Steps are those of ``objective/step.py``, as a language model takes them, play that of ``engine/rollout.py``; only the
policy differs, so what a credit mode does can be seen in seconds, and against the exact gradient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sepo_kit import exact
from sepo_kit.adversaries.exploiters import Exploiters, best_response
from sepo_kit.engine.policy import Policy, TabularPolicy
from sepo_kit.engine.rollout import play_matches
from sepo_kit.exact.ascent import OpenTable
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState, Weights
from sepo_kit.objective.step import StepSettings, TrainingStep, check_numbers, check_renewal, check_schedule
from sepo_kit.objective.terms import TERMS, guaranteed, objective, row_of

Table = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class TabularSettings(StepSettings):
    """How a table is trained; what a step plays and pays is told by ``StepSettings``.

    ``row``: attribute of the information state that names its row. ``log_every``: steps between exact evaluations.
    ``schedule``: of the learning rate, "constant" or "linear", to zero at the last step. ``beta``: weight of the KL
    divergence to a reference, the start, in nats beside the standardised advantages, as a language model has it; 0 for
    none. ``renew_reference_every``: steps after which the reference moves to the policy, again and again (NashPG, arXiv
    2510.18183); 0 for never.
    """

    steps: int = 400
    learning_rate: float = 0.05
    schedule: str = "constant"
    row: str = "key"
    log_every: int = 10
    beta: float = 0.0
    renew_reference_every: int = 0

    def __post_init__(self) -> None:
        check_schedule(self.schedule)
        check_numbers(self, ("steps", "learning_rate", "log_every"), ("beta", "renew_reference_every"))
        check_renewal(self.renew_reference_every, self.beta)
        super().__post_init__()


@dataclass(frozen=True)
class TabularRun:
    """What training a table gave: the final ``table`` of probabilities and the ``log``, one row per evaluation
    (step, payoff, exploit, collusion, externality, safety, worst case and guaranteed Safety, both NaN where enumeration
    cannot tell, and the weights in force)."""

    table: Table
    log: pd.DataFrame


class Logits:
    """A softmax policy over the states of a game, one row of logits per label.

    ``start``: probabilities of the rows that do not begin uniform.
    """

    def __init__(self, game: Game, row: str, start: Mapping[str, Sequence[float]] | None = None) -> None:
        self.game = game
        self.row = row
        self.logits: Table = {}
        self.rows: dict[str, str] = {}  # of the information states met in training: key -> label
        self.start = {label: np.log(np.maximum(p, 1e-6)) for label, p in (start or {}).items()}

    def label(self, seen: InformationState) -> str:
        """The row of an information state."""
        return getattr(seen, self.row)

    def values(self, label: str, count: int) -> np.ndarray:
        """The logits of a row, made when it is first met; shape (count,)."""
        if label not in self.logits:
            self.logits[label] = self.initial(label, count)
        return self.logits[label]

    def initial(self, label: str, count: int) -> np.ndarray:
        """The logits that a row begins with; shape (count,)."""
        return np.array(self.start.get(label, np.zeros(count)), dtype=float)

    def probabilities(self) -> Table:
        """All rows met so far as probabilities."""
        return {label: _softmax(values) for label, values in self.logits.items()}

    def policy(self) -> TabularPolicy:
        """This policy as an agent that makes rows as it meets states."""
        return _LogitPolicy(self)


class _LogitPolicy(TabularPolicy):
    def __init__(self, logits: Logits) -> None:
        super().__init__("tabular", {}, logits.label)
        self.logits = logits

    def identity(self) -> str:
        known = {**self.logits.start, **self.logits.logits}
        rows = {label: _softmax(values) for label, values in known.items()}
        return OpenTable(self.name, rows, self.row, self.logits.row).identity()

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        return [_softmax(self.logits.values(self.row(s), len(s.legal_actions))) for s in seen]


def _softmax(values: np.ndarray) -> np.ndarray:
    shifted = np.exp(values - values.max())
    return shifted / shifted.sum()


def sampled_gradient(
    taken: TrainingStep,
    logits: Logits,
    seed: int,
    number: int,
    exploiters: Exploiters | None = None,
    opponents: Mapping[str, Policy] | None = None,
) -> Table:
    """One estimate of the gradient of J with respect to the logits, in units of J: step ``number`` of ``taken``, which
    keeps what was played.

    Parameters
    ----------
    exploiters
        Keeps the best responses from step to step, where the settings want some; None: only this step's.
    opponents
        Policies by name that are none of the game's strategies.

    Returns
    -------
    dict
        Row label -> array, shape (A,): the sum over decisions of advantage * grad log pi, divided by the rollouts
        per opponent and multiplied by the batch's scale, which training leaves out.
    """
    settings = taken.settings
    recorder = _Recorder(logits)
    exploiters = exploiters or Exploiters(taken.game, settings, logits.row)
    others = {**(opponents or {}), **exploiters.renewed(logits.policy(), number)}
    if "self" in taken.opponents:
        others["self"] = recorder
    episodes = play_matches(
        taken.game,
        recorder,
        taken.matches,
        seed,
        opponents=others,
        step=number,
        common_random_numbers=settings.common_random_numbers,
    )
    credit = taken.learn(episodes, exploiters.gain)
    count = settings.rollouts * settings.groups
    gradient: Table = {}
    advantages = iter(credit.advantage)
    for episode in episodes:
        for decision in episode.decisions:
            advantage = next(advantages)
            if advantage == 0.0:
                continue
            seen, probabilities = recorder.met[decision.information]
            label = logits.label(seen)
            score = -probabilities * advantage
            score[seen.legal_actions.index(decision.action)] += advantage
            gradient[label] = gradient.get(label, 0.0) + score
    factor = credit.scale / count
    return {label: values * factor for label, values in gradient.items()}


class Reference:
    """The policy that the KL penalty pulls towards: ``logits`` as they were when it was last renewed."""

    def __init__(self, logits: Logits) -> None:
        self.logits = logits
        self.held: Table = {}

    def renew(self) -> None:
        """Move it to the policy."""
        self.held = {label: row.copy() for label, row in self.logits.logits.items()}

    def pull(self, taken: TrainingStep) -> Table:
        """The gradient of minus KL(policy, reference) with respect to the logits, exact at each state where the last
        step of ``taken`` trained a decision, in sum over them, divided by the rollouts per opponent."""
        decisions = [d for episode in taken.episodes for d in episode.decisions]
        trained = zip(decisions, taken.credit.trained, strict=True)
        visits = Counter(self.logits.rows[d.information] for d, counts in trained if counts)
        count = taken.settings.rollouts * taken.settings.groups
        gradient = {}
        for label, times in visits.items():
            row = self.logits.logits[label]
            policy = _softmax(row)
            ratio = np.log(policy) - np.log(
                _softmax(self.held.get(label, self.logits.initial(label, len(row))))
            )
            gradient[label] = -policy * (ratio - policy @ ratio) * times / count
        return gradient


class _Recorder(_LogitPolicy):
    """Keeps, by key, the states it was asked about and what it answered."""

    def __init__(self, logits: Logits) -> None:
        super().__init__(logits)
        self.met: dict[str, tuple[InformationState, np.ndarray]] = {}

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        found = super().distributions(seen)
        self.met.update((s.key, (s, p)) for s, p in zip(seen, found, strict=True))
        self.logits.rows.update((s.key, self.logits.label(s)) for s in seen)
        return found


def train_tabular(
    game: Game | str,
    settings: TabularSettings,
    seed: int = 0,
    start: Mapping[str, Sequence[float]] | None = None,
) -> TabularRun:
    """Train a tabular softmax policy with Adam on sampled gradients, and evaluate it exactly on the way.

    Opponents are strategies of the game, the best responses that ``settings`` ask for, and ``self``.

    Raises
    ------
    ValueError
        Unknown game, or information states without the label ``settings.row``.
    """
    game = get_game(game)
    logits = Logits(game, settings.row, start)
    taken = TrainingStep(game, settings)
    exploiters = Exploiters(game, settings, settings.row)
    reference = Reference(logits)
    adam = _Adam(settings.learning_rate, settings.steps if settings.schedule == "linear" else None)
    rows = []
    for number in range(settings.steps):
        if number % settings.log_every == 0:
            rows.append(_evaluation(game, logits, taken.weights, number))
        gradient = sampled_gradient(taken, logits, seed, number, exploiters)
        step = {label: g / taken.credit.scale for label, g in gradient.items()}
        if settings.beta:
            for label, pull in reference.pull(taken).items():
                step[label] = step.get(label, 0.0) + settings.beta * pull
        adam.ascend(logits.logits, step)
        if settings.renew_reference_every and (number + 1) % settings.renew_reference_every == 0:
            reference.renew()
    rows.append(_evaluation(game, logits, taken.charged, settings.steps))
    return TabularRun(
        logits.probabilities(), pd.DataFrame(rows).astype({"worst_case": float, "guaranteed": float})
    )


def _evaluation(game: Game, logits: Logits, weights: Weights, step: int) -> dict:
    agent = logits.policy()
    found = exact.terms(game, agent)
    with suppress(exact.Forgets):  # then nobody knows it
        found = replace(found, worst_case=best_response(game, agent, logits.row)[1])
    return {
        "step": step,
        **dict(zip(TERMS, row_of(found).tolist(), strict=True)),
        "robust": found.robust,
        "safety": objective(game.spec, found, game.spec.eval_weights),
        "worst_case": found.worst_case,
        "guaranteed": guaranteed(game.spec, found, game.spec.eval_weights),
        "weight_exploit": weights.exploit,
        "weight_collusion": weights.collusion,
        "weight_externality": weights.externality,
    }


class _Adam:
    """Adam (Kingma and Ba 2015) on a table of arrays, ascending."""

    def __init__(
        self, rate: float, falls: int | None = None, first: float = 0.9, second: float = 0.999
    ) -> None:
        self.rate, self.falls, self.first, self.second = rate, falls, first, second
        self.steps = 0
        self.means: Table = {}
        self.squares: Table = {}

    def ascend(self, values: Table, gradient: Table) -> None:
        """Move every row of ``values`` along its gradient; rows without one coast on their momentum."""
        rate = self.rate * (1 - self.steps / self.falls) if self.falls else self.rate
        self.steps += 1
        for label, row in values.items():
            g = gradient.get(label, 0.0)
            self.means[label] = self.first * self.means.get(label, 0.0) + (1 - self.first) * g
            self.squares[label] = self.second * self.squares.get(label, 0.0) + (1 - self.second) * np.square(
                g
            )
            mean = self.means[label] / (1 - self.first**self.steps)
            square = self.squares[label] / (1 - self.second**self.steps)
            row += rate * mean / (np.sqrt(square) + 1e-8)
