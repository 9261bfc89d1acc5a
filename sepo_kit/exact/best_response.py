"""The worst case: the adversary that gains most on an agent, by backward induction over all it may see.

An adversary knows the agent's policy, remembers what it saw and did, and sees no hidden card. What it cannot see
is weighted by counterfactual reach: the probability that nature and the agent's play lead there if it does all it
can to get there itself.

Source: Zinkevich et al., Regret minimization in games with incomplete information (2007), for counterfactual
reach; Lanctot et al., A unified game-theoretic approach to multiagent reinforcement learning (2017), for NashConv.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sepo_kit.engine.policy import TOLERANCE, Policy, TabularPolicy, flattened, tabular
from sepo_kit.exact.answers import EQUAL, Answers, Seen
from sepo_kit.exact.folded import Reply, folded
from sepo_kit.exact.tree import AGENT, MAX_STATES, OPPONENT, Forgets, Layer, Step, TooLarge, Tree, arena
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState, State

INSTEAD = (
    "raise max_states, say memory=... if the agent goes by a short label alone, or take bounds from "
    "sk.exact.worst_case_bounds(game, agent)"
)


@dataclass(frozen=True)
class Replies:
    """The adversary's best replies in one layer of the tree.

    ``first``: the place of the best action at each information state of ``seen``, the first of equals. ``reply``,
    ``flow``: the places of the layer's moves and how likely nature and the agent make them, shape (M,).
    """

    seen: Seen
    first: np.ndarray
    reply: np.ndarray
    flow: np.ndarray

    def rows(self) -> dict[str, np.ndarray]:
        """Pure rows by key, for the information states that can be met."""
        met = np.bincount(self.reply, self.flow, minlength=self.seen.size) > 0
        table = {}
        for number, place in enumerate(self.first.tolist()):
            if number and met[place]:
                row = np.zeros(self.seen.counts[number])
                row[place - self.seen.starts[number]] = 1.0
                table[self.seen.states[number].key] = row
        return table


@dataclass(frozen=True)
class WorstCase:
    """What the best adversary gains on an agent.

    ``advantage``: its payoff less the agent's, per round (per hand in Kuhn poker), in the game's payoff unit,
    unscaled. No opponent whatever gains more.

    In a zero-sum game this is twice the adversary's payoff per round. In Kuhn poker the seats alternate over an even
    number of hands, so the mean over hands is the mean over both seats, and twice that mean is the sum of
    the two best-response values: OpenSpiel's NashConv (twice its ``exploitability``). With an odd number of hands one
    seat would weigh more and the two would differ.
    """

    agent: str
    game: Game = field(repr=False)
    advantage: float
    _adversary: Callable[[], Policy] = field(repr=False, compare=False)

    @cached_property
    def adversary(self) -> Policy:
        """The adversary as a policy of seat 1: pure, with a row for all that can be met in play against this agent.
        Of replies that are worth the same it takes the first. A table with rows by ``key``, or, where the tree was
        folded by the game's label, by round and label."""
        return self._adversary()


def worst_case(
    game: Game | str, agent: Policy, *, memory: str | None = None, max_states: int = MAX_STATES
) -> WorstCase:
    """The adversary that maximises its payoff less the agent's, over all adversaries there are.

    Parameters
    ----------
    agent
        Any policy of seat 0 that can state a distribution.
    memory
        Attribute of the game's information state, such as "memory_one", where that is all the agent goes by and a
        round pays the same whatever was played before: positions that agree in it count as one, and trees become
        small. Only for games in which both seats always move and nature never, or whose spec says ``label_suffices``
        of this label. That the agent plays alike in positions that are counted as one is checked; that the game
        does is not.
    max_states
        The most states that may be reached; where rounds are independent each is solved by itself, so
        that only theirs count.

    Raises
    ------
    NoDistribution
        The agent cannot state a distribution over actions.
    TooLarge
        More states; ``worst_case_bounds`` says what can be said then.
    Forgets
        An adversary's information states do not tell what its own seat did before, or after how many moves they are
        met. Both are ``Unsolvable``, a ValueError.
    ValueError
        The agent's distribution is none over the legal actions, its table misses a state that is reached, or it
        goes by more than ``memory``.

    >>> from sepo_kit.engine.policy import scripted, uniform
    >>> kuhn = get_game("kuhn")
    >>> abs(round(worst_case(kuhn, scripted(kuhn, "nash")).advantage, 9))
    0.0
    >>> worst_case(kuhn, uniform(kuhn)).advantage * 12
    11.0
    """
    game = get_game(game)
    if memory is not None:
        tabular(game, {}, row=memory)  # refuses an unknown label
        if memory == "label" and game.spec.label_suffices:
            return _folded_worst_case(game, agent, memory)
    tree = arena(game).free if memory is None else Tree(game, Seen(), memory=memory)
    answers = Answers(tree.seen, agent)
    steps = tree.reach(answers, max_states, INSTEAD)
    if memory is None:
        require_recall(tree, steps)
    else:
        _require_memory(tree, steps, answers)
    found = best_replies(steps)

    def adversary() -> TabularPolicy:
        if memory is not None:
            rows = _unmerged(tree, found.replies, answers, max_states)
        else:
            rows = {key: row for replies in found.replies for key, row in replies.rows().items()}
        return tabular(game, rows, name=f"worst case for {agent.name}")

    return WorstCase(agent.name, game, found.lead / game.spec.rounds, adversary)


def _folded_worst_case(game: Game, agent: Policy, memory: str) -> WorstCase:
    tree = folded(game, memory)
    stated = agent.distributions(tree.ours.first[1:])
    flat = flattened(agent, tree.ours.first[1:], stated)
    twins = agent.distributions([seen for _, seen in tree.twins])
    for (number, seen), row in zip(tree.twins, twins, strict=True):
        if not np.allclose(row, stated[number - 1], rtol=0, atol=TOLERANCE):
            raise ValueError(_more_than(agent, memory, tree.ours.first[number], seen))
    found = tree.respond(np.concatenate([[1.0], flat]))
    name = f"worst case for {agent.name}"
    return WorstCase(agent.name, game, found.lead, lambda: Reply(name, found.rows, memory))


def _more_than(agent: Policy, memory: str, one: InformationState, other: InformationState) -> str:
    return (
        f"{agent.name} goes by more than memory={memory!r}: it plays differently at {one.key!r} and {other.key!r}; "
        "leave memory out"
    )


def require_recall(tree: Tree, steps: Sequence[Step]) -> None:
    """``Forgets`` where, in the ``steps`` of play that are reached, an adversary's information states do not tell what
    it did itself, or are met after different numbers of moves: it could then not follow the best replies, which are
    chosen one by one, layer by layer."""
    met: dict[InformationState, tuple[int, object]] = {}
    for depth, step in enumerate(steps if tree.forgets else ()):
        for node in np.flatnonzero(step.reach > 0).tolist():
            state = step.layer.states[node]
            view = state.information(OPPONENT) if OPPONENT in state.actors else None
            if view not in tree.forgets:
                continue
            before = depth, step.layer.last[node]
            if met.setdefault(view, before) == before:
                continue
            which = (
                "does not tell what its own seat did before"
                if met[view][1] != before[1]
                else "is met after more moves of others or fewer, which it does not tell"
            )
            raise Forgets(
                f"in {tree.game.spec.id} the information state {view.key!r} {which}; a worst case needs information "
                "states that forget nothing of an episode, or of a round where spec.independent_rounds holds; sample "
                "adversaries with sepo_kit.adversaries.worst_case.find_worst_case(game, agent)"
            )


def _require_memory(tree: Tree, steps: Sequence[Step], answers: Answers) -> None:
    """ValueError where the agent plays differently in positions that were counted as one."""
    for step in steps:
        twins = [(node, seen) for node, seen in step.layer.twins if step.reach[node] > 0]
        if not twins:
            continue
        rows = answers.agent.distributions([seen for _, seen in twins])
        for (node, seen), row in zip(twins, rows, strict=True):
            start = tree.seen.starts[step.layer.seen[node]]
            if not np.allclose(row, answers.p[start : start + len(row)], rtol=0, atol=TOLERANCE):
                one = tree.seen.states[step.layer.seen[node]]
                raise ValueError(_more_than(answers.agent, tree.memory, one, seen))


def _unmerged(tree: Tree, replies: list[Replies], answers: Answers, max_states: int) -> dict[str, np.ndarray]:
    """The rows of the replies of a tree with ``memory``, by key: what can be met, position by position."""
    table: dict[str, np.ndarray] = {}
    positions = tree.starts()
    for layer, best in zip(tree.layers, reversed(replies)):
        below = []
        for state in positions:
            node = layer.where[tree.name(state, None)]
            ours, theirs = state.information(AGENT), state.information(OPPONENT)
            number = layer.replies.number(layer.states[node].information(OPPONENT))
            reply = int(best.first[number]) - layer.replies.starts[number]
            table[theirs.key] = np.eye(len(theirs.legal_actions))[reply]
            start = tree.seen.starts[layer.seen[node]]
            for action, p in zip(ours.legal_actions, answers.p[start:]):
                if p > 0:
                    below.append(state.apply((action, theirs.legal_actions[reply])))
        if len(table) > max_states:
            raise TooLarge(
                f"the adversary of {answers.agent.name} has more than {max_states} rows; raise max_states"
            )
        ends = tree.game.spec.independent_rounds  # where a round does
        positions = [s for s in below if not (s.is_terminal or (ends and s.outcome is not None))]
    return table


class Induction(NamedTuple):
    """How much more than the agent the adversary earns in all; how likely play then ends up in nodes that were cut;
    its replies."""

    lead: float
    outside: float
    replies: list[Replies]


def best_replies(steps: Sequence[Step], later: Callable[[State], float] | None = None) -> Induction:
    """Backward induction over ``steps``; ``later`` is what a node that was cut is worth to the adversary."""
    value = outside = np.zeros(steps[-1].layer.target.max(initial=0) + 1)  # play that was followed no further
    found = []
    most = max(np.abs(layer.gains).max(initial=0.0) for layer, *_ in steps)
    for layer, reach, flow, cut in reversed(steps):
        worth = flow * (layer.gains[:, 1] - layer.gains[:, 0] + value[layer.target])  # (M,)
        out = flow * outside[layer.target] if later else worth
        if layer.replies.size > 1:
            starts, owners = layer.replies.arrays()
            total = np.bincount(layer.reply, worth, minlength=layer.replies.size)
            met = np.bincount(layer.reply, flow, minlength=layer.replies.size)
            best = total >= (np.maximum.reduceat(total, starts) - EQUAL * most * met[starts])[owners]
            rank = np.where(best, np.arange(len(total), 0, -1), 0)
            first = len(total) - np.maximum.reduceat(rank, starts)
            taken = np.zeros(len(total), dtype=bool)
            taken[first] = True
            worth = np.where(taken[layer.reply], worth, 0.0)
            out = np.where(taken[layer.reply], out, 0.0) if later else worth
            found.append(Replies(layer.replies, first, layer.reply, flow))
        value = _per_node(layer, reach, worth)
        if later:
            outside = _per_node(layer, reach, out)
            value[cut] = [later(layer.states[node]) for node in cut.tolist()]
            outside[cut] = 1.0
    starts = steps[0].reach > 0
    if later:
        starts[steps[0].cut] = True
    return Induction(float(value[starts].sum()), float(outside.max()), found)


def _per_node(layer: Layer, reach: np.ndarray, flows: np.ndarray) -> np.ndarray:
    """Sums of ``flows``, (M,), over the moves of each node, given that it is reached; shape (N,)."""
    sums = np.bincount(layer.source, flows, minlength=len(reach)).astype(float, copy=False)  # ints if none
    return np.divide(sums, reach, out=sums, where=reach > 0)
