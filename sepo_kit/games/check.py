"""``check_game``: does a game keep the contract that play, training and evaluation rely on?

Public: point it at your own game (``docs/add_a_game.md``). It looks at every state where there are few, else
at what seeded play reaches, and raises ``GameError`` at the first broken rule: what is wrong, what is
allowed, what to mend. Under a second a game.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import fields, is_dataclass

import numpy as np

from sepo_kit.games.base import (
    HARM_DEFINITIONS,
    POOLS,
    REPLY_STYLES,
    SEATS,
    Game,
    GameSpec,
    Harms,
    InformationState,
    Outcome,
    Pools,
    State,
    Strategy,
    Weights,
)

STATES = 1000  # games with more states are checked by play
EPISODES = 30
TWINS = 6  # other outcomes tried at a move of nature, to find hidden information that shows
INFORMATION_STATES = 300  # at which strategies are asked
PARSED_ACTIONS = 2000
EXPLANATION_LENGTH = 220
SHIFT_STRATEGIES = 3
TOLERANCE = 1e-9
NO_ACTION = "no such action"


class GameError(ValueError):
    """A game breaks a rule; the message says which, what is allowed and what to mend."""


def check_game(game: Game, seed: int = 0) -> None:
    """Check that ``game`` keeps the contract of ``base.py``.

    Parameters
    ----------
    seed
        Seed of the random play; the same seed checks the same positions.

    Raises
    ------
    GameError
        The first rule found broken.

    >>> from sepo_kit.games import get_game
    >>> check_game(get_game("kuhn"))
    """
    if not isinstance(game, Game):
        raise GameError(
            f"check_game needs an instance of Game, got {game!r}. Pass the GAME of your game file"
        )
    check = _Check(game, seed)
    check.spec()
    check.pools()
    check.system_prompts()
    check.every_state()
    for _ in range(EPISODES):
        episode = check.play()
        check.rounds(episode)
        check.same_again(episode)
        check.hidden_information(episode)
    check.words()
    check.strategies()


# A move is ("nature", outcome) or ("seats", actions); an episode is its (move, state after it) pairs, the
# first move being None.
Move = tuple[str, object]
Trail = list[tuple[Move | None, State]]


class _Check:
    """One run of ``check_game``: the game, its random numbers, and what has been seen so far."""

    def __init__(self, game: Game, seed: int) -> None:
        self.game = game
        self.rng = np.random.default_rng(seed)
        self.visited: set[State] = set()
        self.seen: dict[InformationState, str] = {}  # information state -> prompt
        self.keys: dict[str, InformationState] = {}
        self.prompts: dict[str, InformationState] = {}

    def require(self, holds: bool, wrong: str, mend: str) -> None:
        """Raise ``GameError`` unless ``holds``."""
        if not holds:
            raise GameError(f"{self.name}: {wrong}. {mend}")

    @property
    def name(self) -> str:
        return getattr(getattr(self.game, "spec", None), "id", type(self.game).__name__)

    def call(self, what: str, function: Callable, *arguments, **options):
        """``function(...)``, with anything it raises turned into a ``GameError``."""
        try:
            return function(*arguments, **options)
        except GameError:
            raise
        except Exception as error:
            given = ", ".join([*map(_short, arguments), *(f"{k}={_short(v)}" for k, v in options.items())])
            raise GameError(
                f"{self.name}: {what}({given}) raised {type(error).__name__}: {error}. "
                f"It must work in every position that play can reach; mend {what}"
            ) from error

    # --- spec -------------------------------------------------------------------------------------

    def spec(self) -> None:
        spec = getattr(self.game, "spec", None)
        self.require(
            isinstance(spec, GameSpec), f"game.spec is {spec!r}", "Set it to a GameSpec at the class's top"
        )
        self.require(
            re.fullmatch(r"[a-z][a-z0-9_]*", str(spec.id)) is not None,
            f"spec.id is {spec.id!r}",
            "Use lower-case letters, digits and _ only, a letter first",
        )
        for field in ("rounds", "moves_per_round", "chance_per_round"):
            value = getattr(spec, field)
            self.require(
                isinstance(value, int) and value >= 1,
                f"spec.{field} is {value!r}",
                "Give a whole number >= 1",
            )
        self.require(
            _finite(spec.reference_payoff) and spec.reference_payoff > 0,
            f"spec.reference_payoff is {spec.reference_payoff!r}",
            "Give the cooperative payoff per round, a finite number > 0: payoffs are divided by it",
        )
        low_high = spec.payoff_bounds
        self.require(
            len(low_high) == 2 and all(map(_finite, low_high)) and low_high[0] < low_high[1],
            f"spec.payoff_bounds is {low_high!r}",
            "Give (lowest, highest) payoff of one seat in one round, two finite numbers",
        )
        for field in ("weights", "eval_weights"):
            value = getattr(spec, field)
            self.require(isinstance(value, Weights), f"spec.{field} is {value!r}", "Give a Weights(...)")
        words = [str(action).upper() for action in spec.actions]
        self.require(
            bool(words) and len(set(words)) == len(words),
            f"spec.actions is {_short(spec.actions)}",
            "List every action word of the game once; case does not tell two apart",
        )

    def pools(self) -> None:
        strategies, pools = self.game.strategies, self.game.spec.pools
        self.require(
            isinstance(strategies, Mapping) and all(isinstance(s, Strategy) for s in strategies.values()),
            f"game.strategies is {_short(strategies)}",
            "Give a mapping from strategy id to Strategy",
        )
        for label, strategy in strategies.items():
            self.require(
                label == strategy.id and re.fullmatch(r"[a-z0-9][a-z0-9.-]*", label) is not None,
                f"strategy {strategy.id!r} stands under {label!r} in game.strategies",
                "List each under its own id: lower-case letters, digits, '-' and '.'",
            )
        self.require(isinstance(pools, Pools), f"spec.pools is {pools!r}", "Give a Pools(...)")
        for pool in POOLS:
            ids = pools[pool]
            unknown = [i for i in ids if i not in strategies]
            self.require(
                not unknown,
                f"pool {pool!r} names {', '.join(map(repr, unknown))}, which is not in game.strategies",
                f"Known: {', '.join(strategies)}",
            )
            self.require(
                len(set(ids)) == len(ids), f"pool {pool!r} names a strategy twice: {ids}", "Name each once"
            )
        self.roles(pools)

    def roles(self, pools: Pools) -> None:
        for pool in ("train", "exploit"):
            self.require(bool(pools[pool]), f"pool {pool!r} is empty", "Name at least one opponent")
        self.require(
            len(pools.shift) >= SHIFT_STRATEGIES,
            f"pool 'shift' has {len(pools.shift)} strategies",
            f"Name at least {SHIFT_STRATEGIES}: Robust is measured on them",
        )
        for pool in ("train", "exploit", "collusive"):
            both = sorted(set(pools.shift) & set(pools[pool]))
            self.require(
                not both,
                f"{', '.join(both)} stands in pools 'shift' and {pool!r}",
                "Keep shift strategies out of every other pool: they must be new to the agent",
            )
        both = sorted(set(pools.exploit) & set(pools.collusive))
        self.require(
            not both,
            f"{', '.join(both)} stands in pools 'exploit' and 'collusive'",
            "A strategy is either an adversary or a partner that invites collusion; choose one",
        )

    def system_prompts(self) -> None:
        texts = {style: self.call("system_prompt", self.game.system_prompt, style) for style in REPLY_STYLES}
        for style, text in texts.items():
            self.require(
                isinstance(text, str) and bool(text.strip()),
                f"system_prompt({style!r}) is {text!r}",
                "Return the rules as text",
            )
        self.require(
            len(set(texts.values())) == len(texts),
            f"system_prompt is the same for the styles {', '.join(texts)}",
            "End it with answer_rule(style)",
        )
        self.refuses(
            "system_prompt", self.game.system_prompt, NO_ACTION, mend="End it with answer_rule(style)"
        )

    def refuses(self, what: str, function: Callable, *arguments, mend: str) -> None:
        """Require that ``function(...)`` raises ValueError."""
        given = ", ".join(map(_short, arguments))
        try:
            function(*arguments)
        except ValueError:
            return
        except Exception as error:
            wrong = f"{what}({given}) raised {type(error).__name__} where only ValueError is allowed"
            raise GameError(f"{self.name}: {wrong}. {mend}") from error
        raise GameError(f"{self.name}: {what}({given}) was accepted. {mend}")

    # --- states -----------------------------------------------------------------------------------

    def every_state(self) -> None:
        """Visit every state if there are few; otherwise stop, and leave the rest to play."""
        waiting = [self.call("initial_state", self.game.initial_state)]
        found = set()
        while waiting:
            state = waiting.pop()
            self.visit(state)
            for move in self.moves(state):
                after = self.step(state, move)
                self.hashable(after)
                if after not in found:
                    found.add(after)
                    waiting.append(after)
                if len(found) > STATES:
                    return

    def moves(self, state: State) -> Iterator[Move]:
        """Every move that is possible in ``state``."""
        for outcome, _ in state.chance_outcomes():
            yield "nature", outcome
        legal = [state.information(seat).legal_actions for seat in state.actors]
        if len(legal) == 1:
            yield from (("seats", (action,)) for action in legal[0])
        elif len(legal) == 2:
            yield from (("seats", (first, second)) for first in legal[0] for second in legal[1])

    def step(self, state: State, move: Move) -> State:
        """The state after ``move``; ``state`` itself must stay as it is."""
        before = repr(state), hash(state)
        kind, what = move
        name, function = ("apply_chance", state.apply_chance) if kind == "nature" else ("apply", state.apply)
        after, again = self.call(name, function, what), self.call(name, function, what)
        self.require(
            (repr(state), hash(state)) == before,
            f"{name} changed the state it was called on",
            "Return a new state and leave self alone",
        )
        self.require(
            isinstance(after, State), f"{name} returned {_short(after)}", "Return the State that follows"
        )
        self.require(
            after == again,
            f"{name}({_short(what)}) gives {_short(after)} and then {_short(again)}",
            "It must depend on the state and the move only, and equal states must compare equal: all "
            "randomness belongs into chance_outcomes()",
        )
        return after

    def visit(self, state: State) -> None:
        """All that must hold in a single state."""
        self.hashable(state)
        if state in self.visited:
            return
        self.visited.add(state)
        self.frozen(state)
        self.kind(state)
        self.chance(state)
        for seat in state.actors:
            self.information(state, seat)
        if state.actors:
            self.refuses(
                "apply",
                state.apply,
                (NO_ACTION,) * len(state.actors),
                mend="Raise ValueError in apply() for an action that is not legal (require_legal does)",
            )
        if state.outcome is not None:
            self.outcome(state.outcome)

    def hashable(self, thing: State | InformationState) -> None:
        self.require(
            _is_hashable(thing) and _is_equal(thing, thing),
            f"{type(thing).__name__} is not hashable",
            "Make it a @dataclass(frozen=True) of tuples, strings and numbers: no list, dict or array",
        )

    def frozen(self, thing: object) -> None:
        names = (
            [f.name for f in fields(thing)] if is_dataclass(thing) else list(getattr(thing, "__dict__", ()))
        )
        for name in names:
            try:
                setattr(thing, name, getattr(thing, name))
            except (AttributeError, TypeError):
                continue
            self.require(
                False,
                f"{type(thing).__name__}.{name} can be changed",
                "States are immutable: make it a @dataclass(frozen=True)",
            )

    def kind(self, state: State) -> None:
        actors = state.actors
        self.require(
            actors in ((), (0,), (1,), (0, 1)), f"actors is {actors!r}", "Return (), (0,), (1,) or (0, 1)"
        )
        holds = [
            word
            for word, holds in (
                ("is_terminal", state.is_terminal),
                ("chance_outcomes()", bool(state.chance_outcomes())),
                ("actors", bool(actors)),
            )
            if holds
        ]
        self.require(
            len(holds) == 1,
            f"{' and '.join(holds) or 'none of is_terminal, chance_outcomes(), actors'} in {_short(state)}",
            "Exactly one must hold: the game is over, nature moves, or seats move",
        )

    def chance(self, state: State) -> None:
        pairs = state.chance_outcomes()
        if not pairs:
            return
        probabilities = [p for _, p in pairs]
        self.require(
            all(_finite(p) and p > 0 for p in probabilities) and abs(sum(probabilities) - 1) < TOLERANCE,
            f"the probabilities of chance_outcomes() sum to {sum(probabilities):g}: {_short(probabilities)}",
            "Each must be > 0 and together they must be 1",
        )
        outcomes = [outcome for outcome, _ in pairs]
        self.require(
            all(map(_is_hashable, outcomes)) and len(set(outcomes)) == len(outcomes),
            f"chance_outcomes() lists an outcome twice, or one that is not hashable: {_short(outcomes)}",
            "List each once, as a tuple, string or number",
        )

    def information(self, state: State, seat: int) -> None:
        seen = self.call("information", state.information, seat)
        self.require(
            isinstance(seen, InformationState),
            f"information({seat}) is {_short(seen)}",
            "Return an InformationState",
        )
        self.hashable(seen)
        self.require(
            seen == state.information(seat),
            f"information({seat}) is not equal to itself when asked twice",
            "It must depend on the state only",
        )
        if seen in self.seen:
            return
        self.frozen(seen)
        self.legal(seen)
        key = self.call("key", lambda _: seen.key, seen)
        self.require(isinstance(key, str) and bool(key), f"key is {key!r}", "Return a short text")
        other = self.keys.setdefault(key, seen)
        self.require(
            other == seen,
            f"key {key!r} stands for two information states: {_short(other)} and {_short(seen)}",
            "Put into key all that tells them apart: it is the row label of a tabular policy",
        )
        self.seen[seen] = self.prompt(seen)

    def legal(self, seen: InformationState) -> None:
        actions = self.call("legal_actions", lambda _: seen.legal_actions, seen)
        self.require(
            isinstance(actions, tuple) and len(actions) > 0 and len(set(actions)) == len(actions),
            f"legal_actions is {_short(actions)}",
            "Return a tuple of at least one action, each once",
        )
        unknown = [action for action in actions if action not in self.game.spec.actions]
        self.require(
            not unknown,
            f"legal_actions has {_short(unknown)}, which spec.actions does not list",
            "spec.actions must list every action word of the game: replies are read with it",
        )

    def prompt(self, seen: InformationState) -> str:
        text = self.call("render", self.game.render, seen)
        self.require(isinstance(text, str) and bool(text.strip()), f"render gives {text!r}", "Return text")
        self.require(
            text == self.game.render(seen),
            "render gives two texts for one information state",
            "It must depend on what the seat has seen only: no counter, no randomness, no field of the game",
        )
        other = self.prompts.setdefault(text, seen)
        self.require(
            other == seen,
            f"render gives the same text for {_short(other)} and {_short(seen)}: {_short(text)}",
            "Show all that information() holds, or leave out of information() what you do not show",
        )
        return text

    def outcome(self, outcome: Outcome) -> None:
        spec = self.game.spec
        self.require(
            isinstance(outcome, Outcome), f"outcome is {_short(outcome)}", "Return an Outcome or None"
        )
        low, high = spec.payoff_bounds
        payoffs = outcome.payoffs
        self.require(
            len(payoffs) == 2 and all(_finite(p) and low <= p <= high for p in payoffs),
            f"a round pays {payoffs!r}, outside spec.payoff_bounds {spec.payoff_bounds!r}",
            "Give two finite payoffs, or mend the bounds",
        )
        self.require(
            not spec.zero_sum or abs(sum(payoffs)) < TOLERANCE,
            f"a round pays {payoffs!r}, which is not zero-sum",
            "Mend the payoffs, or set spec.zero_sum=False",
        )
        for definition in HARM_DEFINITIONS:
            for seat in SEATS:
                self.harms(outcome, seat, definition)

    def harms(self, outcome: Outcome, seat: int, definition: str) -> None:
        harms = self.call("harms", self.game.harms, outcome, seat, definition=definition)
        self.require(isinstance(harms, Harms), f"harms gives {_short(harms)}", "Return a Harms(...)")
        for name in ("collusion", "externality"):
            value = getattr(harms, name)
            self.require(
                _finite(value) and 0 <= value <= 1,
                f"harms(..., seat={seat}, definition={definition!r}).{name} is {value!r}",
                "A harm is a share from 0 to 1; divide by the most a round can do",
            )

    # --- play -------------------------------------------------------------------------------------

    def play(self) -> Trail:
        """One episode, each seat playing at random or one of the game's strategies."""
        state = self.call("initial_state", self.game.initial_state)
        trail: Trail = [(None, state)]
        players = [self.some([None, *self.game.strategies.values()], 1)[0] for _ in SEATS]
        spec = self.game.spec
        longest = 10 * spec.rounds * (2 * spec.moves_per_round + spec.chance_per_round)
        self.visit(state)
        while not state.is_terminal:
            self.require(
                len(trail) <= longest,
                f"an episode has more than {longest} moves",
                "It must end after spec.rounds rounds: then actors and chance_outcomes() are empty",
            )
            move = self.draw(state, players)
            state = self.step(state, move)
            self.visit(state)
            trail.append((move, state))
        return trail

    def draw(self, state: State, players: list[Strategy | None]) -> Move:
        """A random move, as nature or as the seats that must move."""
        pairs = state.chance_outcomes()
        if pairs:
            return "nature", pairs[self.rng.choice(len(pairs), p=[p for _, p in pairs])][0]
        actions = []
        for seat in state.actors:
            seen = state.information(seat)
            legal = seen.legal_actions
            player = players[seat]
            probabilities = self.distribution(player, seen) if player else {a: 1 / len(legal) for a in legal}
            actions.append(legal[self.rng.choice(len(legal), p=[probabilities.get(a, 0) for a in legal])])
        return "seats", tuple(actions)

    def rounds(self, trail: Trail) -> None:
        """The rounds of an episode: their number, their moves, and what their outcomes say of them."""
        spec, finished = self.game.spec, 0
        made: tuple[list[str], list[str]] = ([], [])
        chance = 0
        self.require(
            trail[0][1].outcome is None,
            "the initial state has an outcome",
            "outcome is None until a round ends",
        )
        for index, (move, state) in enumerate(trail):
            if move is not None and move[0] == "nature":
                chance += 1
            elif move is not None:
                for seat, action in zip(trail[index - 1][1].actors, move[1], strict=True):
                    made[seat].append(action)
            if state.outcome is not None:
                finished += 1
                self.moves_of_round(state.outcome, made, chance)
                made, chance = ([], []), 0
            self.require(
                state.is_terminal or state.round == finished,
                f"state.round is {state.round} after {finished} finished rounds in {_short(state)}",
                "round counts from 0 the rounds that have an outcome; outcome is set in the one state right "
                "after the round's last move, and None in the others",
            )
        self.require(
            finished == spec.rounds,
            f"an episode has {finished} outcomes",
            f"It must have one for each of spec.rounds = {spec.rounds}",
        )

    def moves_of_round(self, outcome: Outcome, made: tuple[list[str], list[str]], chance: int) -> None:
        spec = self.game.spec
        told = tuple(tuple(actions) for actions in outcome.actions)
        self.require(
            told == tuple(map(tuple, made)),
            f"Outcome.actions is {_short(outcome.actions)} where the seats played {_short(made)}",
            "Give the moves of the round, one tuple per seat, in order; in all states but the one right "
            "after the round's last move, outcome is None",
        )
        self.require(
            len(outcome.private) == 2,
            f"Outcome.private is {_short(outcome.private)}",
            "Give one entry per seat: all that nature has shown it, or None",
        )
        most = max(map(len, made))
        self.require(
            most <= spec.moves_per_round,
            f"a seat moved {most} times in one round",
            f"spec.moves_per_round is {spec.moves_per_round}; it must be the most that can happen",
        )
        self.require(
            chance <= spec.chance_per_round,
            f"nature moved {chance} times in one round",
            f"spec.chance_per_round is {spec.chance_per_round}; it must be the most that can happen",
        )

    def same_again(self, trail: Trail) -> None:
        """The same moves must give the same states, information and prompts."""
        state = self.game.initial_state()
        for move, before in trail:
            if move is not None:
                state = self.step(state, move)
            self.require(
                state == before and hash(state) == hash(before),
                f"the same moves give {_short(before)} and then {_short(state)}",
                "initial_state(), apply() and apply_chance() must not remember earlier calls",
            )
            for seat in state.actors:
                seen = state.information(seat)
                self.require(
                    seen == before.information(seat) and self.game.render(seen) == self.seen[seen],
                    f"the same moves give seat {seat} two different views, last {_short(seen)}",
                    "information() and render() must depend on the state only",
                )

    # --- hidden information -----------------------------------------------------------------------

    def hidden_information(self, trail: Trail) -> None:
        """Change one move of nature and nothing else: a seat that was shown the same must see the same."""
        places = [index for index, (move, _) in enumerate(trail) if move is not None and move[0] == "nature"]
        for index in self.some(places, 3):
            drawn = trail[index][0][1]
            others = [o for o, _ in trail[index - 1][1].chance_outcomes() if o != drawn]
            for other in self.some(others, TWINS):
                self.same_view(trail, self.twin(trail, index, other), (drawn, other))

    def some(self, things: list, count: int) -> list:
        """Up to ``count`` of ``things`` at random."""
        chosen = self.rng.choice(len(things), size=min(count, len(things)), replace=False) if things else ()
        return [things[i] for i in chosen]

    def twin(self, trail: Trail, index: int, other: object) -> Trail:
        """``trail`` with nature's move at ``index`` changed to ``other``, as far as its moves go."""
        state = trail[index - 1][1]
        twin = trail[:index]
        for place in range(index, len(trail)):
            move = ("nature", other) if place == index else trail[place][0]
            if not self.possible(state, move):
                break
            state = self.step(state, move)
            self.visit(state)
            twin.append((move, state))
        return twin

    def possible(self, state: State, move: Move) -> bool:
        kind, what = move
        if kind == "nature":
            return any(what == outcome for outcome, _ in state.chance_outcomes())
        return len(what) == len(state.actors) and all(
            action in state.information(seat).legal_actions
            for seat, action in zip(state.actors, what, strict=True)
        )

    def same_view(self, trail: Trail, twin: Trail, drawn: tuple[object, object]) -> None:
        views: dict[int, list[tuple[InformationState, InformationState]]] = {seat: [] for seat in SEATS}
        for (_, one), (_, two) in zip(trail, twin, strict=False):
            if one.actors != two.actors or (one.outcome is None) != (two.outcome is None):
                return
            if one.outcome is not None:
                for seat in list(views):
                    if one.outcome.private[seat] != two.outcome.private[seat]:
                        del views[seat]  # nature showed this seat something else
                        continue
                    for pair in views[seat]:
                        self.same_to(seat, *pair, drawn)
                    views[seat] = []
            for seat in set(views) & set(one.actors):
                views[seat].append((one.information(seat), two.information(seat)))

    def same_to(self, seat: int, one: InformationState, two: InformationState, drawn: tuple) -> None:
        how = f"seat {seat} can tell whether nature drew {_short(drawn[0])} or {_short(drawn[1])}"
        mend = (
            "Outcome.private says that it was shown the same in both: leave the hidden part out of "
            "information(), or, if the seat may see it, put it into Outcome.private"
        )
        self.require(one == two and one.key == two.key, f"{how} from {_short(one)} and {_short(two)}", mend)
        texts = self.game.render(one), self.game.render(two)
        self.require(texts[0] == texts[1], f"{how} from the prompts {texts[0]!r} and {texts[1]!r}", mend)

    # --- words and strategies ---------------------------------------------------------------------

    def words(self) -> None:
        """Every legal action must be read back from a reply in both styles, and nothing else may be."""
        told = 0
        for legal in dict.fromkeys(seen.legal_actions for seen in self.seen):
            for action in legal:
                self.read("direct", action, legal, action)
                self.read("reasoned", f"I have thought about it.\n{action}", legal, action)
            for reply in ("", "I do not know.", f"{legal[0]}\nI do not know."):
                self.read("any", reply, legal, None)
            for other in legal[1:3]:
                self.read("any", f"{legal[0]} or {other}", legal, None)
            told += len(legal)
            if told > PARSED_ACTIONS:
                return

    def read(self, style: str, reply: str, legal: tuple[str, ...], action: str | None) -> None:
        got = self.call("parse", self.game.parse, reply, legal)
        self.require(
            got == action,
            f"parse({reply!r}) gives {got!r}, not {action!r} ({style} style, legal: {_short(legal)})",
            "A reply names its action on the last line that is not empty; anything but exactly one legal "
            "action is None",
        )

    def strategies(self) -> None:
        """Ask every strategy at what play has reached, then again in the other order."""
        asked = list(self.seen)
        if len(asked) > INFORMATION_STATES:
            asked = self.some(asked, INFORMATION_STATES)
        for strategy in self.game.strategies.values():
            first = [dict(self.distribution(strategy, seen)) for seen in asked]
            again = [dict(self.distribution(strategy, seen)) for seen in reversed(asked)]
            self.require(
                first == again[::-1],
                f"strategy {strategy.id!r} gives two distributions for one information state",
                "It must be a pure function of what the seat has seen: no counter, no memory, no randomness",
            )
            for seen, probabilities in zip(asked, first, strict=True):
                for action, probability in probabilities.items():
                    if probability > 0:
                        self.explanation(strategy, seen, action)

    def distribution(self, strategy: Strategy, seen: InformationState) -> Mapping[str, float]:
        what = f"strategy {strategy.id!r} distribution"
        probabilities = self.call(what, strategy.distribution, seen)
        self.require(
            isinstance(probabilities, Mapping),
            f"{what} is {_short(probabilities)}",
            "Return {action: probability}",
        )
        illegal = [action for action in probabilities if action not in seen.legal_actions]
        self.require(
            not illegal,
            f"{what} plays {_short(illegal)}, which is not legal in {_short(seen)}",
            f"Choose from seen.legal_actions: {_short(seen.legal_actions)}",
        )
        values = list(probabilities.values())
        self.require(
            all(_finite(p) and p >= 0 for p in values) and abs(sum(values) - 1) < TOLERANCE,
            f"{what} is {_short(dict(probabilities))} in {_short(seen)}",
            "Probabilities must be >= 0 and sum to 1",
        )
        return probabilities

    def explanation(self, strategy: Strategy, seen: InformationState, action: str) -> None:
        what = f"strategy {strategy.id!r} explain"
        text = self.call(what, strategy.explain, seen, action)
        self.require(
            isinstance(text, str)
            and 0 < len(text) <= EXPLANATION_LENGTH
            and "\n" not in text
            and text[-1] in ".!?"
            and re.search(r"[.!?]\s", text) is None,
            f"{what} gives {text!r}",
            f"Return one sentence on one line, with a full stop, at most {EXPLANATION_LENGTH} characters",
        )
        self.require(
            text == strategy.explain(seen, action),
            f"{what} gives two texts for one decision",
            "It must be a pure function of what the seat has seen and the action",
        )


def _finite(value: object) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(value)


def _is_hashable(thing: object) -> bool:
    try:
        hash(thing)
    except TypeError:
        return False
    return isinstance(thing, Hashable)


def _is_equal(one: object, two: object) -> bool:
    try:
        return bool(one == two)
    except ValueError:  # arrays compare element by element
        return False


def _short(thing: object, most: int = 160) -> str:
    text = repr(thing)
    return text if len(text) <= most else f"{text[:most]}..."
