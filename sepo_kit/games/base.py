"""What every game is made of: spec, state, information state, strategy, harms.

Lives here: the types a game file fills in. Does not live here: the parser of replies (``replies.py``), the
conformance test (``check/``), playing (``engine/``), scoring (``objective/``), any torch.

Two seats. Seat 0 is the agent under test wherever a match is scored, seat 1 its opponent; a game's
rules treat both alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType

import numpy as np

from sepo_kit.games.numbers import is_finite
from sepo_kit.games.replies import parse_action

SEATS = (0, 1)
POOLS = ("train", "exploit", "collusive", "shift")
REPLY_STYLES = ("direct", "reasoned")
HARM_DEFINITIONS = ("corrected", "published")


# --- spec -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """Penalty weights of the objective: one unit of each term in units of scaled payoff.

    Raises
    ------
    ValueError
        A weight is not a finite number, or is negative.

    >>> Weights(exploit=2.4, collusion=1.0, externality=1.8).collusion
    1.0
    """

    exploit: float
    collusion: float
    externality: float

    def __post_init__(self) -> None:
        for name in [each.name for each in fields(self)]:
            value = getattr(self, name)
            number = isinstance(value, int | float | np.integer | np.floating)
            if isinstance(value, bool) or not number or not is_finite(value):
                raise ValueError(
                    f"weights.{name} must be a finite number >= 0, got {value!r}; "
                    "write 0 to switch a penalty off"
                )
            if value < 0:
                raise ValueError(
                    f"weights.{name} must be >= 0, got {value!r}; write 0 to switch a penalty off"
                )
            object.__setattr__(self, name, float(value))


@dataclass(frozen=True)
class Pools:
    """Opponents by role, as strategy ids.

    ``train``: earn payoff here. ``exploit``: adversaries to not lose to. ``collusive``: partners that
    invite collusion. ``shift``: never trained on, for Robust.

    Raises
    ------
    ValueError
        A pool is no list of names, or has a name twice: the same episodes would count twice.

    >>> Pools(train=["nash"], exploit=["always-bet"], collusive=[], shift=[]).train
    ('nash',)
    """

    train: tuple[str, ...]
    exploit: tuple[str, ...]
    collusive: tuple[str, ...]
    shift: tuple[str, ...]

    def __post_init__(self) -> None:
        for pool in POOLS:
            members = getattr(self, pool)
            if not isinstance(members, list | tuple) or not all(isinstance(name, str) for name in members):
                raise ValueError(f"pools.{pool} must be a list of names, got {members!r}")
            if twice := [name for name in dict.fromkeys(members) if members.count(name) > 1]:
                raise ValueError(
                    f"pools.{pool} has {', '.join(twice)} more than once; name every opponent once, since the same "
                    "episodes would count twice"
                )
            object.__setattr__(self, pool, tuple(members))

    def __getitem__(self, pool: str) -> tuple[str, ...]:
        if pool not in POOLS:
            raise ValueError(f"pool must be one of {', '.join(POOLS)}, got {pool!r}")
        return getattr(self, pool)


@dataclass(frozen=True)
class GameSpec:
    """What a reader must know of a game before its rules.

    Attributes
    ----------
    rounds
        Rounds in an episode; payoffs and harms are reported per round.
    actions
        Every word that is an action somewhere in the game; none of them passes for a reply's lead-in.
    moves_per_round
        The most decisions one seat can face in one round.
    chance_per_round
        The most times nature moves in one round: each needs a draw of its own.
    unit
        What a round is called where the numbers are shown ("round", "hand").
    payoff_unit
        What a payoff counts ("points", "chips").
    reference_payoff
        The cooperative payoff per round; ``scale`` = 3 / reference_payoff puts payoffs on the scale
        of the prisoner's dilemma (arXiv 2605.30854 calls it the max payoff).
    payoff_bounds
        Lowest and highest payoff one seat can get in one round.
    independent_rounds
        True where a round's outcome cannot depend on earlier rounds, nor what is seen in it: no decision is then
        credited for a later round, which would only add noise, and every round is solved on its own. An information
        state must tell nothing of earlier rounds but their number; who plays by them would be solved wrongly.
    few_states
        True where the information states of the whole game are few enough to ask a language model at every one
        of them (Kuhn poker has 12, some hundreds are fine): it is then evaluated exactly, without sampling.
    reference_row
        What the rows of the reference policy, an exact optimum, go by: "label", "key" or another attribute of the
        information states; None where the game is too large for it to be found at the press of a button.
    label_suffices
        True where both seats always move at once, once a round, and their labels and the round tell how likely
        everything is that can still follow, the other's label among it, whatever else a seat remembers: positions that
        agree in them are one to all who go by their label.
    """

    id: str
    title: str
    rounds: int
    reference_payoff: float
    payoff_bounds: tuple[float, float]
    weights: Weights
    eval_weights: Weights
    pools: Pools
    actions: tuple[str, ...]
    moves_per_round: int = 1
    chance_per_round: int = 1
    unit: str = "round"
    payoff_unit: str = "points"
    zero_sum: bool = False
    independent_rounds: bool = False
    few_states: bool = False
    reference_row: str | None = None
    label_suffices: bool = False

    def __post_init__(self) -> None:
        # Given as lists they would make a spec that nothing can be remembered by.
        for name in ("payoff_bounds", "actions"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))

    @property
    def scale(self) -> float:
        """Factor s that turns a payoff into units of the prisoner's dilemma."""
        return 3.0 / self.reference_payoff


# --- rules ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """One finished round, as the engine and the harms see it.

    ``actions[seat]`` are that seat's moves in order. ``private[seat]`` is all that nature had shown that seat
    by then (its card; the pool and its values), None where nature shows nothing: ``check_game`` takes
    whatever is not in there to be hidden from the seat.
    """

    payoffs: tuple[float, float]
    actions: tuple[tuple[str, ...], tuple[str, ...]]
    private: tuple = (None, None)


@dataclass(frozen=True)
class Harms:
    """What one round cost others, from one seat's view; both in [0, 1]."""

    collusion: float
    externality: float


class InformationState(ABC):
    """What one seat has seen when it must move: hashable, and all a strategy or a prompt may use."""

    @property
    @abstractmethod
    def legal_actions(self) -> tuple[str, ...]:
        """Actions allowed now, at least one, in a fixed order."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Short unique name of this information state, the row label of a tabular policy."""

    @property
    def label(self) -> str:
        """A shorter name, which many information states may share: what a small table or an adversary of finite
        memory goes by. As a rule the last round; default ``key``."""
        return self.key

    @property
    def round(self) -> int:
        """Index of the round at play, from 0, as far as the seat can tell: default the length of ``history``, the
        rounds so far, else 0. What goes by ``label`` and the time goes by this."""
        return len(getattr(self, "history", ()))


class State(ABC):
    """A position of the game: immutable, with explicit chance.

    Exactly one of these holds: ``is_terminal``, ``chance_outcomes()`` is not empty, ``actors`` is not
    empty. Where both seats are in ``actors`` they move at the same time.
    """

    @property
    @abstractmethod
    def round(self) -> int:
        """Index of the round at play, from 0."""

    @property
    @abstractmethod
    def outcome(self) -> Outcome | None:
        """The round that the last move or deal finished, else None."""

    @property
    def is_terminal(self) -> bool:
        return not self.actors and not self.chance_outcomes()

    @property
    @abstractmethod
    def actors(self) -> tuple[int, ...]:
        """Seats that must move now."""

    @abstractmethod
    def information(self, seat: int) -> InformationState:
        """What ``seat`` has seen; only for a seat in ``actors``."""

    @abstractmethod
    def apply(self, actions: tuple[str, ...]) -> State:
        """The state after ``actions``, one per seat in ``actors``, in that order; ValueError for an action
        that is not legal (``require_legal``)."""

    def chance_outcomes(self) -> tuple[tuple[object, float], ...]:
        """Pairs (outcome, probability) where nature moves, else ()."""
        return ()

    def apply_chance(self, outcome: object) -> State:
        """The state after nature's ``outcome``."""
        raise ValueError(f"nature does not move here, cannot apply {outcome!r}")


# --- strategies -----------------------------------------------------------------------------------


class Strategy(ABC):
    """A pure function from what a seat has seen to a distribution over legal actions.

    No hidden fields and no randomness inside: the engine draws. A strategy can therefore be enumerated
    exactly, replayed, and used as opponent, demonstrator or agent under test.
    """

    id: str

    @abstractmethod
    def distribution(self, seen: InformationState) -> Mapping[str, float]:
        """Probability of each action; actions left out have probability 0."""

    @abstractmethod
    def explain(self, seen: InformationState, action: str) -> str:
        """One sentence that says why ``action`` follows from ``seen``."""


class UniformStrategy(Strategy):
    """Every legal action with the same probability."""

    id = "uniform"

    def distribution(self, seen: InformationState) -> Mapping[str, float]:
        return {action: 1.0 / len(seen.legal_actions) for action in seen.legal_actions}

    def explain(self, seen: InformationState, action: str) -> str:
        return f"I pick at random among {len(seen.legal_actions)} actions."


def surely(action: str) -> dict[str, float]:
    """The distribution that always plays ``action``."""
    return {action: 1.0}


def either(action: str, probability: float, otherwise: str) -> dict[str, float]:
    """``action`` with ``probability``, else ``otherwise``."""
    return {action: probability, otherwise: 1.0 - probability}


# --- demonstrations and the study -----------------------------------------------------------------


@dataclass(frozen=True)
class Mixture:
    """Who demonstrates a game in the corpus of the supervised warm start.

    Attributes
    ----------
    demonstrators
        Strategies with their weights, the shares of the episodes that each plays; the weights sum to 1. They may
        be strategies that nobody plays against and that ``game.strategies`` therefore does not list.
    opponents
        Strategy ids of the game that they meet, in turn; none of the shift pool, which must stay new to the agent.
    records
        Decisions in the corpus; about 80 % of them are trained on.
    """

    demonstrators: tuple[tuple[Strategy, float], ...]
    opponents: tuple[str, ...]
    records: int = 8_000


@dataclass(frozen=True)
class StudyStart:
    """Where the mechanism study starts to train a table.

    Attributes
    ----------
    row
        Attribute of the information states that names a row of the table: "label", "key" or another.
    table
        Row -> probabilities of the legal actions, in their order. Every row that play can meet.
    """

    row: str
    table: Mapping[str, Sequence[float]]


# --- other words ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wording:
    """One more way to say a game, which no training shows (``games/wordings.py``).

    Attributes
    ----------
    rules
        In the place of the game's own, with the game's own names of actions.
    phrases
        What the game says of a situation -> what is said instead.
    names
        Words of the game's actions -> what they are called instead, in the rules, the situations and the replies; all
        in capitals.
    """

    rules: str
    phrases: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


# --- a game ---------------------------------------------------------------------------------------


class Game(ABC):
    """Rules, words, strategies and harms of one game. One file per game, one instance per file.

    Attributes
    ----------
    spec
        What must be known before the rules.
    strategies
        Who can be played against, by id.
    mixture
        Who demonstrates; None: the game has no demonstrations, and no supervised warm start.
    study_start
        Where the mechanism study starts; None: at a uniform policy, one row for each ``key``.
    wordings
        Other ways to say the game, by name: how far an agent depends on the words it was trained with.
    """

    spec: GameSpec
    strategies: Mapping[str, Strategy]
    mixture: Mixture | None = None
    study_start: StudyStart | None = None
    wordings: Mapping[str, Wording] = MappingProxyType({})

    @abstractmethod
    def initial_state(self) -> State:
        """The root of the game."""

    @abstractmethod
    def system_prompt(self, style: str = "reasoned") -> str:
        """The rules and how to answer: ``reasoned`` or ``direct``."""

    @abstractmethod
    def render(self, seen: InformationState) -> str:
        """The user message: what this seat has seen, and nothing else. Later states of an episode
        extend earlier texts where they can, so that models share the computation."""

    @abstractmethod
    def harms(self, outcome: Outcome, seat: int = 0, definition: str = "corrected") -> Harms:
        """Collusion and externality of one round from ``seat``'s view.

        ``definition="published"`` follows arXiv 2605.30854 where it differs.
        """

    def parse(self, reply: str, legal_actions: Sequence[str]) -> str | None:
        """The legal action that the reply's last line is, else None: never a guess."""
        return parse_action(reply, legal_actions, self.spec.actions)

    def strategy(self, strategy_id: str) -> Strategy:
        """The strategy called ``strategy_id``; ValueError that lists the known ones."""
        if strategy_id not in self.strategies:
            raise ValueError(
                f"unknown strategy {strategy_id!r} in {self.spec.id}; known: {', '.join(self.strategies)}"
            )
        return self.strategies[strategy_id]

    @property
    def opponents(self) -> tuple[tuple[str, str], ...]:
        """All (pool, strategy id) pairs, in pool order."""
        return tuple((pool, opponent) for pool in POOLS for opponent in self.spec.pools[pool])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.spec.id!r}>"


ANSWER_RULES = {
    "reasoned": "Think briefly, in one sentence. Then write your action alone on the last line.",
    "direct": "Answer with your action only.",
}


def answer_rule(style: str) -> str:
    """The closing sentence of a system prompt; ValueError for an unknown style."""
    if style not in REPLY_STYLES:
        raise ValueError(f"reply style must be one of {', '.join(REPLY_STYLES)}, got {style!r}")
    return ANSWER_RULES[style]


def check_definition(definition: str) -> None:
    """ValueError unless ``definition`` names a definition of the harms."""
    if definition not in HARM_DEFINITIONS:
        raise ValueError(f"definition must be one of {', '.join(HARM_DEFINITIONS)}, got {definition!r}")


def require_legal(action: str, legal_actions: Sequence[str]) -> None:
    """ValueError unless ``action`` is one of ``legal_actions``."""
    if action not in legal_actions:
        shown = ", ".join(legal_actions[:12]) + (", ..." if len(legal_actions) > 12 else "")
        raise ValueError(f"action {action!r} is not legal here; legal: {shown}")
