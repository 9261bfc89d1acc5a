"""Who plays: the ``Policy`` protocol, and the policies that are not language models.

A policy sees information states only. Most can state an exact distribution over the legal actions
(``distributions``); ``act`` turns it into a decision by inverse CDF from a given uniform number, so that the
engine owns all randomness. Language models are in ``language_model.py``.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import numpy as np

from sepo_kit.engine.episode import Decision
from sepo_kit.games import get_game
from sepo_kit.games.base import Game, InformationState, Strategy, UniformStrategy

TOLERANCE = 1e-6


class NoDistribution(ValueError):
    """The policy answers in free text and has no closed-form distribution over actions."""


class Policy(ABC):
    """An agent. ``name`` labels it in tables."""

    name: str

    @abstractmethod
    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        """Exact probabilities over ``legal_actions`` of each state: float arrays, shape (A_i,).

        Raises
        ------
        NoDistribution
            The policy cannot state one.
        """

    def roughly(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        """``distributions`` for who needs no more than a good guess: a language model is not asked then how actions
        that it hardly ever takes share what little they have."""
        return self.distributions(seen)

    def identity(self) -> str:
        """What tells it from others that are called so, as far as it knows; the same in every process."""
        return self.name

    def remember(self) -> AbstractContextManager[None]:
        """A block in which the policy does not change, so that it may keep what it has computed."""
        return nullcontext()

    def asked_by(self, game: Game) -> Policy:
        """The same agent, asked as ``game`` words its prompts; ValueError where it reads none."""
        raise ValueError(
            f"{self.name} reads no prompts, so that no wording changes what it plays; try a language model"
        )

    def choice(self, seen: InformationState, index: int, probability: float) -> Decision:
        """The record of playing legal action ``index``."""
        return Decision(seen.legal_actions[index], float(np.log(probability)))

    def draws_for_less(self, seen: Sequence[InformationState]) -> bool:
        """Whether ``act`` gives what inverse CDF draws from ``distributions``, and computes less than those for it; a
        language model does in a block that remembers."""
        return False

    def _to_draw_from(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        """``distributions`` for ``act``, whose states follow those it was asked before."""
        return self.distributions(seen)

    def act(self, seen: Sequence[InformationState], uniforms: Sequence[float]) -> list[Decision]:
        """One decision per state, drawn by inverse CDF from ``uniforms`` in [0, 1).

        A state that occurs several times is computed once.
        """
        # By identity: the engine holds equal states once, and comparing them costs more than a second look-up.
        unique = {id(state): state for state in seen}
        states = list(unique.values())
        rows = self._to_draw_from(states)
        flattened(self, states, rows)
        table = dict(zip(unique, rows, strict=True))
        cumulative = {key: np.cumsum(p).tolist() for key, p in table.items()}
        made: dict[tuple[int, int], Decision] = {}
        decisions = []
        for state, uniform in zip(seen, uniforms, strict=True):
            key = id(state)
            index = draw(cumulative[key], uniform)
            decision = made.get((key, index))
            if decision is None:
                decision = made[key, index] = self.choice(state, index, table[key][index])
            decisions.append(decision)
        return decisions


def identities(policies: Mapping[str, Policy]) -> str:
    """SHA-256 of who ``policies``, by name, are, hexadecimal: whoever trains against others afterwards begins anew."""
    told = sorted(f"{name}: {policy.identity()}" for name, policy in policies.items())
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def distributions_of(
    policy: Policy, seen: Sequence[InformationState], roughly: bool = False
) -> list[np.ndarray]:
    """``policy.distributions(seen)``, or what it says ``roughly``; ValueError unless they are one distribution over the
    legal actions of each."""
    rows = policy.roughly(seen) if roughly else policy.distributions(seen)
    flattened(policy, seen, rows)
    return rows


def flattened(policy: Policy, states: Sequence[InformationState], rows: Sequence[np.ndarray]) -> np.ndarray:
    """``rows``, what ``policy`` stated, one after the other; ValueError unless they are one distribution over the legal
    actions of each state."""
    counts = [len(state.legal_actions) for state in states]
    if list(map(np.shape, rows)) == [(count,) for count in counts]:
        values = np.concatenate([np.zeros(0), *rows])
        sums = np.add.reduceat(values, np.cumsum(counts) - counts) if counts else np.zeros(0)
        if (values >= 0).all() and (abs(sums - 1) <= TOLERANCE).all():  # neither holds of NaN
            return values
    for state, row in zip(states, rows):
        row = np.asarray(row, dtype=float)
        wrong = row.shape != (len(state.legal_actions),) or not (
            (row >= 0).all() and abs(row.sum() - 1) <= TOLERANCE
        )
        if wrong:
            raise ValueError(
                f"{policy.name} must give {len(state.legal_actions)} probabilities >= 0 that sum to 1 at "
                f"{state.key!r} ({', '.join(state.legal_actions[:12])}), got {row.tolist()}"
            )
    raise ValueError(f"{policy.name} must give one distribution per state, {len(states)}; got {len(rows)}")


def draw(cumulative: Sequence[float], uniform: float) -> int:
    """Index drawn from a cumulative distribution, shape (A,), by inverse CDF.

    Never an index of probability 0, whatever the rounding at the upper end.

    >>> draw([0.25, 0.25, 1.0], 0.25)
    2
    """
    total = cumulative[-1]
    index = bisect_right(cumulative, uniform * total)
    return index if index < len(cumulative) - 1 else bisect_left(cumulative, total)


class StrategyPolicy(Policy):
    """A scripted strategy as an agent; distributions are remembered, since strategies are pure."""

    def __init__(self, strategy: Strategy) -> None:
        self.name = strategy.id
        self.strategy = strategy
        self._known: dict[InformationState, np.ndarray] = {}

    def distribution(self, seen: InformationState) -> np.ndarray:
        """Probabilities over ``seen.legal_actions``, shape (A,)."""
        if seen not in self._known:
            probabilities = self.strategy.distribution(seen)
            self._known[seen] = np.array([probabilities.get(a, 0.0) for a in seen.legal_actions])
        return self._known[seen]

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        return [self.distribution(state) for state in seen]


class TabularPolicy(Policy):
    """A table from state keys to probabilities over legal actions.

    ``row`` maps an information state to its row label: the full key, or a shorter one such as the last
    round only. ``goes_by``: the attribute of information states that ``row`` reads, where that is known.
    """

    def __init__(
        self,
        name: str,
        table: Mapping[str, Sequence[float]],
        row: Callable[[InformationState], str],
        goes_by: str | None = None,
    ) -> None:
        self.name = name
        self.goes_by = goes_by
        self.row = row
        self.table = {label: _checked(label, values) for label, values in table.items()}

    def identity(self) -> str:
        rows = {label: values.tolist() for label, values in self.table.items()}
        return f"{self.goes_by} {sorted(rows.items())}"

    def distributions(self, seen: Sequence[InformationState]) -> list[np.ndarray]:
        return [self._lookup(state) for state in seen]

    def _lookup(self, state: InformationState) -> np.ndarray:
        label = self.row(state)
        if label not in self.table:
            known = ", ".join(list(self.table)[:6])
            raise ValueError(
                f"the table has no row for state {label!r} (rows: {known}{', ...' if len(self.table) > 6 else ''}); "
                f"add it with one probability for each of {', '.join(state.legal_actions)}"
            )
        values = self.table[label]
        if len(values) != len(state.legal_actions):
            raise ValueError(
                f"row {label!r} has {len(values)} probabilities; state has {len(state.legal_actions)} legal "
                f"actions: {', '.join(state.legal_actions)}"
            )
        return values


def _checked(label: str, values: Sequence[float]) -> np.ndarray:
    row = np.asarray(values, dtype=float)
    if row.ndim != 1 or not np.isfinite(row).all() or (row < 0).any() or abs(row.sum() - 1) > TOLERANCE:
        raise ValueError(f"row {label!r} must be probabilities >= 0 that sum to 1, got {list(values)}")
    return row / row.sum()


@contextmanager
def remembering(policies: Iterable[Policy]) -> Iterator[None]:
    """``Policy.remember`` of all ``policies``."""
    with ExitStack() as stack:
        for policy in {id(policy): policy for policy in policies}.values():
            stack.enter_context(policy.remember())
        yield


def scripted(game: Game | str, strategy: str) -> StrategyPolicy:
    """The game's strategy ``strategy`` as an agent; ValueError that lists the known ids."""
    return StrategyPolicy(get_game(game).strategy(strategy))


def uniform(game: Game | str) -> StrategyPolicy:
    """The agent that plays every legal action with the same probability."""
    get_game(game)  # refuses an unknown one
    return StrategyPolicy(UniformStrategy())


def tabular(
    game: Game | str,
    table: Mapping[str, Sequence[float]],
    *,
    row: str = "key",
    name: str = "tabular",
) -> TabularPolicy:
    """An agent that reads its probabilities from ``table``.

    Parameters
    ----------
    table
        Row label -> probabilities over the legal actions in their order.
    row
        Attribute of the game's information state that labels the row: "key" (everything seen) or a
        shorter one the game offers, such as "memory_one" in the prisoner's dilemma.

    Raises
    ------
    ValueError
        A row is not a distribution, a state has no row (raised when it is met), or the game's
        information states have no attribute ``row``.

    >>> rows = {"start": [1, 0], "CC": [1, 0], "CD": [0, 1], "DC": [1, 0], "DD": [0, 1]}
    >>> tabular("ipd", rows, row="memory_one").name
    'tabular'
    """
    game = get_game(game)
    probe = first_information(game)
    if not isinstance(getattr(probe, row, None), str):
        raise ValueError(f"information states of {game.spec.id} have no label {row!r}; 'key' always works")
    return TabularPolicy(name, table, lambda state: getattr(state, row), goes_by=row)


def first_information(game: Game) -> InformationState:
    """The information state of the first decision of the game, along the first chance outcomes."""
    state = game.initial_state()
    while not state.actors:
        state = state.apply_chance(state.chance_outcomes()[0][0])
    return state.information(state.actors[0])
