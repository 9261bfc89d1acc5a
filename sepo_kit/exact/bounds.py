"""Bounds on the worst case where it cannot be computed: the tree is too large, or the agent answers in text.

From above and below: backward induction over the likeliest part of the tree, all that was left out counted
as if the adversary then won, or lost, the most a round allows. From below also: an adversary of finite memory, found
by sampled policy iteration from the game's own strategies, enumerated against the agent where that is feasible, else
played against it in fresh episodes, less a confidence bound. A bound is a bound, not an estimate: the truth may be
far from either.

Source: Sutton and Barto, Reinforcement Learning (2018), chapter 5, for Monte Carlo control; Maurer and Pontil,
Empirical Bernstein bounds and sample variance penalization (2009), theorem 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from sepo_kit.engine.graph import MOST_NODES, StateGraph
from sepo_kit.engine.policy import NoDistribution, Policy, draw, scripted, tabular
from sepo_kit.exact.answers import Answers, Seen
from sepo_kit.exact.ascent import OpenTable
from sepo_kit.exact.best_response import best_replies, require_recall
from sepo_kit.exact.tree import AGENT, OPPONENT, Step, TooLarge, Tree, means
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState, State

ITERATIONS = 6  # of sampled policy iteration
EXPLORATION = 0.2  # share of random replies while an adversary is looked for


@dataclass(frozen=True)
class WorstCaseBounds:
    """What is known of the most that any adversary gains on an agent; units as in ``WorstCase.advantage``.

    Attributes
    ----------
    lower, upper
        Bounds on the worst case's ``advantage``, per round (per hand in Kuhn poker).
    lower_from
        Where ``lower`` comes from: "tree" (backward induction, the rest counted as lost), "enumerated" (what
        ``adversary`` gains, exactly) or "sampled" (what it gained in fresh episodes, less a confidence bound).
    confidence
        Probability with which ``lower`` holds: 1 unless it was sampled. ``upper`` always holds.
    outside
        Probability that play against the most optimistic adversary leaves the part of the tree that was searched:
        0 where both bounds are the exact value, 1 where nothing was searched.
    adversary
        The best adversary of finite memory that was found, a policy of seat 1; it need not attain ``lower``
        where that is from the tree.
    """

    agent: str
    game: Game = field(repr=False)
    lower: float
    upper: float
    lower_from: str
    confidence: float
    outside: float
    adversary: Policy = field(repr=False)


def worst_case_bounds(
    game: Game | str,
    agent: Policy,
    *,
    row: str | None = None,
    max_states: int = 20_000,
    episodes: int = 2_000,
    search_episodes: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> WorstCaseBounds:
    """Bounds on ``worst_case(game, agent).advantage`` for any agent and any game.

    Parameters
    ----------
    agent
        Any policy of seat 0. One that cannot state a distribution is sampled; its upper bound is then the most
        that a round allows.
    row
        Attribute of the game's information state that is all an adversary of finite memory goes by; default
        its ``label``.
    max_states
        Size of the part of the tree to search, in moves per layer and in states to enumerate.
    episodes
        Fresh episodes to test the adversary of finite memory in, where it cannot be enumerated.
    search_episodes
        Episodes to compare adversaries by while one is looked for; some 70 times as many are played in all.
    confidence, seed
        Of the sampled lower bound; of all sampling.

    Raises
    ------
    ValueError
        A parameter is out of range, or the game's information states have no label ``row``.
    """
    game = get_game(game)
    _check(max_states, episodes, search_episodes, confidence)
    if row is None:
        row = "label"
    tabular(game, {}, row=row)  # refuses an unknown row
    most = game.spec.payoff_bounds[1] - game.spec.payoff_bounds[0]
    sampler = _Sampler(game, agent, np.random.default_rng(seed))
    adversary = _search(sampler, row, search_episodes)
    lower, lower_from, holds = _proven(sampler, adversary, max_states, episodes, confidence, most)
    upper, outside = most, 1.0
    try:
        steps = _likely_part(game, agent, max_states)
    except NoDistribution:
        steps = None
    if steps is not None:
        rounds = game.spec.rounds

        def left(state: State) -> float:
            return most * (1 if game.spec.independent_rounds else rounds - state.round)

        lost = best_replies(steps, lambda state: -left(state))
        won = best_replies(steps, left)
        upper, outside = won.lead / rounds, min(1.0, won.outside)
        if lost.lead / rounds >= lower:
            lower, lower_from, holds = lost.lead / rounds, "tree", 1.0
            rows = {label: values for replies in lost.replies for label, values in replies.rows().items()}
            adversary = OpenTable(f"worst case found for {agent.name}", rows, lambda seen: seen.key)
    return WorstCaseBounds(agent.name, game, lower, upper, lower_from, holds, outside, adversary)


def _check(max_states: int, episodes: int, search_episodes: int, confidence: float) -> None:
    whole = (
        ("max_states", max_states, 1),
        ("episodes", episodes, 2),
        ("search_episodes", search_episodes, 1),
    )
    for name, value, low in whole:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"{name} must be a whole number >= {low}, got {value!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}")


def _likely_part(game: Game, agent: Policy, max_moves: int) -> list[Step]:
    """What the agent and nature most likely lead to, up to ``max_moves`` moves per layer."""
    tree = Tree(game, Seen())
    steps = tree.reach_likely(Answers(tree.seen, agent), max_moves)
    require_recall(tree)
    return steps


# --- an adversary of finite memory ----------------------------------------------------------------


def _search(sampler: _Sampler, row: str, episodes: int) -> Policy:
    """The best adversary of some that are tried: the game's strategies, and what sampled policy iteration makes
    of the best of them, one reply per label ``row``."""
    game = sampler.game
    tried = [scripted(game, strategy) for strategy in game.strategies]
    gained = [sampler.play(adversary, episodes).mean() for adversary in tried]
    for number in range(ITERATIONS):
        worth = _Worth(lambda seen: getattr(seen, row))
        sampler.play(tried[int(np.argmax(gained))], 4 * episodes, EXPLORATION, worth)
        tried.append(
            OpenTable(f"adversary with row={row!r}, iteration {number + 1}", worth.greedy(), worth.row)
        )
        gained.append(sampler.play(tried[-1], episodes).mean())
    return tried[int(np.argmax(gained))]


def _proven(
    sampler: _Sampler, adversary: Policy, max_states: int, episodes: int, confidence: float, most: float
) -> tuple[float, str, float]:
    """A lower bound on what ``adversary`` gains per round, where it comes from and how surely it holds."""
    seen = Seen()
    tree = Tree(sampler.game, seen, adversary)
    try:
        own, their, *_ = means(tree, Answers(seen, sampler.agent), max_states, "")
        return float(their - own), "enumerated", 1.0
    except (TooLarge, NoDistribution):
        gained = sampler.play(adversary, episodes)
    doubt = math.log(2 / (1 - confidence))
    spread = math.sqrt(2 * gained.var(ddof=1) * doubt / episodes)
    slack = 7 * (2 * most) * doubt / (3 * (episodes - 1))
    return max(-most, float(gained.mean()) - spread - slack), "sampled", confidence


class _Worth:
    """Mean return of every action at every label ``row`` of the adversary's information states."""

    def __init__(self, row: Callable[[InformationState], str]) -> None:
        self.row = row
        self.sums: dict[str, np.ndarray] = {}
        self.counts: dict[str, np.ndarray] = {}

    def add(self, seen: InformationState, action: int, gained: float) -> None:
        label, actions = self.row(seen), len(seen.legal_actions)
        self.sums.setdefault(label, np.zeros(actions))[action] += gained
        self.counts.setdefault(label, np.zeros(actions))[action] += 1

    def greedy(self) -> dict[str, np.ndarray]:
        """The action of the highest mean return at every label, as rows."""
        table = {}
        for label, sums in self.sums.items():
            counts = self.counts[label]
            mean = np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)
            table[label] = np.eye(len(mean))[mean.argmax()]
        return table


class _Sampler:
    """Plays ``agent`` in seat 0 against adversaries, many episodes abreast."""

    def __init__(self, game: Game, agent: Policy, rng: np.random.Generator) -> None:
        self.game, self.agent, self.rng = game, agent, rng
        self._graph = StateGraph(game)
        self._known: dict[InformationState, list[float]] | None = {}

    def play(
        self, adversary: Policy, episodes: int, exploration: float = 0.0, worth: _Worth | None = None
    ) -> np.ndarray:
        """How much more than the agent ``adversary`` earned per round, shape (episodes,).

        With probability ``exploration`` it replies at random. ``worth`` takes in what each of its replies led to.
        """
        if len(self._graph) > MOST_NODES:
            self._graph = StateGraph(self.game)
        spec, known = self.game.spec, {}
        nodes = [self._graph.root] * episodes
        lead = np.zeros(episodes)
        pending: list[list[tuple[InformationState, int, float]]] = [[] for _ in nodes]

        def settle(i: int) -> None:
            if worth is not None:
                for view, reply, before in pending[i]:
                    worth.add(view, reply, lead[i] - before)
            pending[i].clear()

        live = list(range(episodes))
        while live:
            asked = [i for i in live if OPPONENT in nodes[i].actors]
            views = [nodes[i].seen[OPPONENT] for i in asked]
            replies = self._replies(adversary, views, exploration, known)
            for i, view, reply in zip(asked, views, replies):
                pending[i].append((view, reply, lead[i]))
            moves = {
                AGENT: iter(self._answers([nodes[i].seen[AGENT] for i in live if AGENT in nodes[i].actors])),
                OPPONENT: iter([view.legal_actions[reply] for view, reply in zip(views, replies)]),
            }
            luck = self.rng.random(len(live)).tolist()
            for i, uniform in zip(live, luck):
                node = nodes[i]
                if node.chance is not None:
                    node = node.after_chance(draw(node.chance[2], uniform))
                else:
                    node = node.after(tuple(next(moves[seat]) for seat in node.actors))
                nodes[i] = node
                over = not node.actors and node.chance is None
                if node.outcome is not None:
                    lead[i] += node.outcome.payoffs[OPPONENT] - node.outcome.payoffs[AGENT]
                if over or (node.outcome is not None and spec.independent_rounds):
                    settle(i)
            live = [i for i in live if nodes[i].actors or nodes[i].chance is not None]
        return lead / spec.rounds

    def _replies(
        self,
        adversary: Policy,
        views: Sequence[InformationState],
        exploration: float,
        known: dict[InformationState, list[float]],
    ) -> list[int]:
        _ask(adversary, views, known)
        return [
            int(first / exploration * len(view.legal_actions))
            if first < exploration
            else draw(known[view], second)
            for view, (first, second) in zip(views, self.rng.random((len(views), 2)).tolist())
        ]

    def _answers(self, seen: Sequence[InformationState]) -> list[str]:
        luck = self.rng.random(len(seen)).tolist()
        if self._known is not None:
            try:
                _ask(self.agent, seen, self._known)
            except NoDistribution:
                self._known = None  # it answers in text, and is asked every time
        if self._known is None:
            return [choice.action for choice in self.agent.act(seen, luck)] if seen else []
        return [state.legal_actions[draw(self._known[state], u)] for state, u in zip(seen, luck)]


def _ask(
    policy: Policy, seen: Sequence[InformationState], known: dict[InformationState, list[float]]
) -> None:
    """Add to ``known`` the running sums of what ``policy`` plays where that is new."""
    new = list(dict.fromkeys(state for state in seen if state not in known))
    if new:
        rows = policy.distributions(new)
        known.update((state, list(accumulate(row.tolist()))) for state, row in zip(new, rows, strict=True))
