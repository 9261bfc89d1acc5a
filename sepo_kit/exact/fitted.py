"""The fitted adversary: the best response to a table fitted to what an agent was seen to do.

It needs nothing of the agent but its play, so that it works for agents that answer in free text. The table has a row by
key where the agent was met often enough (where it states its distributions: wherever it was met), else by the game's
short label, else it is uniform. Where a game can be folded (``exact/folded.py``) or solved state by state, the response
to the table is exact; where nature has too many outcomes, it is found by backward induction over the positions that
were met, every reply tried against what the agent did there. What it gains on the agent itself is not what it gains on
the table: ``adversaries/gain.py`` plays it.

Source: Ganzfried and Sandholm, Game theory-based opponent modeling in large imperfect-information games (2011), for
best responses to a model of the opponent that starts from a default; Johanson and Bowling, Data biased robust counter
strategies (2009), for how such responses overrate themselves where little was seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from sepo_kit.engine.episode import Episode
from sepo_kit.engine.graph import Event, Node, shared_graph
from sepo_kit.engine.policy import NoDistribution, Policy, distributions_of, tabular, uniform
from sepo_kit.engine.rollout import AGENT, OPPONENT, Match, play_matches
from sepo_kit.exact.ascent import OpenTable
from sepo_kit.exact.best_response import worst_case
from sepo_kit.exact.folded import MAX_MOVES, CannotFold, FoldedTree, Name, Reply, Rows, folded, name_of
from sepo_kit.exact.tree import MAX_STATES, Unsolvable, lead_of
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState, State
from sepo_kit.games.numbers import require_count

LEAST = 8  # decisions at a key from which on it has a row of its own
EXPLORER = "uniform"
EPISODES = 1_000
SMALL = 2_000  # states up to which a game that cannot be folded is solved as it is; more would only cost the attempt
TRIES = 60_000  # replies tried where positions are sampled: fewer positions where there are more


def fitted(
    game: Game | str,
    episodes: Sequence[Episode],
    *,
    agent: Policy | None = None,
    row: str = "label",
    least: int = LEAST,
    name: str | None = None,
    tries: int = TRIES,
    roughly: bool = False,
) -> Policy:
    """The best response to a table fitted to the agent's recorded decisions, a policy of seat 1.

    Parameters
    ----------
    episodes
        Play of the agent in seat 0, against anybody. The more of the game they reach the better.
    agent
        Whose play it is. One that states distributions is asked for them where it was met, and the counts say no more
        than where that was.
    row
        Attribute of the information states that labels the rows of the table where keys were met too seldom, and what
        the adversary goes by there.
    least
        From how many decisions on a key has a row of its own, where they are counted.
    tries
        About how many replies are tried, where the game can neither be folded nor solved state by state.
    roughly
        Whether it is enough to know of what ``agent`` hardly ever does how often it does any of it: a language model
        that has just played answers sooner then, and by what it was asked in that play.

    Raises
    ------
    ValueError
        The episodes hold no decision of seat 0, or the information states have no label ``row``.
    """
    game = get_game(game)
    tabular(game, {}, row=row)  # refuses an unknown row
    require_count("least", least)
    table = _Table(game, [episode.path for episode in episodes], agent, row, least, roughly)
    called = name or f"fitted to {agent.name if agent else 'recorded play'}"
    try:
        rows = _folded_response(table)
    except CannotFold:
        try:
            small = MAX_STATES if game.spec.independent_rounds else SMALL
            found = worst_case(game, table, max_states=small).adversary
            return OpenTable(
                called, found.table, found.row
            )  # the agent itself may go where the table does not
        except Unsolvable:
            rows = _sampled_response(table, tries)
    return Reply(called, rows, row)


def explored(game: Game | str, agent: Policy, episodes: int = EPISODES, seed: int = 0) -> list[Episode]:
    """Play to fit an adversary to: half of it against the game's strategies in turn, half against random play, which
    sooner or later does everything."""
    game = get_game(game)
    names = list(game.strategies)
    members = [names[i // 2 % len(names)] if i % 2 else EXPLORER for i in range(episodes)]
    rank: Counter[str] = Counter()
    todo = []
    for opponent in members:
        todo.append(Match("fit", opponent, rank[opponent]))
        rank[opponent] += 1
    others = {} if EXPLORER in names else {EXPLORER: uniform(game)}
    return play_matches(game, agent, todo, seed, opponents=others, common_random_numbers=False)


def fit_adversary(
    game: Game | str, agent: Policy, *, episodes: int = EPISODES, rounds: int = 2, seed: int = 0, **how
) -> Policy:
    """Play, fit, play against what was fitted, and fit again: an adversary is best fitted where it leads play to.

    Parameters
    ----------
    episodes
        In all, shared evenly by ``explored`` play and each fitted adversary's.
    rounds
        How often to fit, at least once; of the adversaries the last is returned.
    how
        As in ``fitted``, ``roughly`` aside: it is enough here.

    Raises
    ------
    ValueError
        A count is no whole number of at least 1, or as ``fitted`` does.
    """
    game = get_game(game)
    require_count("episodes", episodes)
    require_count("rounds", rounds)
    share = max(1, episodes // rounds)
    with agent.remember():  # what it was asked in play, it need not be asked again for its table
        seen = explored(game, agent, share, seed)
        for number in range(1, rounds):
            found = fitted(game, seen, agent=agent, roughly=True, **how)
            todo = [Match("fit", found.name, index) for index in range(share)]
            seen = seen + play_matches(
                game, agent, todo, seed + number, opponents={found.name: found}, common_random_numbers=False
            )
        return fitted(game, seen, agent=agent, roughly=True, **how)


class _Table(Policy):
    """What the agent was seen to do: rows by key, by label and else uniform."""

    name = "recorded play"

    def __init__(
        self,
        game: Game,
        paths: Iterable[Sequence[Event]],
        agent: Policy | None,
        row: str,
        least: int,
        roughly: bool,
    ) -> None:
        self.game, self.row = game, row
        made: dict[str, Counter[str]] = {}
        visits: dict[str, Counter[Node]] = {}
        met: dict[str, InformationState] = {}
        self.depth: dict[Node, int] = {}  # of the positions in which the adversary moves
        self.alone: Counter[Node] = Counter()  # those in which the agent does not
        graph = shared_graph(game)
        for path in paths:
            for depth, (node, event) in enumerate(graph.walk(path)):
                if OPPONENT in node.actors:
                    self.depth[node] = max(depth, self.depth.get(node, 0))
                    if AGENT not in node.actors:
                        self.alone[node] += 1
                if AGENT in node.actors:
                    seen = met.setdefault(node.seen[AGENT].key, node.seen[AGENT])
                    made.setdefault(seen.key, Counter())[event[node.actors.index(AGENT)]] += 1
                    visits.setdefault(seen.key, Counter())[node] += 1
        if not made:
            raise ValueError(
                "fitted needs episodes in which seat 0 decides; play some with explored(game, agent)"
            )
        states = list(met.values())
        stated = self._stated(agent, states, roughly)
        self.met: list[tuple[Counter[Node], InformationState, np.ndarray]] = []  # what was done, and where
        self.by_key: dict[str, np.ndarray] = {}
        self.by_label: dict[Name, np.ndarray] = {}
        often: Counter[str] = Counter()
        for i, (key, state) in enumerate(met.items()):
            did, total = made[key], made[key].total()
            counted = np.array([did[action] for action in state.legal_actions], dtype=float)
            values = counted / total if stated is None else np.asarray(stated[i], dtype=float)
            self.met.append((visits[key], state, values))
            label = name_of(state, row)
            self.by_label[label] = self.by_label.get(label, 0.0) + total * values
            if stated is not None or total >= least:
                self.by_key[key] = values
                often[key] = total
        self.by_label = {label: values / values.sum() for label, values in self.by_label.items()}
        self.often = often
        self.rounds = {state.key: state.round for state in states}

    def positions(self) -> Iterator[tuple[Node, int, np.ndarray | None]]:
        """Where the adversary moves: how often play came there, and the agent's probabilities where it moves too."""
        for visits, _, values in self.met:
            for node, times in visits.items():
                if OPPONENT in node.actors:
                    yield node, times, values
        for node, times in self.alone.items():
            yield node, times, None

    @staticmethod
    def _stated(
        agent: Policy | None, states: list[InformationState], roughly: bool
    ) -> list[np.ndarray] | None:
        if agent is None:
            return None
        try:
            return distributions_of(agent, states, roughly)
        except NoDistribution:
            return None

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        return [self._row(state) for state in seen]

    def _row(self, state: InformationState) -> np.ndarray:
        found = self.by_key.get(state.key)
        return self.of_name((0, name_of(state, self.row)), state) if found is None else found

    def of_name(self, called: tuple[int, Name], state: InformationState) -> np.ndarray:
        """The row of a name of the folded tree."""
        kind, what = called[1]
        found = self.by_key.get(what) if kind == "key" else self.by_label.get(called[1])
        count = len(state.legal_actions)
        return np.full(count, 1 / count) if found is None else found


def _folded_response(table: _Table) -> Rows:
    """Exact, where the game folds: keys stand alone where rows were found for them, the most met of each round."""
    kept: set[str] = set()
    used: Counter[int] = Counter()
    # Of joint actions negotiation v1 has 81: where there are fewer a layer stays smaller, where more no key fits.
    most = MAX_MOVES // max(81, max(len(values) for _, _, values in table.met) ** 2)
    for key, _ in table.often.most_common():
        turn = table.rounds[key]
        if used[turn] < most:
            used[turn] += 1
            kept.add(key)
    tree = FoldedTree(table.game, table.row, kept) if kept else folded(table.game, table.row)
    return tree.respond(tree.probabilities(table.of_name)).rows


def _sampled_response(table: _Table, most: int) -> Rows:
    """Backward induction over the positions that were met, the latest first: at each, every reply is tried against what
    the agent does there, and what follows counts as the mean of the label that it leads to."""
    at_depth: dict[int, list[tuple[Node, float, np.ndarray | None]]] = {}
    for node, times, values in table.positions():
        at_depth.setdefault(table.depth[node], []).append((node, times, values))
    tries = sum(len(node.seen[OPPONENT].legal_actions) for met in at_depth.values() for node, *_ in met)
    actions, stride = max(1, min(3, most // max(1, tries))), 1 + tries // most
    rows: dict[tuple[int, Name], np.ndarray] = {}
    later = _Later(table, actions)
    for depth in sorted(at_depth, reverse=True):
        sums: dict[tuple[int, Name], np.ndarray] = {}
        weights: Counter[tuple[int, Name]] = Counter()
        for node, weight, values in at_depth[depth][::stride]:
            seen = node.seen[OPPONENT]
            at = seen.round, name_of(seen, table.row)
            sums[at] = sums.get(at, 0.0) + weight * _worth(node, values, later)
            weights[at] += weight
        for at, total in sums.items():
            rows[at] = np.eye(len(total))[int(total.argmax())]
        later.learn({at: float(total.max() / weights[at]) for at, total in sums.items()})
    return rows


class _Later:
    """What the adversary leads by from a state on, by the labels of its decisions that were solved before."""

    def __init__(self, table: _Table, actions: int) -> None:
        self.table, self.actions = table, actions
        self.known: dict[tuple[int, Name], float] = {}
        self.usual = 0.0  # where a label was never met: the mean of the decisions that follow

    def learn(self, found: dict[tuple[int, Name], float]) -> None:
        self.known |= found
        self.usual = float(np.mean(list(found.values())))

    def after(self, state: State) -> float:
        """From ``state`` on, its own outcome among it."""
        lead = lead_of(state.outcome)
        if OPPONENT in state.actors:
            seen = state.information(OPPONENT)
            return lead + self.known.get((seen.round, name_of(seen, self.table.row)), self.usual)
        if AGENT in state.actors:
            seen = state.information(AGENT)
            likely = self.likely(self.table.distributions([seen])[0])
            return lead + sum(
                share * self.after(state.apply((seen.legal_actions[action],))) for action, share in likely
            )
        return lead + sum(
            share * self.after(state.apply_chance(drawn))
            for drawn, share in self.drawn(state.chance_outcomes())
        )

    def likely(self, values: np.ndarray) -> list[tuple[int, float]]:
        """The agent's likeliest actions, with their shares."""
        likely = np.argsort(-values, kind="stable")[: self.actions]
        likely = likely[values[likely] > 0]
        shares = values[likely] / values[likely].sum()
        return list(zip(likely.tolist(), shares.tolist(), strict=True))

    def drawn(self, outcomes: Sequence[tuple[object, float]]) -> list[tuple[object, float]]:
        """Some of nature's outcomes for all of them, at even steps of their probability; none at a match's end."""
        if not outcomes:
            return []
        upto = np.cumsum([probability for _, probability in outcomes])
        count = min(self.actions, len(outcomes))
        places = np.searchsorted(upto, (np.arange(count) + 0.5) / count * upto[-1])
        return [(outcomes[place][0], 1 / count) for place in places]


def _worth(node: Node, values: np.ndarray | None, later: _Later) -> np.ndarray:
    """What each reply at ``node`` is worth, (A,), where the agent moves too, by ``values``, or None: does not."""
    replies = node.seen[OPPONENT].legal_actions
    if values is None:
        return np.array([later.after(node.state.apply((reply,))) for reply in replies])
    worth = np.zeros(len(replies))
    for action, share in later.likely(values):
        own = node.seen[AGENT].legal_actions[action]
        for j, reply in enumerate(replies):
            worth[j] += share * later.after(node.state.apply((own, reply)))
    return worth
