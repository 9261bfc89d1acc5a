"""A game as OpenSpiel's: chance nodes, simultaneous nodes, information states with perfect recall.

``information_state_string`` is the seat's own decisions so far, each as "key>action number", and the key of the one
at hand; ``observation_string`` is that key alone. Where a seat is not to move it has nothing new to see.
"""

from __future__ import annotations

import numpy as np
import pyspiel

from sepo_kit.games.base import Game, InformationState, State
from sepo_kit.interop.encoding import Encoding, bits, encoding

_games: dict[str, Game] = {}  # by OpenSpiel's name: its library loads games by name


def to_open_spiel(game: Game, rounds: int | None) -> pyspiel.Game:
    """See ``sepo_kit.interop``."""
    spec = game.spec
    if rounds is not None and (
        isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= spec.rounds
    ):
        raise ValueError(
            f"rounds must be a whole number from 1 to {spec.rounds} in {spec.id}, got {rounds!r}"
        )
    name = f"sepo_kit_{spec.id}"
    if _games.get(name) is not game:  # a game of the same name takes the place of the one before
        _games[name] = game
        # A class: the library keeps it until after Python has ended, and anything else would then be freed.
        pyspiel.register_game(_game_type(name), type(name, (SpielGame,), {"name": name}))
    return pyspiel.load_game(name, {"rounds": spec.rounds if rounds is None else rounds})


def _game_type(name: str) -> pyspiel.GameType:
    game, kinds = _games[name], pyspiel.GameType
    numbers = encoding(game)
    return kinds(
        short_name=name,
        long_name=game.spec.title,
        dynamics=kinds.Dynamics.SIMULTANEOUS if numbers.simultaneous else kinds.Dynamics.SEQUENTIAL,
        chance_mode=kinds.ChanceMode.EXPLICIT_STOCHASTIC
        if numbers.most_outcomes
        else kinds.ChanceMode.DETERMINISTIC,
        information=kinds.Information.IMPERFECT_INFORMATION,
        utility=kinds.Utility.ZERO_SUM if game.spec.zero_sum else kinds.Utility.GENERAL_SUM,
        reward_model=kinds.RewardModel.REWARDS,
        max_num_players=2,
        min_num_players=2,
        provides_information_state_string=True,
        provides_information_state_tensor=True,
        provides_observation_string=True,
        provides_observation_tensor=True,
        parameter_specification={"rounds": game.spec.rounds},
    )


class SpielGame(pyspiel.Game):
    """The game called ``name``, ended after ``parameters["rounds"]`` rounds; each game has a subclass of its own."""

    name: str

    def __init__(self, parameters: dict) -> None:
        self.kit = _games[self.name]
        self.rounds = parameters["rounds"]
        spec = self.kit.spec
        self.moves = self.rounds * spec.moves_per_round  # the most that one seat makes
        info = pyspiel.GameInfo(
            num_distinct_actions=len(spec.actions),
            max_chance_outcomes=encoding(self.kit).most_outcomes,
            num_players=2,
            min_utility=self.rounds * spec.payoff_bounds[0],
            max_utility=self.rounds * spec.payoff_bounds[1],
            max_game_length=2 * self.moves,
            utility_sum=0.0 if spec.zero_sum else None,
        )
        super().__init__(_game_type(self.name), info, {"rounds": self.rounds})

    def __reduce_ex__(self, protocol: int) -> tuple:
        return pyspiel.load_game, (self.name, {"rounds": self.rounds})

    def new_initial_state(self) -> SpielState:
        return SpielState(self)

    def make_py_observer(self, iig_obs_type=None, params=None) -> Observer | None:
        kind = iig_obs_type or pyspiel.IIGObservationType(perfect_recall=False)
        if kind.private_info != pyspiel.PrivateInfoType.SINGLE_PLAYER or not kind.public_info:
            return None  # what a seat has seen is one thing in the kit, not a public and a private part
        return Observer(self, kind.perfect_recall)

    def max_chance_nodes_in_history(self) -> int:
        return self.rounds * self.kit.spec.chance_per_round if encoding(self.kit).most_outcomes else 0


class SpielState(pyspiel.State):
    """A position. ``kit_state`` is the game's own; OpenSpiel copies and pickles every field, so they are small."""

    def __init__(self, game: SpielGame) -> None:
        super().__init__(game)
        self.name, self.rounds = game.name, game.rounds
        self.kit_state: State = game.kit.initial_state()
        self.memory: tuple[str, str] = ("", "")  # by seat: its decisions so far
        self.earned = self.total = (0.0, 0.0)

    def is_terminal(self) -> bool:
        return self.kit_state.is_terminal or self.kit_state.round >= self.rounds

    def current_player(self) -> int:
        if self.is_terminal():
            return pyspiel.PlayerId.TERMINAL
        actors = self.kit_state.actors
        if not actors:
            return pyspiel.PlayerId.CHANCE
        return actors[0] if len(actors) == 1 else pyspiel.PlayerId.SIMULTANEOUS

    def _legal_actions(self, player: int) -> list[int]:
        return self._encoding.legal(self.seen(player))

    def chance_outcomes(self) -> list[tuple[int, float]]:
        """Pairs (number of the outcome, probability), in the game's order."""
        return [(number, p) for number, (_, p) in enumerate(self.kit_state.chance_outcomes())]

    def seen(self, player: int) -> InformationState | None:
        """What ``player`` has seen; None where it is not to move."""
        moving = not self.is_terminal() and player in self.kit_state.actors
        return self.kit_state.information(player) if moving else None

    def _apply_action(self, action: int) -> None:
        if self.is_chance_node():
            self._enter(self.kit_state.apply_chance(self.kit_state.chance_outcomes()[action][0]))
        else:
            self._apply_actions([action])

    def _apply_actions(self, actions: list[int]) -> None:
        memory, words = list(self.memory), self._encoding.actions
        for seat, action in zip(self.kit_state.actors, actions, strict=True):
            memory[seat] += f"{self.kit_state.information(seat).key}>{action} "
        self.memory = memory[0], memory[1]
        self.earned = (0.0, 0.0)
        self._enter(self.kit_state.apply(tuple(words[action] for action in actions)))

    def _enter(self, state: State) -> None:
        self.kit_state = state
        if state.outcome:
            own, their = state.outcome.payoffs
            self.earned = self.earned[0] + own, self.earned[1] + their
            self.total = self.total[0] + own, self.total[1] + their

    def rewards(self) -> list[float]:
        """Payoffs since the last decision, in the game's unit; 0 where no round has ended since."""
        return list(self.earned)

    def returns(self) -> list[float]:
        """Payoffs so far, summed over rounds."""
        return list(self.total)

    def _action_to_string(self, player: int, action: int) -> str:
        if player == pyspiel.PlayerId.CHANCE:
            return f"nature: {self.kit_state.chance_outcomes()[action][0]}"
        return self._encoding.actions[action]

    def __str__(self) -> str:
        return f"round {self.kit_state.round}, {self.kit_state}"

    @property
    def _encoding(self) -> Encoding:
        return encoding(_games[self.name])


class Observer:
    """What one seat has seen, as OpenSpiel asks for it. ``dict["player"]``: one-hot, shape (2,); ``dict["seen"]``:
    the string in bits, float32."""

    def __init__(self, game: SpielGame, perfect_recall: bool) -> None:
        self.perfect_recall = perfect_recall
        per_key = encoding(game.kit).bytes
        own = per_key + len(str(len(game.kit.spec.actions))) + 2  # a key, ">", a number, " "
        self.bytes = per_key + game.moves * own if perfect_recall else per_key
        self.tensor = np.zeros(2 + 8 * self.bytes, dtype=np.float32)
        self.dict = {"player": self.tensor[:2], "seen": self.tensor[2:]}

    def set_from(self, state: SpielState, player: int) -> None:
        self.tensor.fill(0)
        self.dict["player"][player] = 1
        self.dict["seen"][:] = bits(self._text(state, player), self.bytes)

    def string_from(self, state: SpielState, player: int) -> str:
        return f"p{player} {self._text(state, player)}"

    def _text(self, state: SpielState, player: int) -> str:
        seen = state.seen(player)
        memory = state.memory[player] if self.perfect_recall else ""
        return memory + (seen.key if seen else "")
