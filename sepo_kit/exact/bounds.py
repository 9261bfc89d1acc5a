"""Bounds on the worst case where it cannot be computed: the tree is too large, or the agent answers in text.

From above: backward induction over the part of the tree where an adversary that hopes for the most would go, grown
where its hope is largest; all that was left out counts as the most that any adversary can lead by there against any
agent at all. Where such play leaves what was searched more often than not, the bound says more of the game than of the
agent, and the worst case is called unknown from above.
From below: the same induction with what was left out counted as lost; and adversaries found by play, the game's own
strategies, the best responses to fitted tables (``fitted.py``) and those of sampled policy iteration. The one that
gained most is enumerated against the agent where that is feasible, else played against it in fresh episodes, less a
confidence bound. A bound is a bound, not an estimate: the truth may be far from either.

Source: Sutton and Barto, Reinforcement Learning (2018), chapter 5, for Monte Carlo control; Timbers et al., Approximate
exploitability (2020), for learned adversaries as lower bounds; Maurer and Pontil, Empirical Bernstein bounds and sample
variance penalization (2009), theorem 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from sepo_kit.engine.episode import Decision
from sepo_kit.engine.graph import MOST_NODES, StateGraph
from sepo_kit.engine.policy import NoDistribution, Policy, distributions_of, draw, scripted, tabular
from sepo_kit.exact.answers import Answers, Seen
from sepo_kit.exact.ascent import OpenTable
from sepo_kit.exact.best_response import Induction, best_replies, require_recall, worst_case
from sepo_kit.exact.fitted import explored, fit_adversary, fitted
from sepo_kit.exact.folded import CannotFold, FoldedTree, folded
from sepo_kit.exact.likely import counted_as_lost
from sepo_kit.exact.tree import (
    AGENT,
    OPPONENT,
    OVER,
    Forgets,
    Step,
    TooLarge,
    Tree,
    count_moves,
    lead_of,
    means,
)
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState, State

ITERATIONS = 6  # of sampled policy iteration
ROUNDING = 1e-12
KNOWN = 0.5  # how likely play may leave what was searched for a bound from above to be told
BATCH = 200  # moves added to what is searched, at least
EXPLORATION = 0.2  # share of random replies while an adversary is looked for


@dataclass(frozen=True)
class WorstCaseBounds:
    """What is known of the most that any adversary gains on an agent; units as in ``WorstCase.advantage``.

    Attributes
    ----------
    lower
        Bound from below on the worst case's ``advantage``, per round (per hand in Kuhn poker).
    upper
        Bound from above; None where it is unknown: where ``outside`` is more than one half.
    ceiling
        What the worst case never exceeds, also where that says little of this agent; ``upper`` unless that is None.
    lower_from
        Where ``lower`` comes from: "folded" (the exact value, of an agent that goes by its label), "tree" (backward
        induction, the rest counted as lost), "enumerated" (what ``adversary`` gains, exactly) or "sampled" (what it
        gained in fresh episodes, less a confidence bound).
    confidence
        Probability with which ``lower`` holds: 1 unless it was sampled. ``ceiling`` always holds.
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
    upper: float | None
    ceiling: float
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
        Any policy of seat 0. One that cannot state a distribution is sampled, and is unknown from above.
    row
        Attribute of the game's information state that is all an adversary of finite memory goes by; default
        its ``label``.
    max_states
        Size of the part of the tree to search, in moves, and of what is enumerated, in states.
    episodes
        Fresh episodes to test the adversary of finite memory in, where it cannot be enumerated.
    search_episodes
        Episodes to compare adversaries by while one is looked for; some 50 times as many are played in all.
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
    if row == "label" and game.spec.label_suffices and getattr(agent, "goes_by", None) == "label":
        with suppress(CannotFold):
            exactly = worst_case(game, agent, memory="label")
            value = exactly.advantage
            return WorstCaseBounds(
                agent.name, game, value, value, value, "folded", 1.0, 0.0, exactly.adversary
            )
    most = game.spec.payoff_bounds[1] - game.spec.payoff_bounds[0]
    sampler = _Sampler(game, agent, np.random.default_rng(seed))
    adversary = _search(sampler, row, search_episodes, seed)
    lower, lower_from, holds = _proven(sampler, adversary, max_states, episodes, confidence, most)
    rounds = game.spec.rounds
    try:
        steps, won = _searched(game, agent, max_states)
    except (NoDistribution, Forgets):
        ceiling = _hope(game)(game.initial_state()) / (1 if game.spec.independent_rounds else rounds)
        return WorstCaseBounds(agent.name, game, lower, None, ceiling, lower_from, holds, 1.0, adversary)
    ceiling, outside = won.lead / rounds, min(1.0, won.outside)

    lost = best_replies(steps, counted_as_lost(game))
    sure = lost.lead / rounds
    if sure > lower + ROUNDING or (outside == 0 and sure >= lower - ROUNDING):
        lower, lower_from, holds = sure, "tree", 1.0
        rows = {label: values for replies in lost.replies for label, values in replies.rows().items()}
        adversary = OpenTable(f"worst case found for {agent.name}", rows, lambda seen: seen.key)
    upper = ceiling if outside <= KNOWN else None
    return WorstCaseBounds(agent.name, game, lower, upper, ceiling, lower_from, holds, outside, adversary)


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


# --- from above -----------------------------------------------------------------------------------


def _searched(game: Game, agent: Policy, max_moves: int) -> tuple[list[Step], Induction]:
    """The part of the tree that was searched, at most about ``max_moves`` moves, and what an adversary hopes for there.

    Each time those nodes are added that weigh most: how likely the hopeful adversary gets there, times its hope.
    """
    tree = Tree(game, Seen())
    answers = Answers(tree.seen, agent)
    hope = _hope(game)
    chosen: list[list[int]] = []
    left = max_moves
    while True:
        steps = tree.reach_chosen(answers, chosen)
        won = best_replies(steps, hope)
        weighty = _weighty(steps, won, hope)
        if not weighty or left <= 0:
            require_recall(tree, steps)
            return steps, won
        batch = min(left, max(BATCH, (max_moves - left) // 2))  # few passes over a tree that grows
        for _, depth, node in weighty:
            moves = count_moves(tree.layers[depth].states[node])
            batch, left = batch - moves, left - moves
            chosen += [[] for _ in range(depth + 1 - len(chosen))]
            chosen[depth].append(node)
            if batch <= 0 or left <= 0:
                break


def _weighty(
    steps: Sequence[Step], won: Induction, hope: Callable[[State], float]
) -> list[tuple[float, int, int]]:
    """Weight, depth and number of the nodes that were cut and that the hopeful adversary reaches, heaviest first: by
    how likely it gets there times its hope, and where there is none to be had, by how likely it gets there."""
    found = []
    reach = np.zeros(0)
    replies = list(reversed(won.replies))
    for depth, (layer, counterfactual, flow, cut) in enumerate(steps):
        if depth == 0:
            reach = np.where(counterfactual > 0, counterfactual, 0.0)
            reach[cut] = 1.0
        found += [(reach[node], depth, node) for node in cut.tolist() if reach[node] > 0]
        share = np.divide(
            flow,
            counterfactual[layer.source],
            out=np.zeros_like(flow),
            where=counterfactual[layer.source] > 0,
        )
        passed = reach[layer.source] * share
        if layer.replies.size > 1:
            taken = np.zeros(layer.replies.size, dtype=bool)
            taken[replies.pop(0).first] = True
            passed = np.where(taken[layer.reply], passed, 0.0)
        if depth + 1 < len(steps):
            reach = np.bincount(layer.target, passed, minlength=len(steps[depth + 1].reach))
            reach[OVER] = 0.0
    hoped = [(likely * hope(steps[depth].layer.states[node]), depth, node) for likely, depth, node in found]
    hoped = [each for each in hoped if each[0] > ROUNDING]
    return sorted(hoped or found, reverse=True)


def _hope(game: Game) -> Callable[[State], float]:
    """The most that an adversary can still lead by from a state, against any agent whatever.

    Where the label suffices it is what both seats together could make it; elsewhere what the payoffs allow.
    """
    # Where rounds are independent a state's hope is that of its round alone.
    if game.spec.label_suffices and not game.spec.independent_rounds:
        with suppress(CannotFold):
            return _together(folded(game))
    lost = counted_as_lost(game)
    return lambda state: -lost(state)


def _together(tree: FoldedTree) -> Callable[[State], float]:
    """What both seats together could still make the adversary lead by from a state."""
    values = tree.most()

    def most(state: State) -> float:
        if state.actors:
            return float(values[state.round + 1][tree.node_of(state)])
        drawn = ((p, state.apply_chance(outcome)) for outcome, p in state.chance_outcomes())
        return sum(p * (lead_of(child.outcome) + most(child)) for p, child in drawn)

    return most


# --- an adversary of finite memory ----------------------------------------------------------------


def _search(sampler: _Sampler, row: str, episodes: int, seed: int) -> Policy:
    """The best adversary of some that are tried: the game's strategies, the best responses to fitted tables, and what
    sampled policy iteration makes of the best of them, one reply per label ``row``."""
    game = sampler.game
    tried = [scripted(game, strategy) for strategy in game.strategies]
    shown = _Remembered(sampler.agent)
    seen = explored(game, shown, 4 * episodes, seed)
    tried.append(fitted(game, seen, agent=shown, row=row))
    tried.append(fit_adversary(game, shown, episodes=6 * episodes, seed=seed + 1, row=row))
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


class _Remembered(Policy):
    """An agent that is asked once about every state, as long as it states distributions."""

    def __init__(self, agent: Policy) -> None:
        self.agent, self.name = agent, agent.name
        self._known: dict[InformationState, np.ndarray] = {}
        self._talks = False

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        new = [state for state in dict.fromkeys(seen) if state not in self._known]
        if new:
            self._known.update(zip(new, distributions_of(self.agent, new), strict=True))
        return [self._known[state] for state in seen]

    def act(self, seen: Sequence[InformationState], uniforms: Sequence[float]) -> list[Decision]:
        if not self._talks:
            try:
                return super().act(seen, uniforms)
            except NoDistribution:
                self._talks = True
        return self.agent.act(seen, uniforms)


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
                lead[i] += lead_of(node.outcome)
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
        rows = distributions_of(policy, new)
        known.update((state, np.cumsum(row).tolist()) for state, row in zip(new, rows, strict=True))
