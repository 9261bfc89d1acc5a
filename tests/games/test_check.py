"""check_game passes on every game of the kit, and each rule it holds catches a game that breaks it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
from coins import ACTIONS, Always, CoinInformation, Coins, CoinState, methods, spec, state

from sepo_kit import exact
from sepo_kit.exact import tree
from sepo_kit.games import GAMES, GameError, check_game
from sepo_kit.games.base import Harms, Mixture, Outcome, StudyStart
from sepo_kit.games.check import GameChecks, kit


def pools(**changes):
    return spec(pools=replace(Coins.spec.pools, **changes))


def seeing(**methods):
    """The toy game with methods of its information states replaced."""
    kind = type("CoinInformation", (CoinInformation,), methods)
    return state(
        information=lambda self, seat: kind(tuple(pair[seat] for pair in self.coins), self.calls),
    )


RED = Always("red", "RED")
SOUND = Mixture(demonstrators=((RED, 0.7), (Always("own", "BLUE"), 0.3)), opponents=("red", "blue"))


def mixture(**changes):
    return methods(mixture=replace(SOUND, **changes))


class OneCall(CoinInformation):
    """Information whose legal actions change with the coins, under one label."""

    legal_actions = property(lambda self: ACTIONS if self.coins[-1] else ACTIONS[::-1])
    label = "call"


def strategy(**changed):
    """The toy game with methods of its strategy "red" replaced."""
    broken = type("Broken", (Always,), changed)("red", "RED")
    return methods(strategies={**Coins.strategies, "red": broken})


def counter():
    return itertools.count().__next__


def change_in_place(self, outcome):
    object.__setattr__(self, "coins", (*self.coins, outcome))
    return self


@dataclass
class MutableState(CoinState.__mro__[1]):
    """As CoinState, but not frozen."""

    coins: tuple = ()
    calls: tuple = ()
    rounds = 2
    round, actors, outcome = CoinState.round, CoinState.actors, CoinState.outcome
    chance_outcomes, apply_chance, apply = CoinState.chance_outcomes, CoinState.apply_chance, CoinState.apply
    information = CoinState.information

    def __hash__(self):
        return hash((self.coins, self.calls))


@dataclass(frozen=True)
class CoinByCoin(CoinState):
    """Nature shows the coins one after the other, which makes two moves of nature a round."""

    first: int | None = None

    @property
    def actors(self):
        return (0, 1) if self.first is None and len(self.coins) > len(self.calls) else ()

    def chance_outcomes(self):
        return () if self.actors or self.round == self.rounds else ((0, 0.5), (1, 0.5))

    def apply_chance(self, outcome):
        if self.first is None:
            return replace(self, first=outcome)
        return replace(self, first=None, coins=(*self.coins, (self.first, outcome)))

    @property
    def outcome(self):
        return super().outcome if self.first is None else None


@dataclass
class ListedGame(Coins):
    """A dataclass that is not frozen, as those below."""

    remarks: tuple = ()


@dataclass
class ListedStrategy(Always):
    id: str = "red"
    action: str = "RED"


@dataclass(frozen=True)
class TabledStrategy(Always):
    id: str = "own"
    action: str = "RED"
    table: dict = field(default_factory=dict)


class OneMoreDeal(CoinState):
    """Nature shows coins once more when all rounds are played."""

    def chance_outcomes(self):
        if self.actors or len(self.coins) > self.rounds:
            return ()
        return tuple((coins, 0.25) for coins in itertools.product((0, 1), repeat=2))

    @property
    def actors(self):
        return (0, 1) if len(self.calls) < min(len(self.coins), self.rounds) else ()

    @property
    def outcome(self):
        return super().outcome if len(self.coins) == len(self.calls) else None


ticks = counter()

# (the broken game, words of the message that tell its author what to mend)
BROKEN = {
    "not a game": (Coins, "needs an instance of Game"),
    "no spec": (methods(spec=None), "Set it to a GameSpec"),
    "id": (spec(id="Coins!"), "spec.id is 'Coins!'"),
    "rounds": (spec(rounds=0), "spec.rounds is 0"),
    "beyond all numbers": (spec(reference_payoff=10**400), "cooperative payoff per round"),
    "reference payoff": (spec(reference_payoff=0.0), "cooperative payoff per round"),
    "bounds the wrong way round": (spec(payoff_bounds=(1.0, -1.0)), "(lowest, highest)"),
    "label_suffices": (spec(label_suffices="yes"), "spec.label_suffices is 'yes'"),
    "labels of several moves": (
        spec(label_suffices=True, moves_per_round=2),
        "spec.moves_per_round is 2, and spec.label_suffices is True",
    ),
    "labels without the round": (
        spec(label_suffices=True),
        "information(0).round is 0 in round 1, and spec.label_suffices is True",
    ),
    "weights": (spec(weights=(1, 1, 1)), "Give a Weights"),
    "eval weights": (spec(eval_weights=None), "spec.eval_weights is None"),
    "action twice": (spec(actions=("RED", "BLUE", "red")), "case does not tell two apart"),
    "strategies": (methods(strategies=["red"]), "mapping from strategy id"),
    "strategy id": (
        methods(strategies={**Coins.strategies, "green": Always("red", "RED")}),
        "stands under 'green'",
    ),
    "unknown in pool": (pools(train=("green",)), "Known: red, blue"),
    "no train pool": (pools(train=()), "pool 'train' is empty"),
    "no exploit pool": (pools(exploit=()), "pool 'exploit' is empty"),
    "small shift pool": (pools(shift=("a", "b")), "Name at least 3"),
    "shift trained on": (pools(train=("red", "b")), "b stands in pools 'shift' and 'train'"),
    "shift and collusive": (pools(collusive=("c",)), "c stands in pools 'shift' and 'collusive'"),
    "adversary and partner": (pools(collusive=("blue",)), "choose one"),
    "prompt without rules": (methods(system_prompt=lambda self, style: ""), "Return the rules"),
    "one prompt for both styles": (methods(system_prompt=lambda self, style: "Call."), "answer_rule(style)"),
    "prompt of any style": (methods(system_prompt=lambda self, style: f"Call {style}."), "was accepted"),
    "state with a list": (
        state(apply_chance=lambda self, outcome: replace(self, coins=[outcome])),
        "not hashable",
    ),
    "state not frozen": (methods(state=MutableState), "States are immutable"),
    "state changed in place": (state(apply_chance=change_in_place), "leave self alone"),
    "apply gives no state": (state(apply_chance=lambda self, outcome: None), "Return the State that follows"),
    "apply fails": (
        state(apply=lambda self, actions: {}[actions]),
        "apply(('no such action', 'no such action')) raised KeyError where only ValueError",
    ),
    "illegal action accepted": (
        state(apply=lambda self, actions: replace(self, calls=(*self.calls, actions))),
        "Raise ValueError in apply()",
    ),
    "actors": (state(actors=property(lambda self: [0, 1])), "Return (), (0,), (1,) or (0, 1)"),
    "nature and seats at once": (
        state(chance_outcomes=lambda self: (((0, 0), 1.0),)),
        "chance_outcomes() and actors",
    ),
    "nobody moves, not over": (
        state(chance_outcomes=lambda self: (), is_terminal=property(lambda self: False)),
        "none of is_terminal",
    ),
    "probabilities": (
        state(chance_outcomes=lambda self: () if self.actors else (((0, 0), 0.5), ((1, 1), 0.4))),
        "sum to 0.9",
    ),
    "outcome twice": (
        state(chance_outcomes=lambda self: () if self.actors else (((0, 0), 0.5), ((0, 0), 0.5))),
        "lists an outcome twice",
    ),
    "information fails": (
        state(information=lambda self, seat: self.coins[9]),
        "information(0) raised IndexError",
    ),
    "information of another type": (
        state(information=lambda self, seat: "coins"),
        "Return an InformationState",
    ),
    "information by identity": (
        seeing(__eq__=lambda self, other: self is other, __hash__=lambda self: 1),
        "not equal to itself",
    ),
    "no legal action": (seeing(legal_actions=()), "at least one action"),
    "unlisted action": (seeing(legal_actions=("RED", "GREEN")), "spec.actions does not list"),
    "key": (seeing(key=""), "Return a short text"),
    "key not unique": (seeing(key="here"), "row label of a tabular policy"),
    "empty prompt": (methods(render=lambda self, seen: " "), "Return text"),
    "prompt counts": (
        methods(render=lambda self, seen: f"{seen.coins} {ticks()}"),
        "two texts for one information state",
    ),
    "prompt leaves out": (methods(render=lambda self, seen: f"{seen.calls}"), "Show all that information()"),
    "prompt fails": (methods(render=lambda self, seen: seen.cards), "render("),
    "payoff out of bounds": (spec(payoff_bounds=(0.0, 1.0)), "outside spec.payoff_bounds (0.0, 1.0)"),
    "not zero-sum": (
        state(outcome=property(lambda self: Outcome((1.0, 1.0), ((), ())) if self.calls else None)),
        "not zero-sum",
    ),
    "no outcome": (
        state(outcome=property(lambda self: (1, -1) if self.calls else None)),
        "Return an Outcome",
    ),
    "harm above 1": (
        methods(harms=lambda self, outcome, seat=0, definition="corrected": Harms(2.0, 0.0)),
        "share from 0 to 1",
    ),
    "published harm below 0": (
        methods(harms=lambda self, outcome, seat=0, definition="": Harms(0, -(definition == "published"))),
        "definition='published').externality is -1",
    ),
    "one seat's harm": (
        methods(harms=lambda self, outcome, seat=0, definition="": Harms(0.0, [0.5, 1.5][seat])),
        "seat=1",
    ),
    "harms fail": (methods(harms=lambda self, outcome, seat=0, definition="": 1 / 0), "ZeroDivisionError"),
    "never over": (state(rounds=10**6), "It must end after spec.rounds rounds"),
    "too few outcomes": (spec(rounds=3), "an episode has 2 outcomes"),
    "outcome stays": (
        state(
            outcome=property(
                lambda self: (
                    Outcome((0.0, 0.0), ((self.calls[-1][0],), (self.calls[-1][1],))) if self.calls else None
                )
            )
        ),
        "in all states but the one right after the round's last move",
    ),
    "outcome at once": (
        state(outcome=property(lambda self: Outcome((0.0, 0.0), ((), ())))),
        "the initial state has an outcome",
    ),
    "round stays 0": (
        state(
            round=property(lambda self: 0),
            chance_outcomes=lambda self: () if len(self.calls) == 2 else CoinState.chance_outcomes(self),
        ),
        "state.round is 0 after 1 finished rounds",
    ),
    "round from 1": (
        state(round=property(lambda self: len(self.calls) + 1)),
        "state.round is 1 after 0 finished rounds",
    ),
    "outcome's moves": (
        state(
            outcome=property(
                lambda self: (
                    Outcome((0.0, 0.0), (("RED",), ("RED",))) if self.calls and not self.actors else None
                )
            )
        ),
        "Give the moves of the round",
    ),
    "moves a round": (
        type("Broken", (type(GAMES["kuhn"]),), {"spec": replace(GAMES["kuhn"].spec, moves_per_round=1)})(),
        "a seat moved 2 times in one round",
    ),
    "nature's moves a round": (
        methods(state=CoinByCoin),
        "nature moved 2 times in one round",
    ),
    "remembers earlier calls": (
        methods(initial_state=lambda self: CoinState(coins=((ticks(), 0),))),
        "must not remember earlier calls",
    ),
    "random apply": (
        state(
            apply_chance=lambda self, outcome: replace(self, coins=(*self.coins, (ticks() % 2, outcome[1])))
        ),
        "all randomness belongs into chance_outcomes()",
    ),
    "hidden coin in information": (
        state(information=lambda self, seat: CoinInformation(sum(self.coins, ()), self.calls)),
        "leave the hidden part out",
    ),
    "hidden coin in the prompt": (
        type(
            "Broken",
            (Coins,),
            {
                "state": type(
                    "CoinState",
                    (CoinState,),
                    {
                        "information": lambda self, seat: CoinInformation(
                            tuple(pair[seat] for pair in self.coins), self.calls, aside=self.coins
                        )
                    },
                ),
                "render": lambda self, seen: f"{seen.coins} {seen.calls} {seen.aside}",
            },
        )(),
        "must depend on the state only",
    ),
    "nothing declared as shown": (
        state(
            outcome=property(
                lambda self: (
                    Outcome((0.0, 0.0), ((self.calls[-1][0],), (self.calls[-1][1],)))
                    if self.calls and not self.actors
                    else None
                )
            )
        ),
        "put it into Outcome.private",
    ),
    "a flag that is none": (spec(few_states=1), "spec.few_states is 1. Give True or False"),
    "too many states for few": (
        type(
            "Broken",
            (type(GAMES["negotiation_v2"]),),
            {"spec": replace(GAMES["negotiation_v2"].spec, few_states=True)},
        )(),
        "spec.few_states is for games of at most 2000; set it to False",
    ),
    "reference row": (spec(reference_row=3), "spec.reference_row is 3"),
    "reference row that is not there": (spec(reference_row="memory"), "spec.reference_row(CoinInformation"),
    "label": (seeing(label=""), "label gives '' in"),
    "label of unlike rows": (
        state(information=lambda self, seat: OneCall(tuple(pair[seat] for pair in self.coins), self.calls)),
        "label gives 'call' both to",
    ),
    "mixture": (methods(mixture={"red": 1}), "Give a Mixture(...), or None"),
    "nobody demonstrates": (mixture(demonstrators=()), "weights > 0 that sum to 1"),
    "demonstrator by id": (mixture(demonstrators=(("red", 1.0),)), "Give pairs (Strategy, weight)"),
    "demonstrators' weights": (mixture(demonstrators=((RED, 0.9),)), "weights > 0 that sum to 1"),
    "demonstrator twice": (mixture(demonstrators=((RED, 0.5), (RED, 0.5))), "Give each its own id"),
    "few records": (mixture(records=10), "mixture.records is 10. Give a whole number >= 100"),
    "unknown opponent in the corpus": (mixture(opponents=("green",)), "mixture.opponents names 'green'"),
    "no opponent in the corpus": (mixture(opponents=()), "Name at least one opponent, each once"),
    "shift in the corpus": (
        mixture(opponents=("red", "a")),
        "a stands in mixture.opponents and in pool 'shift'",
    ),
    "demonstrator of no sentence": (
        mixture(
            demonstrators=((type("Broken", (Always,), {"explain": lambda *_: "Red"})("own", "RED"), 1.0),)
        ),
        "strategy 'own' explain gives 'Red'",
    ),
    "study start": (methods(study_start={"start": (1, 0)}), "Give a StudyStart(row, table)"),
    "row of the study": (methods(study_start=StudyStart("mood", {})), "study_start.row("),
    "study start without a row": (
        methods(study_start=StudyStart("label", {})),
        "study_start.table has None for",
    ),
    "study start of three actions": (
        type(
            "Broken",
            (type(GAMES["ipd"]),),
            {"study_start": StudyStart("label", {"start": (0.5, 0.25, 0.25)})},
        )(),
        "Give probabilities of ('COOPERATE', 'DEFECT'), in this order",
    ),
    "game without a hash": (ListedGame(), "the game (ListedGame) is not hashable"),
    "spec without a hash": (spec(title=["Coins"]), "spec (GameSpec) is not hashable"),
    "strategy without a hash": (
        methods(strategies={**Coins.strategies, "red": ListedStrategy()}),
        "strategy 'red' (ListedStrategy) is not hashable. Make its class a @dataclass(frozen=True)",
    ),
    "demonstrator without a hash": (
        mixture(demonstrators=((TabledStrategy(), 1.0),)),
        "strategy 'own' (TabledStrategy) is not hashable",
    ),
    "a move after the last outcome": (
        methods(state=OneMoreDeal),
        "chance_outcomes() after the last of 2 rounds",
    ),
    "parse guesses": (methods(parse=lambda self, reply, legal: legal[0]), "anything but exactly one"),
    "parse reads nothing": (methods(parse=lambda self, reply, legal: None), "not 'RED' (direct style"),
    "parse reads one line only": (
        methods(parse=lambda self, reply, legal: reply if reply in legal else None),
        "(reasoned style",
    ),
    "parse fails": (methods(parse=lambda self, reply, legal: reply[0]), "parse("),
    "strategy plays what is not legal": (
        strategy(distribution=lambda self, seen: {"GREEN": 1.0}),
        "Choose from seen.legal_actions",
    ),
    "strategy sums to 0.9": (strategy(distribution=lambda self, seen: {"RED": 0.9}), "sum to 1"),
    "strategy below 0": (
        strategy(distribution=lambda self, seen: {"RED": 1.5, "BLUE": -0.5}),
        "must be >= 0",
    ),
    "strategy gives a word": (strategy(distribution=lambda self, seen: "RED"), "{action: probability}"),
    "strategy counts": (
        strategy(distribution=lambda self, seen: {ACTIONS[ticks() % 2]: 1.0}),
        "pure function of what the seat has seen",
    ),
    "strategy fails": (strategy(distribution=lambda self, seen: seen.cards), "AttributeError"),
    "explains in two sentences": (
        strategy(explain=lambda self, seen, action: "I think. I call."),
        "one sentence",
    ),
    "explains at length": (
        strategy(explain=lambda self, seen, action: "I " + "really " * 40 + "call."),
        "at most 220",
    ),
    "explains nothing": (strategy(explain=lambda self, seen, action: ""), "one sentence"),
    "explains anew each time": (
        strategy(explain=lambda self, seen, action: f"I call for the {ticks()}th time."),
        "two texts for one decision",
    ),
}


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
@pytest.mark.parametrize("seed", (0, 1))
def test_games_of_the_kit_pass(game, seed):
    check_game(game, seed)


def test_the_toy_game_is_sound():
    check_game(Coins())


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_game_gets_one_message_that_says_what_to_mend(name):
    game, message = BROKEN[name]
    with pytest.raises(GameError) as caught:
        check_game(game)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_the_kit_must_know_passes_where_it_is_sound():
    calls = {"call": (0.5, 0.5)}
    kind = type("CoinInformation", (CoinInformation,), {"label": "call"})
    sound = type(
        "Sound",
        (Coins,),
        {
            "spec": replace(Coins.spec, few_states=True, reference_row="label"),
            "mixture": SOUND,
            "study_start": StudyStart("label", calls),
            "state": type(
                "CoinState",
                (CoinState,),
                {"information": lambda self, seat: kind(tuple(p[seat] for p in self.coins), self.calls)},
            ),
        },
    )
    check_game(sound())


@dataclass(frozen=True)
class Told(CoinState):
    """Long calls of which the seats remember the last alone, and the state all."""

    rounds = 10

    def chance_outcomes(self):
        return () if self.actors or self.round == self.rounds else (((0, 0), 1.0),)

    def information(self, seat):
        return CoinInformation((self.round,), self.calls[-1:])


def test_few_information_states_of_a_large_tree_are_not_few(monkeypatch):
    assert kit.POSITIONS == exact.MAX_STATES
    game = type("Told", (Coins,), {"state": Told, "spec": replace(Coins.spec, rounds=10, few_states=True)})()
    monkeypatch.setattr(kit, "POSITIONS", 2000)
    with pytest.raises(GameError, match="its tree has more than 2000 positions"):
        check_game(game)


@pytest.mark.parametrize("game", [GAMES["kuhn"], GAMES["leduc"], spec(few_states=True)])
def test_positions_are_those_of_the_tree_that_is_enumerated(game):
    exact.information_states(game)
    layers = tree.arena(game).free.layers
    assert GameChecks(game, 0).positions() == sum(len(layer) - 1 for layer in layers)


def test_moves_of_nature_that_are_declared_pass():
    check_game(
        type("Declared", (Coins,), {"state": CoinByCoin, "spec": replace(Coins.spec, chance_per_round=2)})()
    )


def test_the_message_is_a_value_error():
    assert issubclass(GameError, ValueError)
    with pytest.raises(ValueError, match="needs an instance of Game"):
        check_game(SimpleNamespace(spec=None))


def test_labels_do_not_suffice_where_seats_move_in_turn():
    class Turns(type(GAMES["kuhn"])):
        spec = replace(GAMES["kuhn"].spec, label_suffices=True)

    with pytest.raises(GameError, match=r"seat \(\d,\) moves alone in .*Leave label_suffices False"):
        check_game(Turns())
