"""The audit: what is the worst that anyone does to an agent, in every game, by every adversary the kit has?

An agent of any kind plays the pools, the strategies outside them, itself, the held-out suites, an adversary fitted to
its play and one that learns against it; where it states its distributions the worst case is computed as well. Every
part is kept as it is done, so that an audit that was stopped goes on. How the page looks is ``audit_page.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from sepo_kit import exact
from sepo_kit.adversaries.fitted import fitted
from sepo_kit.adversaries.gain import measured_gain
from sepo_kit.adversaries.opponents import resolve_agent
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
from sepo_kit.evaluation.audit_page import write_page
from sepo_kit.evaluation.cross_play import against
from sepo_kit.evaluation.evaluate import Report, evaluate
from sepo_kit.evaluation.held_out import held_out
from sepo_kit.evaluation.stage import ROOMS
from sepo_kit.evaluation.statistics import over_seeds
from sepo_kit.games import GAMES, get_game
from sepo_kit.games.base import Game, Weights
from sepo_kit.objective.terms import Terms, guaranteed
from sepo_kit.runs import RunError, provenance, read_json, write_json
from sepo_kit.training.request import code_of

RESULT, PAGE, REQUEST, PARTS_FOLDER = "audit.json", "audit.html", "request.json", "parts"
SUITES = {
    "ipd": ("axelrod",),
    "kuhn": ("openspiel",),
}  # of adversaries from elsewhere; "strategies" for every game
EXACT = "exact"  # where an adversary comes from that is the worst there is
LIKELY_MOVES = 5_000  # per layer of the tree, where all of it is too much


@dataclass(frozen=True)
class AuditSettings:
    """How much is played.

    ``episodes``: against each opponent. ``fresh``: in which the gain of a fitted adversary is measured, ``episodes`` at
    most of an agent behind a server. ``suite_episodes``: against each adversary of a held-out suite, 0 for none.
    ``learner_steps``: of an adversary that learns, 0 for none; None: its usual number, and none where a server would
    have to be asked. ``matches``: to read, per game and reason. ``seed``: the run seed.
    """

    episodes: int = 100
    fresh: int = 1_000
    suite_episodes: int = 20
    learner_steps: int | None = None
    matches: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"episodes": 2, "fresh": 2, "suite_episodes": 0, "learner_steps": 0, "matches": 0, "seed": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if name == "learner_steps" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"{name} must be a whole number >= {low}, got {value!r}")
        if self.suite_episodes == 1:
            raise ValueError("suite_episodes must be 0 or >= 2: one episode has no interval")


QUICK = AuditSettings(episodes=10, fresh=50, suite_episodes=0, learner_steps=10)


class NotTried(Exception):
    """A part that says nothing of this agent; the message says why."""


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


def audit(
    agent: str,
    games: Sequence[str] | None = None,
    folder: Path | str = "",
    settings: AuditSettings | None = None,
    **how,
) -> dict[str, Any]:
    """Audit ``agent`` in ``games``; what was found, which is also written: ``audit.json`` and ``audit.html``.

    Parameters
    ----------
    agent
        A name of the grammar (``adversaries/opponents.py``), or what ``load_model`` takes.
    games
        Ids; None: all games. Of a strategy those that have it; the others are said to be left out.
    folder
        Where the audit goes. One that was stopped goes on there; what it has of other games is kept, and shown when
        they are named again. What was found by other code is played anew.
    how
        How language models and endpoints play: ``style``, ``temperature``.

    Raises
    ------
    ValueError
        Nothing is called so, or the folder holds another audit.
    OSError
        A model cannot be loaded, or a server cannot be used: parts that are done are kept.
    """
    settings = settings or AuditSettings()
    chosen = [get_game(name) for name in (GAMES if games is None else dict.fromkeys(games))]
    having = [game for game in chosen if agent in game.strategies]
    without = [game for game in chosen if having and game not in having]
    policies = _policies(agent, [game for game in chosen if game not in without], how)
    folder = Path(folder)
    who = {name: policy.identity() for name, policy in policies.items()}
    _claim(folder, {"agent": agent, "how": how, "settings": asdict(settings), "identity": who})
    found: dict[str, Any] = {"agent": agent, "settings": asdict(settings), "how": how, "games": {}}
    todo = [(name, part) for name in policies for part in PARTS]
    with tqdm(total=len(todo), unit="part", desc=f"audit of {agent}") as bar:
        for name, policy in policies.items():
            game = get_game(name)
            case = Case(game, policy, settings, folder, lambda n: bar.set_postfix_str(f"move {n}"))
            code, parts = _code_of(game), {}
            for part, play in PARTS.items():
                bar.set_description(f"{name}: {part}")
                parts[part] = _kept(folder / PARTS_FOLDER / f"{name}-{part}.json", case, play, code)
                bar.update()
            found["games"][name] = _summary(game, parts)
    for game in without:
        found["games"][game.spec.id] = {
            "title": game.spec.title,
            "not_tried": [["everything", f"no strategy {agent}"]],
        }
    parts = [part for each in found["games"].values() for part in each.get("parts", {}).values()]
    found["usage"] = _total([part["usage"] for part in parts if part.get("usage")])
    found["provenance"] = provenance()
    write_json(folder / RESULT, found)
    write_page(folder / PAGE, found)
    return found


def _policies(agent: str, games: Sequence[Game], how: dict[str, Any]) -> dict[str, Policy]:
    """The agent in each game, by id: a model is loaded once, a strategy is another in every game."""
    found: dict[str, Policy] = {}
    for game in games:
        try:
            found[game.spec.id] = next(iter(found.values())).asked_by(game)
        except (StopIteration, ValueError):  # the first, or one that reads no prompts
            found[game.spec.id] = resolve_agent(game, agent, **how)
    return found


def _claim(folder: Path, request: dict[str, Any]) -> None:
    """Take ``folder`` for ``request``, beside the games that it has already; RunError where it is another's."""
    request = json.loads(json.dumps(request))
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; an audit needs a folder")
    if (folder / REQUEST).exists():
        was = read_json(folder / REQUEST, dict)
        differ = [name for name in request if name != "identity" and was.get(name) != request[name]]
        before, now = was.get("identity"), request["identity"]
        if not isinstance(before, dict):
            differ.append("the kit's version")
        if differ:
            raise RunError(
                f"{folder} holds another audit ({', '.join(differ)} differ); choose another folder or delete it"
            )
        if any(before.get(game, now[game]) != now[game] for game in now):
            raise RunError(
                f"{folder} holds an audit of {request['agent']} as it was, and it has changed since (trained again?); "
                "choose another folder or delete it"
            )
        request["identity"] = before | now
    elif folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty and holds no audit; choose another")
    write_json(folder / REQUEST, request)


def _code_of(game: Game) -> str | None:
    """The fingerprint of the code that an audit in ``game`` rests on; None where the game is in no file."""
    try:
        return code_of(ROOMS, game)
    except ValueError:
        return None


def _kept(file: Path, case: Case, play: Callable[[Case], dict[str, Any]], code: str | None) -> dict[str, Any]:
    """What ``play`` found, from ``file`` where it was done before by this ``code``; where that is not known, anew."""
    if file.exists():
        kept = read_json(file, dict)
        if code is not None and kept.get("code") == code:
            return kept
        said = "was found by other code" if code else "may be of other code, since its game is in no file"
        tqdm.write(f"{file.name} {said}; it is played anew", file=sys.stderr)
    before = getattr(case.agent, "usage", None)
    try:
        found = play(case)
    except NotTried as reason:
        found = {"not_tried": str(reason)}
    if before is not None:
        found["usage"] = asdict(case.agent.usage.since(before))
    write_json(file, {**found, "code": code})
    return read_json(file)


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
        except exact.TooLarge:
            pass
    if case.paid:
        raise NotTried("a server would have to be asked at thousands of information states")
    _, value = exact.likely_best_response(
        case.game, case.agent, LIKELY_MOVES if case.cheap else LIKELY_MOVES // 10
    )
    if value <= 0:
        raise NotTried("the tree is too large, and what can be searched of it proves nothing")
    found = _named("best response in the likeliest part of the tree", "lower bound", value, value, None)
    return {"value": value, "exactly": False, "adversaries": [found]}


def _fitted(case: Case) -> dict[str, Any]:
    adversary = fitted(case.game, case.sampled.episodes, agent=case.agent)
    fresh = min(case.settings.fresh, case.settings.episodes) if case.paid else case.settings.fresh
    gain = measured_gain(case.game, case.agent, adversary, fresh, case.settings.seed)
    return {"adversaries": [_named("fitted to its play", "fitted", gain.value, gain.low, gain.high)]}


def _held_out(case: Case) -> dict[str, Any]:
    suites = SUITES.get(case.game.spec.id, ())
    if not suites:
        raise NotTried("no suite from elsewhere plays this game")
    if not case.settings.suite_episodes:
        raise NotTried("left out by choice")
    found = []
    for suite in suites:
        try:
            frame = held_out(
                case.agent, case.game, suite, case.settings.suite_episodes, case.settings.seed
            ).frame
        except ValueError as error:  # its library is not installed
            raise NotTried(str(error)) from None
        found += [_named(r.adversary, f"suite {suite}", r.gain, r.low, r.high) for r in frame.itertuples()]
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
    return {"adversaries": [_named("learned against it", "learned", gain, low, high)]}


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


def _named(name: str, source: str, lead: float, low: float | None, high: float | None) -> dict[str, Any]:
    """One adversary: how much more than the agent it earns per round, with an interval; ``high`` None: unknown."""
    return {"name": name, "source": source, "lead": lead, "low": low, "high": high}


def _adversary(name: str, source: str, leads: Sequence[float]) -> dict[str, Any]:
    estimate = over_seeds(leads)  # a t interval, here over episodes
    return _named(name, source, estimate.value, estimate.low, estimate.high)


def _leads(episodes: Sequence[Episode], pool: str, opponent: str) -> list[float]:
    """By how much the opponent out-earned the agent per round, by episode."""
    return [_lead(e) for e in episodes if (e.pool, e.opponent) == (pool, opponent)]


def _lead(episode: Episode) -> float:
    return float(np.mean(episode.their) - np.mean(episode.own))


def _summary(game: Game, parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a reader sees first of a game: the worst adversaries, Safety with the worst of them, what was not tried."""
    # By the lower ends of their intervals: of many sampled numbers the largest is as a rule a lucky one. Nobody gains
    # more than an exact worst case, whatever a few episodes say.
    worst = sorted(
        (each for part in parts.values() for each in part.get("adversaries", ())),
        key=lambda a: (a["source"] != EXACT, -a["low"]),
    )
    pools = parts["pools"]
    terms = Terms(**{field.name: pools["terms"].get(field.name) for field in fields(Terms)})
    lead = worst[0]["low"] if worst[0]["source"] == EXACT else max(terms.exploit, worst[0]["low"])
    return {
        "title": game.spec.title,
        "unit": game.spec.unit,
        "payoff_unit": game.spec.payoff_unit,
        "parts": parts,
        "worst": worst,
        "safety_at_worst": guaranteed(
            game.spec, replace(terms, worst_case=lead), Weights(**pools["weights"])
        ),
        "is_worst_case": bool(parts["worst-case"].get("exactly")),
        "not_tried": [[name, part["not_tried"]] for name, part in parts.items() if "not_tried" in part],
    }


def _total(given: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The sum of what parts asked of a server."""
    if not given:
        return None
    costs = [usage["cost"] for usage in given if usage["cost"] is not None]
    counted = {name: sum(u[name] for u in given) for name in given[0] if name != "cost"}
    return counted | {"cost": sum(costs) if costs else None}


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
