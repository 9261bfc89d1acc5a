"""Games as small as a test needs them, and short versions of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sepo_kit.engine import graph
from sepo_kit.games import auction, ipd, kuhn
from sepo_kit.games.base import (
    Game,
    GameSpec,
    Harms,
    InformationState,
    Outcome,
    Pools,
    State,
    UniformStrategy,
    Weights,
    answer_rule,
    require_legal,
)

WEIGHTS = Weights(exploit=1.0, collusion=1.0, externality=1.0)


def shorten(monkeypatch, module, rounds: int) -> Game:
    """The game of ``module`` (``ipd``, ``kuhn`` or ``auction``) cut to ``rounds`` rounds for one test."""
    assert module in (ipd, kuhn, auction)
    spec = replace(module.SPEC, rounds=rounds)
    monkeypatch.setattr(module, "SPEC", spec)
    monkeypatch.setattr(type(module.GAME), "spec", spec)
    monkeypatch.setattr(graph, "_shared", {})  # the states of the whole game come back with it
    return module.GAME


def spec(**changes) -> GameSpec:
    """Two rounds, scale 2, every pool in use; train and exploit differ in size."""
    values = {
        "id": "toy",
        "title": "Toy",
        "rounds": 2,
        "reference_payoff": 1.5,
        "payoff_bounds": (0.0, 10.0),
        "weights": WEIGHTS,
        "eval_weights": WEIGHTS,
        "pools": Pools(train=("a", "b"), exploit=("d",), collusive=("k",), shift=("z",)),
        "actions": ("L", "R"),
    }
    return GameSpec(**{**values, **changes})


class Ending(State):
    """A position that holds the round it has ended, if any, as ``ended``: of a game of one round."""

    @property
    def round(self) -> int:
        return int(self.ended is not None)

    @property
    def outcome(self) -> Outcome | None:
        return self.ended


class Counting(Ending):
    """One of a game of several, that holds how many were played before, as ``past``."""

    @property
    def round(self) -> int:
        return self.past


@dataclass(frozen=True)
class WordInformation(InformationState):
    words: tuple[str, ...]
    number: int = 0

    @property
    def legal_actions(self) -> tuple[str, ...]:
        return self.words

    @property
    def key(self) -> str:
        return f"{self.number}: {', '.join(self.words)}"


@dataclass(frozen=True)
class WordState(Ending):
    words: tuple[str, ...]
    ended: Outcome | None = None

    @property
    def actors(self) -> tuple[int, ...]:
        return (0, 1) if self.ended is None else ()

    def information(self, seat: int) -> WordInformation:
        return WordInformation(self.words)

    def apply(self, actions: tuple[str, ...]) -> WordState:
        for action in actions:
            require_legal(action, self.words)
        return WordState(self.words, Outcome((1.0, 0.0), ((actions[0],), (actions[1],))))


class WordGame(Game):
    """One round; both seats pick one of ``words``, which may be any text on one line."""

    strategies = {"uniform": UniformStrategy()}

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        pools = Pools(train=("uniform",), exploit=("uniform",), collusive=(), shift=("uniform",))
        self.spec = spec(id="words", rounds=1, pools=pools, actions=self.words)

    def initial_state(self) -> WordState:
        return WordState(self.words)

    def system_prompt(self, style: str = "reasoned") -> str:
        return f"Pick one of {', '.join(self.words)}. {answer_rule(style)}"

    def render(self, seen: WordInformation) -> str:
        return f"Round {seen.number}: your pick?"

    def harms(self, outcome: Outcome, seat: int = 0, definition: str = "corrected") -> Harms:
        return Harms(0.0, 0.0)


@dataclass(frozen=True)
class CoinInformation(InformationState):
    coins: tuple[str, ...]

    @property
    def legal_actions(self) -> tuple[str, ...]:
        return ("GO",)

    @property
    def key(self) -> str:
        return "".join(self.coins)


@dataclass(frozen=True)
class CoinState(Counting):
    """Nature tosses two coins, one after the other, then seat 0 says GO; ``ROUNDS`` times."""

    past: int = 0
    coins: tuple[str, ...] = ()
    ended: Outcome | None = None

    ROUNDS = 6

    @property
    def actors(self) -> tuple[int, ...]:
        return (0,) if len(self.coins) == 2 else ()

    def chance_outcomes(self) -> tuple[tuple[object, float], ...]:
        over = self.past == self.ROUNDS or len(self.coins) == 2
        return () if over else (("H", 0.5), ("T", 0.5))

    def apply_chance(self, outcome: object) -> CoinState:
        return CoinState(self.past, (*self.coins, str(outcome)))

    def information(self, seat: int) -> CoinInformation:
        return CoinInformation(self.coins)

    def apply(self, actions: tuple[str, ...]) -> CoinState:
        return CoinState(self.past + 1, ended=Outcome((float(self.coins == ("H", "T")), 0.0), (actions, ())))


class TwoCoins(WordGame):
    """Two moves of nature a round."""

    def __init__(self) -> None:
        super().__init__(("GO",))
        self.spec = replace(self.spec, id="coins", rounds=CoinState.ROUNDS, chance_per_round=2)

    def initial_state(self) -> CoinState:
        return CoinState()


@dataclass(frozen=True)
class PickInformation(InformationState):
    past: int

    @property
    def legal_actions(self) -> tuple[str, ...]:
        return ("H", "T")

    @property
    def key(self) -> str:
        return "pick"

    @property
    def round(self) -> int:
        return self.past


@dataclass(frozen=True)
class PickState(Counting):
    game: Picks
    past: int = 0
    picked: tuple[str, ...] = ()  # while nature has yet to pay
    ended: Outcome | None = None

    @property
    def actors(self) -> tuple[int, ...]:
        return () if self.picked or self.past == self.game.spec.rounds else (0, 1)

    def chance_outcomes(self) -> tuple[tuple[object, float], ...]:
        return ((0.0, 0.5), (2.0, 0.5)) if self.picked else ()

    def information(self, seat: int) -> PickInformation:
        return PickInformation(self.past)

    def apply(self, actions: tuple[str, ...]) -> PickState:
        if "".join(actions) in self.game.by_nature:
            return PickState(self.game, self.past, actions)
        return self._after(actions, self.game.pays["".join(actions)])

    def apply_chance(self, outcome: object) -> PickState:
        return self._after(self.picked, (0.0, float(outcome)))

    def _after(self, actions: tuple[str, ...], payoffs: tuple[float, float]) -> PickState:
        return PickState(
            self.game, self.past + 1, ended=Outcome(payoffs, tuple((action,) for action in actions))
        )


class Picks(WordGame):
    """Both seats pick H or T at once, and each sees nothing of rounds before: ``pays`` says what that earns, by both
    picks. After those ``by_nature`` nature pays seat 1 two or nothing."""

    def __init__(
        self, pays: dict[str, tuple[float, float]], by_nature: Sequence[str] = (), **changes
    ) -> None:
        super().__init__(("H", "T"))
        self.pays, self.by_nature = pays, tuple(by_nature)
        values = {"id": "picks", "payoff_bounds": (-2.0, 2.0), "chance_per_round": 1, **changes}
        self.spec = replace(self.spec, **values)

    def initial_state(self) -> PickState:
        return PickState(self)


PENNIES = {"HH": (1.0, -1.0), "TT": (1.0, -1.0), "HT": (-1.0, 1.0), "TH": (-1.0, 1.0)}


@dataclass(frozen=True)
class LookState(Ending):
    """Seat 0 says GO, or LOOKs first and says A or B; then seat 1, who saw none of that, says L, which wins, or R."""

    moves: tuple[str, ...] = ()
    ended: Outcome | None = None

    @property
    def actors(self) -> tuple[int, ...]:
        if self.ended is not None:
            return ()
        return (0,) if self.moves in ((), ("LOOK",)) else (1,)

    def information(self, seat: int) -> WordInformation:
        if seat == 1:
            return WordInformation(("L", "R"), 1)
        return WordInformation(("A", "B") if self.moves else ("GO", "LOOK"))

    def apply(self, actions: tuple[str, ...]) -> LookState:
        if self.actors == (0,):
            return LookState((*self.moves, *actions))
        paid = (0.0, 1.0) if actions == ("L",) else (1.0, 0.0)
        return LookState(self.moves, Outcome(paid, (self.moves, actions)))


class Look(WordGame):
    """Seat 1 is met after one move of the other seat or after two, and cannot tell."""

    def __init__(self) -> None:
        super().__init__(("GO", "LOOK", "A", "B", "L", "R"))
        self.spec = replace(self.spec, id="look", few_states=True, moves_per_round=2)

    def initial_state(self) -> LookState:
        return LookState()
