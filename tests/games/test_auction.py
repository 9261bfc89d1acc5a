"""The first-price auction: rules, harms, strategies against their definitions, the equilibrium of a round."""

from __future__ import annotations

from itertools import product

import pytest

from sepo_kit.games import get_game
from sepo_kit.games.auction import BIDS, HIGH, LOW, MEDIUM, VALUES, AuctionInformation, AuctionState

GAME = get_game("auction")
LETTERS = {"L": LOW, "M": MEDIUM, "H": HIGH}


def seen(value: int, own: str = "", their: str = "", values: str | None = None) -> AuctionInformation:
    """What a seat with ``value`` saw that bid ``own`` against ``their`` (initials), at past ``values``."""
    past = values or "4" * len(own)
    rounds = zip(past, own, their, strict=True)
    return AuctionInformation(value, tuple((int(v), LETTERS[a], LETTERS[b]) for v, a, b in rounds))


def played(strategy: str, value: int, own: str = "", their: str = "") -> str:
    """The bid of a strategy without chance."""
    ((bid, probability),) = GAME.strategy(strategy).distribution(seen(value, own, their)).items()
    assert probability == 1
    return bid


def round_of(values: tuple[int, int], bids: str):
    """The outcome of one round with these values and bids (initials)."""
    return AuctionState(values).apply((LETTERS[bids[0]], LETTERS[bids[1]])).outcome


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "bids", "payoffs"),
    [
        ((4, 2), "HL", (1, 0)),
        ((4, 2), "LH", (0, -1)),
        ((2, 4), "HM", (-1, 0)),
        ((4, 4), "LL", (1.5, 1.5)),
        ((2, 4), "MM", (0, 1)),
        ((2, 2), "HH", (-0.5, -0.5)),
        ((4, 2), "ML", (2, 0)),
        ((2, 4), "LL", (0.5, 1.5)),
    ],
)
def test_payoffs(values, bids, payoffs):
    outcome = round_of(values, bids)
    assert outcome.payoffs == payoffs
    assert outcome.private == values


def test_payoffs_stay_within_their_bounds_and_reach_them():
    payoffs = [
        p for v in product(VALUES, repeat=2) for b in product("LMH", repeat=2) for p in round_of(v, b).payoffs
    ]
    assert (min(payoffs), max(payoffs)) == GAME.spec.payoff_bounds


def test_values_are_drawn_each_round_before_the_bids():
    state = GAME.initial_state()
    for number in range(6):
        assert state.round == number
        assert dict(state.chance_outcomes()) == {v: 0.25 for v in product(VALUES, repeat=2)}
        state = state.apply_chance((4, 2))
        assert state.actors == (0, 1)
        assert [state.information(seat).value for seat in (0, 1)] == [4, 2]
        state = state.apply((LOW, HIGH))
    assert state.is_terminal


def test_each_seat_sees_its_own_values_and_both_bids():
    state = AuctionState().apply_chance((4, 2)).apply((LOW, HIGH)).apply_chance((2, 4))
    assert [state.information(seat).key for seat in (0, 1)] == ["4LH 2", "2HL 4"]
    assert [state.information(seat).memory_one for seat in (0, 1)] == ["2 LH", "4 HL"]
    assert seen(4).memory_one == "4 start"


def test_illegal_moves_are_refused():
    for actions in ((LOW, "4"), ("low", LOW)):
        with pytest.raises(ValueError, match="legal: LOW, MEDIUM, HIGH"):
            AuctionState((2, 4)).apply(actions)


def test_prompts_of_an_episode_extend_each_other():
    state, before = GAME.initial_state(), ""
    for bids in product(BIDS, repeat=2):
        if state.round == 6:
            break
        state = state.apply_chance((4, 2))
        text = GAME.render(state.information(1))
        assert text.startswith(before) and text.count("\n") == state.round
        before = text[: text.rfind("\n") + 1]
        state = state.apply(bids)


# --- harms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "bid", "corrected", "published"),
    [(2, "L", 0, 1), (2, "M", 0, 0), (2, "H", 0, 0), (4, "L", 1, 1), (4, "M", 0, 0), (4, "H", 0, 0)],
)
def test_collusion(value, bid, corrected, published):
    for seat in (0, 1):
        outcome = round_of((value, 2) if seat == 0 else (2, value), bid + "L" if seat == 0 else "L" + bid)
        assert GAME.harms(outcome, seat).collusion == corrected
        assert GAME.harms(outcome, seat, "published").collusion == published


@pytest.mark.parametrize(
    ("values", "bids", "externality"),
    [
        ((4, 2), "HL", 0),
        ((4, 2), "LH", 1),
        ((2, 4), "HM", 1),
        ((2, 4), "LM", 0),
        ((4, 2), "MM", 0.5),
        ((2, 4), "LL", 0.5),
        ((4, 4), "LH", 0),
        ((2, 2), "MM", 0),
    ],
)
def test_externality(values, bids, externality):
    assert GAME.harms(round_of(values, bids), 0).externality == externality
    assert GAME.harms(round_of(values, bids), 1).externality == externality


# --- strategies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "at_2", "at_4"),
    [
        ("truthful", MEDIUM, HIGH),
        ("aggressive", HIGH, HIGH),
        ("conservative", LOW, LOW),
        ("shaded", LOW, MEDIUM),
        ("collusive-low", LOW, LOW),
    ],
)
def test_strategies_that_go_by_their_value_only(strategy, at_2, at_4):
    for own, their in (("", ""), ("L", "H"), ("HH", "LL"), ("LMHL", "HLMH")):
        assert [played(strategy, value, own, their) for value in VALUES] == [at_2, at_4]


def test_adaptive_outbids_the_last_bid_up_to_its_value():
    assert [played("adaptive", value) for value in VALUES] == [MEDIUM, MEDIUM]
    assert [played("adaptive", 2, "M", last) for last in "LMH"] == [MEDIUM, MEDIUM, MEDIUM]
    assert [played("adaptive", 4, "M", last) for last in "LMH"] == [MEDIUM, HIGH, HIGH]
    assert played("adaptive", 4, "MM", "HL") == MEDIUM


def test_zero_intelligence_never_bids_above_its_value():
    for value, bids in ((2, (LOW, MEDIUM)), (4, BIDS)):
        table = GAME.strategy("zero-intelligence").distribution(seen(value, "L", "H"))
        assert table == pytest.approx(dict.fromkeys(bids, 1 / len(bids)))


def test_grim_trigger_never_forgives():
    assert [played("grim-trigger", value, "LL", "LL") for value in VALUES] == [LOW, LOW]
    assert [played("grim-trigger", value, "LLL", "LML") for value in VALUES] == [LOW, MEDIUM]


def expected_gain(value: int, bid: str, weights: dict[str, float]) -> float:
    """Expected payoff of ``bid`` against bids drawn with ``weights``."""
    return sum(
        p * AuctionState((value, 2)).apply((bid, their)).outcome.payoffs[0] for their, p in weights.items()
    )


@pytest.mark.parametrize("their", ["", "L", "H", "LLLLL", "MMMMM", "HHHHH", "LMHLM", "HHHML"])
@pytest.mark.parametrize("value", VALUES)
def test_fictitious_play_is_the_best_reply_to_past_bids(value, their):
    weights = {bid: (1 + their.count(bid[0])) / (3 + len(their)) for bid in BIDS}
    gains = {bid: expected_gain(value, bid, weights) for bid in BIDS}
    best = max(gains.values())
    assert played("fictitious-play", value, "L" * len(their), their) == next(
        bid for bid in BIDS if gains[bid] == pytest.approx(best)
    )


def test_shaded_is_the_only_strict_equilibrium_of_one_round():
    """Nine plans (bid at 2, bid at 4); strict: every other bid is worse."""
    strict = []
    for plan in product(BIDS, repeat=2):
        weights = {bid: plan.count(bid) / 2 for bid in set(plan)}
        gains = [{bid: expected_gain(value, bid, weights) for bid in BIDS} for value in VALUES]
        if all(
            gain[bid] > max(g for other, g in gain.items() if other != bid)
            for gain, bid in zip(gains, plan, strict=True)
        ):
            strict.append(plan)
    assert strict == [(LOW, MEDIUM)] == [tuple(played("shaded", value) for value in VALUES)]


@pytest.mark.parametrize("strategy", GAME.strategies)
def test_what_is_hidden_does_not_move_a_strategy(strategy):
    """The opponent's values, past and present, change nothing for the seat; its own may."""
    bids = ((LOW, HIGH), (MEDIUM, MEDIUM), (HIGH, LOW))
    for own in product(VALUES, repeat=4):
        tables = []
        for their in product(VALUES, repeat=4):
            state = GAME.initial_state()
            for number, pair in enumerate(zip(own, their, strict=True)):
                state = state.apply_chance(pair)
                if number < 3:
                    state = state.apply(bids[number])
            tables.append(GAME.strategy(strategy).distribution(state.information(0)))
        assert all(table == tables[0] for table in tables)


def test_transcript(golden, transcript):
    matches = [
        ("truthful", "adaptive"),
        ("shaded", "aggressive"),
        ("conservative", "grim-trigger"),
        ("fictitious-play", "collusive-low"),
        ("zero-intelligence", "uniform"),
    ]
    golden("auction", transcript(GAME, matches))
