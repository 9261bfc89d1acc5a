"""Kuhn poker: rules, values and equilibria against OpenSpiel, strategies against their definitions."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from sepo_kit.games import get_game
from sepo_kit.games.kuhn import CARDS, KuhnInformation, KuhnState

GAME = get_game("kuhn")
HISTORIES = ((), ("PASS",), ("BET",), ("PASS", "BET"))
LETTER = {"PASS": "p", "FOLD": "p", "BET": "b", "CALL": "b"}
STRATEGIES = [id for id in GAME.strategies if id != "uniform"]


def chip(strategy_id: str, card: str, moves: tuple[str, ...]) -> float:
    """Probability of BET or CALL."""
    seen = KuhnInformation(card, moves)
    return GAME.strategy(strategy_id).distribution(seen).get(seen.legal_actions[1], 0.0)


def hand_value(first, second, cards: tuple[str, str], state: KuhnState | None = None) -> float:
    """Expected chips of the first mover over one hand, dealt ``cards`` (first mover's first)."""
    state = state or KuhnState(cards=cards)
    if state.outcome is not None:
        return state.outcome.payoffs[0]
    (seat,) = state.actors
    table = (first, second)[seat].distribution(state.information(seat))
    return sum(p * hand_value(first, second, cards, state.apply((a,))) for a, p in table.items() if p)


def value(first, second) -> float:
    """Expected chips of the first mover over all deals."""
    return sum(hand_value(first, second, deal) for deal in permutations(CARDS, 2)) / 6


class Pure:
    """A strategy without chance: 1 for BET or CALL at (card, moves), else 0."""

    def __init__(self, table):
        self.table = table

    def distribution(self, seen):
        return {seen.legal_actions[self.table.get((seen.card, seen.moves), 0)]: 1.0}


def best_response_value(opponent, seat: int) -> float:
    """The most that a seat (0 moves first) can win against ``opponent``, over all 64 pure strategies."""
    places = list(product(CARDS, HISTORIES[0::3] if seat == 0 else HISTORIES[1:3]))
    values = []
    for choice in product((0, 1), repeat=len(places)):
        pure = Pure(dict(zip(places, choice, strict=True)))
        values.append(value(pure, opponent) if seat == 0 else -value(opponent, pure))
    return max(values)


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cards", "moves", "chips"),
    [
        ("KQ", ("PASS", "PASS"), 1),
        ("JQ", ("PASS", "PASS"), -1),
        ("JQ", ("BET", "FOLD"), 1),
        ("JQ", ("BET", "CALL"), -2),
        ("KQ", ("BET", "CALL"), 2),
        ("KQ", ("PASS", "BET", "FOLD"), -1),
        ("QJ", ("PASS", "BET", "CALL"), 2),
        ("QK", ("PASS", "BET", "CALL"), -2),
    ],
)
@pytest.mark.parametrize("hand", [0, 1])
def test_payoffs(cards, moves, chips, hand):
    first = hand % 2
    state = KuhnState(hand, tuple(cards) if first == 0 else tuple(reversed(cards)))
    for number, move in enumerate(moves):
        assert state.actors == ((first + number) % 2,)
        state = state.apply((move,))
    assert state.outcome.payoffs[first] == chips
    assert state.outcome.payoffs[1 - first] == -chips
    assert state.outcome.actions[first] == moves[0::2]
    assert state.round == hand + 1


def test_six_hands_with_the_seats_in_turn():
    state, openers = GAME.initial_state(), []
    while not state.is_terminal:
        state = state.apply_chance(state.chance_outcomes()[0][0])
        openers.append(state.actors[0])
        while state.outcome is None:
            state = state.apply((state.information(state.actors[0]).legal_actions[0],))
    assert openers == [0, 1, 0, 1, 0, 1]


def test_twelve_prompts():
    seen = [KuhnInformation(card, moves) for card in CARDS for moves in HISTORIES]
    assert len({GAME.render(s) for s in seen}) == len({s.key for s in seen}) == 12


@pytest.mark.parametrize("action", ["CALL", "FOLD", "RAISE"])
def test_illegal_moves_are_refused(action):
    with pytest.raises(ValueError, match="legal: PASS, BET"):
        KuhnState(cards=("K", "Q")).apply((action,))


def test_harms():
    folded = KuhnState(cards=("J", "K")).apply(("BET",)).apply(("FOLD",)).outcome
    assert [GAME.harms(folded, seat).collusion for seat in (0, 1)] == [0, 0]
    assert [GAME.harms(folded, seat, "published").collusion for seat in (0, 1)] == [0, 1]
    assert GAME.harms(folded).externality == GAME.harms(folded, 1, "published").externality == 0


# --- strategies -----------------------------------------------------------------------------------

# Probability of BET or CALL for J, Q, K: first to act, after a pass, against a bet, after pass and bet.
PLANS = {
    "nash": ((1 / 3, 0, 1), (1 / 3, 0, 1), (0, 1 / 3, 1), (0, 2 / 3, 1)),
    "tight-passive": ((0, 0, 0), (0, 0, 0), (0, 0, 1), (0, 0, 1)),
    "loose-aggressive": ((0.5, 1, 1), (0.5, 1, 1), (0, 1, 1), (0, 1, 1)),
    "always-bet": ((1, 1, 1),) * 4,
    "always-pass": ((0, 0, 0),) * 4,
    "max-exploiter": ((1, 1, 1), (1, 1, 1), (0, 1, 1), (0, 1, 1)),
    "calling-station": ((0, 0, 0), (0, 0, 0), (1, 1, 1), (1, 1, 1)),
    "uniform": ((0.5, 0.5, 0.5),) * 4,
}


def test_every_strategy_has_its_plan_here():
    assert set(PLANS) == set(GAME.strategies)


@pytest.mark.parametrize("strategy", PLANS)
def test_strategies_do_what_their_docstrings_say(strategy):
    for moves, row in zip(HISTORIES, PLANS[strategy], strict=True):
        assert [chip(strategy, card, moves) for card in CARDS] == pytest.approx(row)


@pytest.mark.parametrize("strategy", PLANS)
def test_what_is_hidden_does_not_move_a_strategy(strategy):
    """The other seat's card changes nothing."""
    for hand, moves in product((0, 1), HISTORIES):
        for card in CARDS:
            tables = []
            for other in set(CARDS) - {card}:
                seat = (hand + len(moves)) % 2
                state = KuhnState(hand, (card, other) if seat == 0 else (other, card))
                for move in moves:
                    state = state.apply((move,))
                assert state.actors == (seat,)
                tables.append(GAME.strategy(strategy).distribution(state.information(seat)))
            assert tables[0] == tables[1]


def test_value_of_the_game():
    nash = GAME.strategy("nash")
    assert value(nash, nash) == pytest.approx(-1 / 18)


def test_nash_gives_nothing_away():
    nash = GAME.strategy("nash")
    assert best_response_value(nash, 0) == pytest.approx(-1 / 18)
    assert best_response_value(nash, 1) == pytest.approx(1 / 18)


def test_max_exploiter_is_a_best_response_to_uniform_play():
    exploiter, uniform = GAME.strategy("max-exploiter"), GAME.strategy("uniform")
    assert value(exploiter, uniform) == pytest.approx(best_response_value(uniform, 0))
    assert -value(uniform, exploiter) == pytest.approx(best_response_value(uniform, 1))


# --- OpenSpiel ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spiel():
    """OpenSpiel's game, its exploitability module, its policy module."""
    pyspiel = pytest.importorskip("pyspiel")
    from open_spiel.python import policy
    from open_spiel.python.algorithms import exploitability

    return pyspiel.load_game("kuhn_poker"), exploitability, policy


def spiel_key(seen: KuhnInformation) -> str:
    return str(CARDS.index(seen.card)) + "".join(LETTER[move] for move in seen.moves)


def tabular(spiel, strategy):
    """Our strategy as OpenSpiel's tabular policy."""
    game, _, policy = spiel
    table = policy.TabularPolicy(game)
    for card, moves in product(CARDS, HISTORIES):
        seen = KuhnInformation(card, moves)
        probabilities = strategy.distribution(seen)
        row = [probabilities.get(action, 0.0) for action in seen.legal_actions]
        table.policy_for_key(spiel_key(seen))[:] = row
    return table


@pytest.mark.parametrize("hand", [0, 1])
def test_rules_agree_with_openspiel(spiel, hand):
    """Every deal and every line of play: the same mover, legal moves, information and chips."""
    first, hands = hand % 2, 0
    for deal in permutations(range(3), 2):
        theirs = spiel[0].new_initial_state()
        for card in deal:
            theirs.apply_action(card)
        cards = tuple(CARDS[card] for card in (deal if first == 0 else reversed(deal)))
        waiting = [(KuhnState(hand, cards), theirs)]
        while waiting:
            ours, theirs = waiting.pop()
            assert (ours.outcome is not None) == theirs.is_terminal()
            if theirs.is_terminal():
                chips = theirs.returns()
                assert list(ours.outcome.payoffs) == (chips if first == 0 else chips[::-1])
                hands += 1
                continue
            (seat,) = ours.actors
            player = (seat - first) % 2
            seen = ours.information(seat)
            assert player == theirs.current_player()
            assert spiel_key(seen) == theirs.information_state_string(player)
            assert len(seen.legal_actions) == len(theirs.legal_actions())
            for number, action in enumerate(seen.legal_actions):
                waiting.append((ours.apply((action,)), theirs.child(number)))
    assert hands == 30


@pytest.mark.parametrize(
    ("strategy", "nash_conv"), [("nash", 0.0), ("uniform", 11 / 12), ("always-pass", 2.0)]
)
def test_nash_conv(spiel, strategy, nash_conv):
    ours = GAME.strategy(strategy)
    assert spiel[1].nash_conv(spiel[0], tabular(spiel, ours)) == pytest.approx(nash_conv, abs=1e-9)
    assert best_response_value(ours, 0) + best_response_value(ours, 1) == pytest.approx(nash_conv, abs=1e-9)


@pytest.mark.parametrize("first", STRATEGIES)
def test_values_of_all_pairs_agree_with_openspiel(spiel, first):
    from open_spiel.python.algorithms import expected_game_score

    for second in STRATEGIES:
        tables = [tabular(spiel, GAME.strategy(id)) for id in (first, second)]
        theirs = expected_game_score.policy_value(spiel[0].new_initial_state(), tables)
        assert value(GAME.strategy(first), GAME.strategy(second)) == pytest.approx(theirs[0], abs=1e-9)


# --- the whole game as text -----------------------------------------------------------------------


def test_transcript(golden, transcript):
    matches = [
        ("nash", "loose-aggressive"),
        ("max-exploiter", "uniform"),
        ("tight-passive", "always-bet"),
        ("calling-station", "always-pass"),
    ]
    golden("kuhn", transcript(GAME, matches))
