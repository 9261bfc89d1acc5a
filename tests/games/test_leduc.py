"""Leduc poker: rules, values and equilibria against OpenSpiel, strategies against their definitions."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise, permutations, product

import numpy as np
import pyspiel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import coo_array, hstack

from sepo_kit import exact
from sepo_kit.engine.policy import scripted, tabular
from sepo_kit.games import check_game
from sepo_kit.games.leduc import (
    CARDS,
    GAME,
    MIXTURE,
    SPEC,
    LeducInformation,
    LeducState,
)

VALUE = -0.085606  # of the game to the first mover; Southey et al. (2005) give -0.0856
WORDS = {"c": ("CHECK", "CALL"), "r": ("BET", "RAISE"), "f": ("FOLD",)}
LINES = ("", "c", "r", "cr", "rr", "crr")  # after which a seat must move, on either street
FINISHED = ("cc", "crc", "crrc", "rc", "rrc")  # first streets that lead to a public card
RULES_OF_THUMB = [id for id in GAME.strategies if id not in ("near-nash", "uniform")]


def play(state: LeducState, line: str) -> LeducState:
    """``state`` after moves written as in keys, with "f" for a fold and "J", "Q", "K" for the public card."""
    for letter in line:
        if letter in CARDS:
            state = state.apply_chance(letter)
            continue
        (seat,) = state.actors
        (action,) = set(WORDS[letter]) & set(state.information(seat).legal_actions)
        state = state.apply((action,))
    return state


def dealt(hand: int, cards: str, line: str = "") -> LeducState:
    """A hand with the first mover's card first."""
    return play(LeducState(hand, tuple(cards if hand % 2 == 0 else reversed(cards))), line)


def information(key: str) -> LeducInformation:
    """The information state called ``key``."""
    card, line = key[0], key[1:].replace("/", "")
    public = next((letter for letter in line if letter in CARDS), None)
    other = next(c for c in CARDS if c not in (card, public))
    moves = len(key.rpartition("/")[2]) - 1  # on the street at hand: the key's last part opens with a card
    state = dealt(0, card + other if moves % 2 == 0 else other + card, line)
    return state.information(state.actors[0])


KEYS = [card + line for card, line in product(CARDS, LINES)] + [
    f"{card}{first}/{public}{line}"
    for card, first, public, line in product(CARDS, FINISHED, CARDS, LINES)
]  # fmt: skip


def hand_value(first, second, state: LeducState) -> float:
    """Expected chips of the first mover, from ``state`` on."""
    if state.outcome is not None:
        return state.outcome.payoffs[0]
    if not state.actors:
        return sum(p * hand_value(first, second, state.apply_chance(o)) for o, p in state.chance_outcomes())
    (seat,) = state.actors
    row = (first, second)[seat].distribution(state.information(seat))
    return sum(p * hand_value(first, second, state.apply((a,))) for a, p in row.items() if p)


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cards", "line", "chips"),
    [
        ("KJ", "ccQcc", 1),
        ("KJ", "ccJcc", -1),
        ("QK", "ccQcc", 1),
        ("QQ", "ccJcc", 0),
        ("QQ", "rrcJcrrc", 0),
        ("JK", "rf", 1),
        ("JK", "crf", -1),
        ("KJ", "rrf", -3),
        ("KJ", "crrf", 3),
        ("KQ", "rcJcc", 3),
        ("KQ", "rrcQcc", -5),
        ("KQ", "crrcQrf", 5),
        ("QJ", "ccKrc", 5),
        ("QJ", "rcKrf", 3),
        ("QJ", "rcKrrf", -7),
        ("QJ", "rcKcrrf", 7),
        ("QJ", "ccJrrc", -9),
        ("QK", "rrcJrrc", -13),
        ("QK", "crrcQcrrc", 13),
    ],
)
@pytest.mark.parametrize("hand", [0, 1])
def test_payoffs(cards, line, chips, hand):
    state, first = dealt(hand, cards, line), hand % 2
    assert state.outcome.payoffs[first] == chips
    assert state.outcome.payoffs[1 - first] == -chips
    assert state.round == hand + 1
    streets = re.split("[JQK]", line)
    told = ["".join(street[mover::2] for street in streets) for mover in (0, 1)]
    for mover, letters in enumerate(told):
        moves = state.outcome.actions[first if mover == 0 else 1 - first]
        assert len(moves) == len(letters)
        assert all(move in WORDS[letter] for move, letter in zip(moves, letters, strict=True))


def test_the_first_mover_opens_both_streets():
    for hand in range(4):
        assert dealt(hand, "KQ").actors == dealt(hand, "KQ", "crcJ").actors == (hand % 2,)


def test_four_hands_with_the_seats_in_turn():
    state, openers = GAME.initial_state(), []
    while not state.is_terminal:
        state = state.apply_chance(state.chance_outcomes()[0][0])
        openers.append(state.actors[0])
        state = play(state, "rf")
    assert openers == [0, 1, 0, 1]


def test_deals_are_as_likely_as_six_cards_make_them():
    deck = [card for card in CARDS for _ in range(2)]
    expected = Counter()
    for one, two, public in permutations(range(6), 3):
        expected[deck[one], deck[two], deck[public]] += 1 / 120
    found = {}
    for cards, p in GAME.initial_state().chance_outcomes():
        for public, q in dealt(0, "".join(cards), "cc").chance_outcomes():
            found[(*cards, public)] = p * q
    assert found == pytest.approx(dict(expected))


@pytest.mark.parametrize(
    ("line", "legal"),
    [
        ("", "CHECK, BET"),
        ("c", "CHECK, BET"),
        ("r", "FOLD, CALL, RAISE"),
        ("crr", "FOLD, CALL"),
        ("rrcJrr", "FOLD, CALL"),
        ("rrcJ", "CHECK, BET"),
    ],
)
def test_illegal_moves_are_refused(line, legal):
    state = dealt(0, "KQ", line)
    for action in {*SPEC.actions, "PASS"} - set(legal.split(", ")):
        with pytest.raises(ValueError, match=f"legal: {legal}$"):
            state.apply((action,))


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=40, max_size=40))
def test_any_match(draws):
    """Four zero-sum hands, each paying what the loser put in by a count of its own."""
    state, hands, draws = GAME.initial_state(), 0, iter(draws)
    paid, owed, raises = [1, 1], 1, 0
    while not state.is_terminal:
        if not state.actors:
            outcomes = state.chance_outcomes()
            assert sum(p for _, p in outcomes) == pytest.approx(1)
            state, raises = state.apply_chance(outcomes[int(next(draws) * len(outcomes))][0]), 0
            continue
        (seat,) = state.actors
        legal = state.information(seat).legal_actions
        action = legal[int(next(draws) * len(legal))]
        if action in ("BET", "RAISE"):
            raises += 1
            assert raises <= 2
            owed += 2 if state.public is None else 4
        if action in ("BET", "RAISE", "CALL"):
            paid[seat] = owed
        state = state.apply((action,))
        if state.outcome is not None:
            one, two = state.outcome.payoffs
            assert one == -two and one in (0, paid[1], -paid[0])
            assert action != "FOLD" or state.outcome.payoffs[seat] == -paid[seat]
            assert state == LeducState(state.round, ended=state.outcome)
            hands, paid, owed, raises = hands + 1, [1, 1], 1, 0
    assert hands == SPEC.rounds == 4


def test_harms_are_0():
    folded = dealt(0, "JK", "rf").outcome
    for seat, definition in product((0, 1), ("corrected", "published")):
        harms = GAME.harms(folded, seat, definition)
        assert harms.collusion == harms.externality == 0
    with pytest.raises(ValueError, match="definition must be one of"):
        GAME.harms(folded, 0, "other")


@pytest.mark.parametrize("seed", (0, 1))
def test_it_keeps_the_contract(seed):
    check_game(GAME, seed)


# --- words ----------------------------------------------------------------------------------------


def test_288_information_states_and_as_many_prompts():
    """18 on the first street, and 6 lines after 5 first streets for 9 pairs of own and public card."""
    states = exact.information_states(GAME)
    assert [seen.key for seen in states] == sorted(KEYS)
    assert len(states) == len({GAME.render(seen) for seen in states}) == 18 + 6 * 5 * 9 == 288
    assert all(information(key).key == key for key in KEYS)


@pytest.mark.parametrize("hand", [0, 1])
def test_a_prompt_goes_on_from_the_last_one(hand):
    """Nothing that a seat was told is told otherwise later, so that models read it once."""
    state, texts = dealt(hand, "KQ"), ([], [])
    for letter in "crrcJcrr":
        if state.actors:
            texts[state.actors[0]].append(GAME.render(state.information(state.actors[0])))
        state = play(state, letter)
    assert [len(t) for t in texts] == [4, 3] if hand == 0 else [3, 4]
    for earlier, later in [pair for t in texts for pair in pairwise(t)]:
        assert later.startswith(earlier.rpartition(". ")[0] + ".")


def test_three_prompts():
    assert GAME.render(information("Kr")) == (
        "Your card: King. You act second. Opponent bet. FOLD, CALL or RAISE?"
    )
    assert GAME.render(information("Qcrc/Jcr")) == (
        "Your card: Queen. You act first. You checked. Opponent bet. You called. Public card: Jack. You checked. "
        "Opponent bet. FOLD, CALL or RAISE?"
    )
    assert GAME.render(information("Qcrc/Qc")) == (
        "Your card: Queen. You act second. Opponent checked. You bet. Opponent called. Public card: Queen. "
        "You hold a pair. Opponent checked. CHECK or BET?"
    )


# --- strategies -----------------------------------------------------------------------------------

# Probabilities for J, Q, K and a pair: of a bet, of raising one, of calling one (else folding), of calling at the cap.
PLANS = {
    "tight-passive": ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 1, 1), (0, 0, 1, 1)),
    "loose-aggressive": ((0.5, 1, 1, 1), (0, 0, 1, 1), (0, 1, 0, 0), (0, 1, 1, 1)),
    "always-raise": ((1, 1, 1, 1), (1, 1, 1, 1), (0, 0, 0, 0), (1, 1, 1, 1)),
    "check-fold": ((0, 0, 0, 0),) * 4,
    "tight-aggressive": ((0, 0, 1, 1), (0, 0, 1, 1), (0, 0, 0, 0), (0, 0, 1, 1)),
    "calling-station": ((0, 0, 0, 0), (0, 0, 0, 0), (1, 1, 1, 1), (1, 1, 1, 1)),
}


@pytest.mark.parametrize("name", RULES_OF_THUMB)
def test_strategies_do_what_their_docstrings_say(name):
    for key in KEYS:
        seen = information(key)
        held = 3 if seen.card == seen.public else CARDS.index(seen.card)
        bet, raises, calls, capped = (row[held] for row in PLANS[name])
        row = GAME.strategy(name).distribution(seen)
        if "CHECK" in seen.legal_actions:
            expected = {"CHECK": 1 - bet, "BET": bet}
        elif "RAISE" in seen.legal_actions:
            expected = {"FOLD": 1 - raises - calls, "CALL": calls, "RAISE": raises}
        else:
            expected = {"FOLD": 1 - capped, "CALL": capped}
        assert row == pytest.approx(expected), key


def test_a_pair_is_never_folded_near_equilibrium():
    for seen in map(information, KEYS):
        if seen.card == seen.public:
            assert GAME.strategy("near-nash").distribution(seen).get("FOLD", 0) == 0


def test_reasons_name_what_is_held():
    thumb = GAME.strategy("always-raise")
    assert thumb.explain(information("J"), "BET") == "My Jack is the lowest card, so I bluff."
    assert (
        thumb.explain(information("Jcc/Jr"), "RAISE")
        == "My pair of Jacks cannot be beaten, so I raise for value."
    )
    assert thumb.explain(information("Jcc/Qr"), "FOLD") == "My Jack cannot win a showdown, so I fold."


@pytest.mark.parametrize("key", KEYS)
def test_a_reason_names_the_action_it_leads_to(key):
    seen = information(key)
    for action in seen.legal_actions:
        reason = GAME.strategy("near-nash").explain(seen, action)
        named = re.findall(r"\bI (check|bet|fold|call|raise)\b", reason)
        assert set(named) <= {action.lower()}, reason
        assert ("cannot be beaten" in reason) == (seen.card == seen.public)


def test_demonstrators_leave_the_shift_pool_alone():
    ids = [strategy.id for strategy, _ in MIXTURE.demonstrators]
    assert len(set(ids)) == len(ids)
    assert sum(weight for _, weight in MIXTURE.demonstrators) == pytest.approx(1)
    assert not (set(ids) | set(MIXTURE.opponents)) & set(SPEC.pools.shift)
    assert set(MIXTURE.opponents) <= set(GAME.strategies)


# --- OpenSpiel: six cards, 936 information states of both players -----------------------------------


@pytest.fixture(scope="module")
def openspiel():
    return pyspiel.load_game("leduc_poker")


def key_of(text: str) -> str:
    """Our key of an information state of OpenSpiel's. Its cards 0 to 5 are JJQQKK: halved, they are ranks."""
    fields = dict(re.findall(r"\[(\w+): ?([^\]]*)\]", text))
    card, *public = [CARDS[int(fields[name]) // 2] for name in ("Private", "Public") if name in fields]
    first, second = ["".join("fcr"[int(a)] for a in fields[f"Round{n}"].split()) for n in (1, 2)]
    return card + first + "".join(f"/{rank}{second}" for rank in public)


def openspiel_states(state) -> list:
    """``state`` and all that can follow."""
    found = [state]
    for parent in found:
        found += [parent.child(action) for action in parent.legal_actions()]
    return found


@pytest.fixture(scope="module")
def twins(openspiel) -> dict[str, dict[str, list[int]]]:
    """OpenSpiel's information states and their legal actions, by our key."""
    twins = {}
    for state in openspiel_states(openspiel.new_initial_state()):
        if not state.is_chance_node() and not state.is_terminal():
            text = state.information_state_string()
            twins.setdefault(key_of(text), {})[text] = state.legal_actions()
    return twins


def test_936_information_states_are_our_288(twins):
    """Two suits of the own card, and one or two of the public one: the same rank leaves one, another rank two."""
    assert set(twins) == set(KEYS)
    assert sum(map(len, twins.values())) == 936
    for key, texts in twins.items():
        seen = information(key)
        assert len(texts) == (2 if seen.public in (None, seen.card) else 4)
        assert {len(legal) for legal in texts.values()} == {len(seen.legal_actions)}


def spiel_policy(twins, table):
    """A table with our keys as OpenSpiel's policy for both players."""
    return pyspiel.TabularPolicy(
        {
            text: list(zip(legal, map(float, table[key]), strict=True))
            for key, texts in twins.items()
            for text, legal in texts.items()
        }
    )


def table_of(agent) -> dict[str, list[float]]:
    return {key: list(row.values()) for key, row in exact.policy_table(GAME, agent).items()}


@pytest.mark.parametrize("hand", [0, 1])
def test_rules_agree_with_openspiel(openspiel, hand):
    """Every deal of six cards and every line of play: the same mover, legal moves, information and chips."""
    first, lines = hand % 2, 0
    waiting = [(None, openspiel.new_initial_state(), ())]
    while waiting:
        ours, theirs, cards = waiting.pop()
        if len(cards) == 2 and ours is None:
            ours = dealt(hand, "".join(CARDS[card // 2] for card in cards))
        if theirs.is_terminal():
            chips = theirs.returns()
            assert list(ours.outcome.payoffs) == (chips if first == 0 else chips[::-1])
            lines += 1
        elif theirs.is_chance_node():
            assert ours is None or not ours.actors
            for card in theirs.legal_actions():
                public = ours and ours.apply_chance(CARDS[card // 2])
                waiting.append((public, theirs.child(card), (*cards, card)))
        else:
            (seat,) = ours.actors
            seen = ours.information(seat)
            assert (seat - first) % 2 == theirs.current_player()
            assert key_of(theirs.information_state_string()) == seen.key
            actions = theirs.legal_actions()
            assert len(actions) == len(seen.legal_actions)
            for action, number in zip(seen.legal_actions, actions, strict=True):
                assert action in WORDS["fcr"[number]]
                waiting.append((ours.apply((action,)), theirs.child(number), cards))
    assert lines == 5520


@pytest.mark.parametrize(
    ("name", "worst"),
    [
        ("uniform", 4.747222),
        ("near-nash", 0.024039),
        ("tight-passive", 16 / 15),
        ("loose-aggressive", 3.4),
        ("always-raise", 71 / 15),
        ("check-fold", 2.0),
        ("tight-aggressive", 1.4),
        ("calling-station", 44 / 15),
    ],
)
def test_the_worst_case_is_nash_conv(twins, openspiel, name, worst):
    agent = scripted(GAME, name)
    found = exact.worst_case(GAME, agent).advantage
    theirs = pyspiel.nash_conv(openspiel, spiel_policy(twins, table_of(agent)))
    assert found == pytest.approx(theirs, abs=1e-9)
    assert found == pytest.approx(worst, abs=1e-6)


def test_the_worst_case_of_random_policies_is_nash_conv(twins, openspiel):
    """Ten of them, every second one with rows that are mostly pure."""
    rng = np.random.default_rng(0)
    for number in range(10):
        spread = 1.0 if number % 2 else 0.05
        table = {key: rng.dirichlet([spread] * len(information(key).legal_actions)) for key in sorted(KEYS)}
        worst = exact.worst_case(GAME, tabular(GAME, table))
        theirs = pyspiel.nash_conv(openspiel, spiel_policy(twins, table))
        assert worst.advantage == pytest.approx(theirs, abs=1e-9)
        met = exact.against(GAME, tabular(GAME, table), worst.adversary).advantage
        assert met == pytest.approx(worst.advantage, abs=1e-9)


@pytest.fixture(scope="module")
def spiel_policies(twins):
    return {id: spiel_policy(twins, table_of(scripted(GAME, id))) for id in GAME.strategies}


@pytest.mark.parametrize("first", GAME.strategies)
def test_values_of_all_pairs_agree_with_openspiel(spiel_policies, openspiel, first):
    """Of a match: the mean of both orders of the seats."""

    def chips(one: str, two: str) -> list[float]:
        pair = [spiel_policies[one], spiel_policies[two]]
        return pyspiel.expected_returns(openspiel.new_initial_state(), pair, -1, False)

    for second in GAME.strategies:
        theirs = (chips(first, second)[0] + chips(second, first)[1]) / 2
        assert exact.against(GAME, scripted(GAME, first), second).own == pytest.approx(theirs, abs=1e-9)


def test_near_nash_is_what_its_docstring_says():
    """200 iterations of OpenSpiel's CFR+, to a per cent; on another machine a rounding may fall otherwise."""
    solver = pyspiel.CFRPlusSolver(pyspiel.load_game("leduc_poker(suit_isomorphism=True)"))
    for _ in range(200):
        solver.evaluate_and_update_policy()
    rows, stored = solver.tabular_average_policy().policy_table(), table_of(scripted(GAME, "near-nash"))
    assert len(rows) == 288
    for text, row in rows.items():
        ranks = re.sub(r"(Private|Public): (\d)", lambda m: f"{m[1]}: {2 * int(m[2])}", text)  # 0, 1, 2 there
        key, expected = key_of(ranks), [p for _, p in row]
        if information(key).hand == "pair" and len(expected) == 3:
            expected = [0.0, expected[1], expected[0] + expected[2]]  # what folds a pair raises here
        assert stored[key] == pytest.approx(expected, abs=0.0101), key


# --- the equilibrium, by linear programming --------------------------------------------------------


def equilibrium() -> tuple[float, dict[str, np.ndarray]]:
    """The first mover's value and a table that is an equilibrium, rows of both seats.

    Source: Koller, Megiddo and von Stengel, Fast algorithms for finding randomized strategies in game trees (1994):
    one linear program over sequences, the other seat's realisation plan being its dual.
    """
    sequences = ({(): 0}, {(): 0})  # (key, action) -> number, for either seat
    parents: tuple[dict, dict] = ({}, {})  # key -> sequence that leads there
    pays: list[tuple[int, int, float]] = []

    def walk(state: LeducState, chance: float, last: tuple) -> None:
        if state.outcome is not None:
            pays.append((sequences[0][last[0]], sequences[1][last[1]], chance * state.outcome.payoffs[0]))
        elif not state.actors:
            for outcome, p in state.chance_outcomes():
                walk(state.apply_chance(outcome), chance * p, last)
        else:
            (seat,) = state.actors
            seen = state.information(seat)
            assert parents[seat].setdefault(seen.key, last[seat]) == last[seat]  # perfect recall
            for action in seen.legal_actions:
                sequence = seen.key, action
                sequences[seat].setdefault(sequence, len(sequences[seat]))
                walk(
                    state.apply((action,)), chance, (sequence, last[1]) if seat == 0 else (last[0], sequence)
                )

    def plan(seat: int) -> coo_array:
        """Rows: the empty sequence is played, and what leads to an information state goes on from it."""
        entries = [(0, 0, 1.0)]
        for row, (key, before) in enumerate(parents[seat].items(), start=1):
            entries.append((row, sequences[seat][before], -1.0))
            entries += [(row, number, 1.0) for s, number in sequences[seat].items() if s and s[0] == key]
        return matrix(entries, (len(parents[seat]) + 1, len(sequences[seat])))

    def matrix(entries, shape) -> coo_array:
        rows, columns, values = zip(*entries, strict=True)
        return coo_array((values, (rows, columns)), shape)

    walk(LeducState(), 1.0, ((), ()))
    ours, theirs = plan(0), plan(1)
    pay = matrix(pays, (ours.shape[1], theirs.shape[1]))
    # Maximise the first entry of v over plans x of the first mover, where theirs' v <= pay' x.
    free, bound = theirs.shape[0], np.zeros(ours.shape[0])
    bound[0] = 1.0
    found = linprog(
        np.concatenate([np.zeros(ours.shape[1]), [-1.0], np.zeros(free - 1)]),
        A_ub=hstack([-pay.T, theirs.T]),
        b_ub=np.zeros(theirs.shape[1]),
        A_eq=hstack([ours, coo_array((ours.shape[0], free))]),
        b_eq=bound,
        bounds=[(0, None)] * ours.shape[1] + [(None, None)] * free,
    )
    assert found.status == 0
    plans = found.x[: ours.shape[1]], -found.ineqlin.marginals
    table = {}
    for seat in (0, 1):
        for key in parents[seat]:
            legal = information(key).legal_actions
            weights = np.array([max(plans[seat][sequences[seat][key, action]], 0.0) for action in legal])
            table[key] = (
                weights / weights.sum() if weights.sum() > 1e-9 else np.full(len(legal), 1 / len(legal))
            )
    return -found.fun, table


def test_value_of_the_game():
    """The equilibrium of our rules is worth what the game is known to be worth, and nobody gains on it."""
    value, table = equilibrium()
    assert value == pytest.approx(VALUE, abs=1e-6)
    assert exact.worst_case(GAME, tabular(GAME, table)).advantage == pytest.approx(0, abs=1e-6)


def test_near_nash_earns_about_the_value_of_the_game():
    near = GAME.strategy("near-nash")
    assert hand_value(near, near, LeducState()) == pytest.approx(VALUE, abs=0.024)


# --- the whole game as text -----------------------------------------------------------------------


def test_transcript(golden, transcript):
    matches = [
        ("near-nash", "loose-aggressive"),
        ("tight-aggressive", "uniform"),
        ("tight-passive", "always-raise"),
        ("calling-station", "check-fold"),
    ]
    golden("leduc", transcript(GAME, matches))
