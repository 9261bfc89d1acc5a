"""What an audit plays and computes: the agent, of any kind, against everyone there is to sit opposite.

The pools, the strategies outside them, itself, the held-out suites, an adversary fitted to its play and one that learns
against it; where the agent states its distributions the worst case is computed as well. One part is one function of a
``Case``; what becomes of its result is ``audit.py``'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sepo_kit import exact
from sepo_kit.adversaries.fitted import fitted
from sepo_kit.adversaries.gain import measured_gain
from sepo_kit.engine.episode import Episode, decision_frame, round_frame
from sepo_kit.engine.policy import (
    NoDistribution,
    Policy,
    StrategyPolicy,
    TabularPolicy,
    first_information,
)
from sepo_kit.engine.rollout import Match, play_matches
from sepo_kit.evaluation.archive import Recording, read_match
from sepo_kit.evaluation.attack import AdversarySettings, train_adversary
from sepo_kit.evaluation.cross_play import against
from sepo_kit.evaluation.evaluate import Report, evaluate
from sepo_kit.evaluation.held_out import held_out
from sepo_kit.evaluation.statistics import over_seeds
from sepo_kit.games.base import Game

SUITES = {
    "ipd": ("axelrod",),
    "kuhn": ("openspiel",),
}  # of adversaries from elsewhere; "strategies" for every game
EXACT = "exact"  # where an adversary comes from that is the worst there is
SUITE_EPISODES = 20  # against each adversary of a suite, where nothing else is said
LIKELY_MOVES = 5_000  # per layer of the tree, where all of it is too much


@dataclass(frozen=True)
class AuditSettings:
    """How much is played.

    ``episodes``: against each opponent. ``fresh``: in which the gain of a fitted adversary is measured, ``episodes`` at
    most of an agent behind a server. ``suite_episodes``: against each adversary of a held-out suite, ``learner_steps``:
    of an adversary that learns, 0 for none; None: their usual number, and none where a server would have to be asked.
    ``matches``: to read, per game and reason. ``seed``: the run seed.
    """

    episodes: int = 100
    fresh: int = 1_000
    suite_episodes: int | None = None
    learner_steps: int | None = None
    matches: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"episodes": 2, "fresh": 2, "suite_episodes": 0, "learner_steps": 0, "matches": 0, "seed": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if name in ("suite_episodes", "learner_steps") and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"{name} must be a whole number >= {low}, got {value!r}")
        if self.suite_episodes == 1:
            raise ValueError("suite_episodes must be 0 or >= 2: one episode has no interval")


QUICK = AuditSettings(episodes=10, fresh=50, suite_episodes=0, learner_steps=10)


class NotTried(Exception):
    """A part that says nothing of this agent; the message says why."""


class Missing(NotTried):
    """A part that needs what is not there today, such as a library: it is tried again the next time."""


@dataclass
class Case:
    """One agent in one game, as the parts see it."""

    game: Game
    agent: Policy
    settings: AuditSettings
    folder: Path
    on_round: Callable[[int], None]

    @cached_property
    def states_distributions(self) -> bool:
        """Whether the agent says how likely it plays what, and not only plays."""
        try:
            self.agent.distributions([first_information(self.game)])
        except NoDistribution:
            return False
        return True

    @cached_property
    def sampled(self) -> Report:
        """The agent against the pools, played."""
        return evaluate(
            self.agent, self.game, self.settings.episodes, self.settings.seed, on_round=self.on_round
        )

    @property
    def paid(self) -> bool:
        """Whether every question to the agent is one to a server."""
        return hasattr(self.agent, "usage")

    @property
    def cheap(self) -> bool:
        """Whether asking the agent costs next to nothing."""
        return isinstance(self.agent, StrategyPolicy | TabularPolicy)


# --- the parts ------------------------------------------------------------------------------------


def _pools(case: Case) -> dict[str, Any]:
    exactly = case.game.spec.few_states and case.states_distributions
    report = evaluate(case.agent, case.game, exact=True) if exactly else case.sampled
    episodes = case.sampled.episodes
    pairs = list(dict.fromkeys((e.pool, e.opponent) for e in episodes))
    return {
        "exactly": exactly,
        "weights": asdict(report.weights),
        "terms": asdict(report.terms),
        "metrics": [{"metric": name, **asdict(e)} for name, e in report.estimates.items()],
        "adversaries": [
            _adversary(opponent, f"pool {pool}", _leads(episodes, pool, opponent)) for pool, opponent in pairs
        ],
        "matches": _matches(case, episodes),
    }


def _outside(case: Case) -> dict[str, Any]:
    pools = {name for _, name in case.game.opponents}
    outside = [name for name in case.game.strategies if name not in pools]
    if not outside:
        raise NotTried("every strategy of the game is in its pools")
    todo = [Match("outside", name, index) for name in outside for index in range(case.settings.episodes)]
    episodes = play_matches(
        case.game, case.agent, todo, case.settings.seed, common_random_numbers=False, on_round=case.on_round
    )
    return {
        "adversaries": [_adversary(name, "strategy", _leads(episodes, "outside", name)) for name in outside]
    }


def _self(case: Case) -> dict[str, Any]:
    (row,) = against(
        case.agent, {"self": case.agent}, case.game, case.settings.episodes, case.settings.seed
    ).to_dict("records")
    return {"row": row}


def _worst_case(case: Case) -> dict[str, Any]:
    if not case.states_distributions:
        raise NotTried("the agent answers in free text and states no distribution")
    spec = case.game.spec
    if spec.few_states or case.cheap:
        try:
            value = exact.worst_case(case.game, case.agent).advantage
            return {
                "value": value,
                "exactly": True,
                "adversaries": [_named("worst case", EXACT, value, value, value)],
            }
        except exact.Unsolvable:
            pass
    if case.paid:
        raise NotTried("a server would have to be asked at thousands of information states")
    most = LIKELY_MOVES if case.cheap else LIKELY_MOVES // 10
    try:
        _, value = exact.likely_best_response(case.game, case.agent, most)
    except exact.Forgets as reason:
        raise NotTried(str(reason)) from None
    if value <= 0:
        raise NotTried("the tree is too large, and what can be searched of it proves nothing")
    found = _named("best response in the likeliest part of the tree", "lower bound", value, value, None)
    return {"value": value, "exactly": False, "adversaries": [found]}


def _fitted(case: Case) -> dict[str, Any]:
    adversary = fitted(case.game, case.sampled.episodes, agent=case.agent)
    fresh = min(case.settings.fresh, case.settings.episodes) if case.paid else case.settings.fresh
    gain = measured_gain(case.game, case.agent, adversary, fresh, case.settings.seed)
    return {"adversaries": [_named("fitted to its play", "fitted", gain.value, gain.low, gain.high, gain.n)]}


def _held_out(case: Case) -> dict[str, Any]:
    suites = SUITES.get(case.game.spec.id, ())
    if not suites:
        raise NotTried("no suite from elsewhere plays this game")
    episodes = case.settings.suite_episodes
    if episodes is None and case.paid:
        raise NotTried(
            "a server is asked for every decision against each of a suite: give the episodes to pay for"
        )
    if episodes == 0:
        raise NotTried("left out by choice")
    episodes, found = episodes or SUITE_EPISODES, []
    for suite in suites:
        try:
            frame = held_out(case.agent, case.game, suite, episodes, case.settings.seed).frame
        except ValueError as error:  # its library is not installed
            raise Missing(str(error)) from None
        found += [
            _named(r.adversary, f"suite {suite}", r.gain, r.low, r.high, r.episodes)
            for r in frame.itertuples()
        ]
    return {"adversaries": found}


def _learned(case: Case) -> dict[str, Any]:
    steps = case.settings.learner_steps
    if steps is None and case.paid:
        raise NotTried("a server is asked for every decision a learner meets: give the steps to pay for")
    if steps == 0:
        raise NotTried("left out by choice")
    training = AdversarySettings() if steps is None else AdversarySettings(steps=steps, check_every=steps)
    if case.paid:
        training = replace(training, episodes=8, check_episodes=max(2, case.settings.episodes))
    folder = case.folder / "learned" / case.game.spec.id
    last = train_adversary(case.agent, case.game, folder, training, case.settings.seed).curve.iloc[-1]
    gain, low, high = (float(last[name]) for name in ("gain", "low", "high"))
    return {
        "adversaries": [_named("learned against it", "learned", gain, low, high, training.check_episodes)]
    }


PARTS: dict[str, Callable[[Case], dict[str, Any]]] = {
    "pools": _pools,
    "outside": _outside,
    "self": _self,
    "worst-case": _worst_case,
    "fitted": _fitted,
    "held-out": _held_out,
    "learned": _learned,
}


# --- adversaries ----------------------------------------------------------------------------------


def _named(
    name: str, source: str, lead: float, low: float | None, high: float | None, episodes: int | None = None
) -> dict[str, Any]:
    """One adversary: how much more than the agent it earns per round, with an interval; ``high`` None: unknown.
    ``episodes``: in how many that was measured; None: it was computed."""
    return {"name": name, "source": source, "lead": lead, "low": low, "high": high, "episodes": episodes}


def _adversary(name: str, source: str, leads: Sequence[float]) -> dict[str, Any]:
    estimate = over_seeds(leads)  # a t interval, here over episodes
    return _named(name, source, estimate.value, estimate.low, estimate.high, len(leads))


def _leads(episodes: Sequence[Episode], pool: str, opponent: str) -> list[float]:
    """By how much the opponent out-earned the agent per round, by episode."""
    return [_lead(e) for e in episodes if (e.pool, e.opponent) == (pool, opponent)]


def _lead(episode: Episode) -> float:
    return float(np.mean(episode.their) - np.mean(episode.own))


# --- matches to read ------------------------------------------------------------------------------

WHY: dict[str, Callable[[Episode], float]] = {
    "the agent lost most": _lead,
    "most collusion": lambda episode: float(np.mean(episode.collusion)),
    "most harm to others": lambda episode: float(np.mean(episode.externality)),
    "most replies that could not be read": lambda episode: sum(d.fallback for d in episode.decisions),
}


def _matches(case: Case, episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """The episodes in which it went worst, move by move."""
    found, taken = [], set()
    for why, badness in WHY.items():
        worst = sorted(range(len(episodes)), key=lambda i: -badness(episodes[i]))
        fresh = [i for i in worst if i not in taken and badness(episodes[i]) > 0][: case.settings.matches]
        taken |= set(fresh)
        found += [_match(why, episodes[i]) for i in fresh]
    return found


def _match(why: str, episode: Episode) -> dict[str, Any]:
    told = read_match(
        Recording(decision_frame([episode]), round_frame([episode])),
        episode.pool, episode.opponent, episode.group, episode.index,
    )  # fmt: skip
    columns = [
        name for name in ("round", "who", "prompt", "reply", "action", "reason", "fallback") if name in told
    ]
    return {
        "why": why,
        "pool": episode.pool,
        "opponent": episode.opponent,
        "index": episode.index,
        "own": float(np.mean(episode.own)),
        "their": float(np.mean(episode.their)),
        "moves": json.loads(told[columns].to_json(orient="records")),
    }
