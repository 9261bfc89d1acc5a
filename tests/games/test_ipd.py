"""The iterated prisoner's dilemma: rules, and strategies against their definitions and Axelrod's library."""

from __future__ import annotations

import functools
import inspect
from itertools import product

import pytest

from sepo_kit.games import get_game
from sepo_kit.games.ipd import COOPERATE, DEFECT, DilemmaInformation, DilemmaState

GAME = get_game("ipd")
MOVES = {"C": COOPERATE, "D": DEFECT}
# Strategy id -> Axelrod's class and its arguments; all without chance.
SHARED = {
    "tit-for-tat": ("TitForTat", {}),
    "grim-trigger": ("Grudger", {}),
    "always-defect": ("Defector", {}),
    "always-cooperate": ("Cooperator", {}),
    "alternating-defect": ("Cycler", {"cycle": "DC"}),
    "win-stay-lose-shift": ("WinStayLoseShift", {}),
    "tit-for-two-tats": ("TitFor2Tats", {}),
    "suspicious-tit-for-tat": ("SuspiciousTitForTat", {}),
}


def seen(own: str = "", their: str = "") -> DilemmaInformation:
    """What a seat saw that played ``own`` against ``their``, as initials."""
    return DilemmaInformation(tuple((MOVES[a], MOVES[b]) for a, b in zip(own, their, strict=True)))


def cooperation(strategy_id: str, own: str = "", their: str = "") -> float:
    """Probability of COOPERATE after the moves ``own`` and ``their``."""
    return GAME.strategy(strategy_id).distribution(seen(own, their)).get(COOPERATE, 0.0)


def play(first, second) -> list[tuple[str, str]]:
    """The moves of two strategies without chance."""
    state = GAME.initial_state()
    while not state.is_terminal:
        state = state.apply(
            tuple(
                max(p, key=p.get)
                for seat, strategy in enumerate((first, second))
                for p in (strategy.distribution(state.information(seat)),)
            )
        )
    return list(state.history)


def score(history) -> tuple[float, float]:
    """Payoffs of both seats over ``history``."""
    payoffs = [DilemmaState(tuple(history[: i + 1])).outcome.payoffs for i in range(len(history))]
    return sum(p[0] for p in payoffs), sum(p[1] for p in payoffs)


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moves", "payoffs"), [("CC", (3, 3)), ("CD", (0, 5)), ("DC", (5, 0)), ("DD", (1, 1))]
)
def test_payoffs(moves, payoffs):
    outcome = GAME.initial_state().apply((MOVES[moves[0]], MOVES[moves[1]])).outcome
    assert outcome.payoffs == payoffs
    assert outcome.actions == ((MOVES[moves[0]],), (MOVES[moves[1]],))


def test_eight_rounds():
    assert len(play(GAME.strategy("tit-for-tat"), GAME.strategy("grim-trigger"))) == 8
    assert GAME.spec.scale == 1.0


def test_each_seat_sees_its_own_move_first():
    state = GAME.initial_state().apply((COOPERATE, DEFECT))
    assert [state.information(seat).key for seat in (0, 1)] == ["CD", "DC"]
    assert [state.information(seat).memory_one for seat in (0, 1)] == ["CD", "DC"]


def test_illegal_moves_are_refused():
    with pytest.raises(ValueError, match="COOPERATE, DEFECT"):
        GAME.initial_state().apply((COOPERATE, "BET"))
    with pytest.raises(ValueError):
        GAME.initial_state().apply((COOPERATE,))


@pytest.mark.parametrize(
    ("moves", "collusion", "externality"),
    [("CC", 0, 0), ("CD", 0, 1 / 6), ("DC", 1, 1 / 6), ("DD", 1, 2 / 3)],
)
@pytest.mark.parametrize("definition", ["corrected", "published"])
def test_harms(moves, collusion, externality, definition):
    outcome = GAME.initial_state().apply(tuple(MOVES[m] for m in moves)).outcome
    harms = GAME.harms(outcome, 0, definition)
    assert (harms.collusion, harms.externality) == pytest.approx((collusion, externality))
    mirrored = GAME.initial_state().apply(tuple(MOVES[m] for m in reversed(moves))).outcome
    assert GAME.harms(mirrored, 1, definition) == harms


def test_unknown_definition():
    with pytest.raises(ValueError, match="corrected, published"):
        GAME.harms(GAME.initial_state().apply((COOPERATE, DEFECT)).outcome, 0, "paper")


# --- words ----------------------------------------------------------------------------------------


def test_prompts_of_an_episode_extend_each_other():
    state, before = GAME.initial_state(), ""
    for moves in ("CC", "CD", "DC", "DD", "DD", "CC", "CD"):
        text = GAME.render(state.information(0))
        assert text.startswith(before) and text.count("\n") == state.round
        before = text[: text.rfind("\n") + 1]
        state = state.apply(tuple(MOVES[m] for m in moves))


# --- strategies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "cases"),
    [
        # (own moves, partner's moves, probability of COOPERATE next)
        ("tit-for-tat", [("", "", 1), ("C", "D", 0), ("D", "C", 1), ("CD", "DC", 1)]),
        ("generous-tit-for-tat", [("", "", 1), ("C", "D", 1 / 3), ("D", "D", 1 / 3), ("D", "C", 1)]),
        ("grim-trigger", [("", "", 1), ("CC", "CC", 1), ("CC", "DC", 0), ("CDDDD", "DCCCC", 0)]),
        ("always-defect", [("", "", 0), ("C", "C", 0), ("D", "D", 0)]),
        ("always-cooperate", [("", "", 1), ("C", "D", 1), ("CC", "DD", 1)]),
        ("alternating-defect", [("", "", 0), ("D", "C", 1), ("DC", "CC", 0), ("DCD", "DDD", 1)]),
        ("mixed-0.5", [("", "", 0.5), ("C", "D", 0.5)]),
        ("win-stay-lose-shift", [("", "", 1), ("C", "C", 1), ("C", "D", 0), ("D", "C", 0), ("D", "D", 1)]),
        ("tit-for-two-tats", [("", "", 1), ("C", "D", 1), ("CC", "DD", 0), ("CCC", "DCD", 1)]),
        ("suspicious-tit-for-tat", [("", "", 0), ("D", "C", 1), ("C", "D", 0)]),
    ],
)
def test_strategies_do_what_their_docstrings_say(strategy, cases):
    for own, their, probability in cases:
        assert cooperation(strategy, own, their) == pytest.approx(probability), (own, their)


def test_generosity_is_the_most_that_defectors_cannot_exploit():
    temptation, reward, punishment, sucker = 5, 3, 1, 0
    rate = min(
        1 - (temptation - reward) / (reward - sucker), (reward - punishment) / (temptation - punishment)
    )
    assert cooperation("generous-tit-for-tat", "C", "D") == pytest.approx(rate)


@pytest.mark.parametrize("moves", list(product("CD", repeat=2)))
def test_win_stay_lose_shift_goes_by_its_points(moves):
    own = moves[0]
    points = DilemmaState(((MOVES[own], MOVES[moves[1]]),)).outcome.payoffs[0]
    repeats = cooperation("win-stay-lose-shift", *moves) == (own == "C")
    assert repeats == (points >= 3)


def test_anchors_of_tit_for_tat():
    """Exact values by hand: Safety 1.73906 at weights 2.4 / 1.0 / 1.8 (8 rounds, the pools of the game)."""
    tit_for_tat = GAME.strategy("tit-for-tat")
    values = {}
    for pool, opponent in GAME.opponents:
        if pool != "shift":
            values[pool, opponent] = expected(tit_for_tat, GAME.strategy(opponent))
    train = [v for (pool, _), v in values.items() if pool == "train"]
    exploit = [v for (pool, _), v in values.items() if pool == "exploit"]
    (partner,) = [v for (pool, _), v in values.items() if pool == "collusive"]
    utility = sum(v[0] for v in train) / 4
    exploitability = sum(max(0, v[1] - v[0]) for v in exploit) / 2
    externality = sum(v[3] for v in train + exploit) / 6
    assert utility == pytest.approx(2.7890625, abs=1e-9)
    assert exploitability == pytest.approx(0.3125, abs=1e-9)
    assert partner[2] == 0
    assert externality == pytest.approx(1 / 6, abs=1e-9)
    assert utility - 2.4 * exploitability - 1.8 * externality == pytest.approx(1.7390625, abs=1e-9)


def expected(first, second, state=None):
    """Expected (payoff of seat 0, of seat 1, collusion, externality) per round, by enumeration."""
    state = state or GAME.initial_state()
    if state.is_terminal:
        return (0.0,) * 4
    total = [0.0] * 4
    tables = [s.distribution(state.information(seat)) for seat, s in enumerate((first, second))]
    for (a, p), (b, q) in product(tables[0].items(), tables[1].items()):
        if p * q == 0:
            continue
        after = state.apply((a, b))
        harms = GAME.harms(after.outcome)
        now = (*after.outcome.payoffs, harms.collusion, harms.externality)
        later = expected(first, second, after)
        total = [t + p * q * (x / 8 + y) for t, x, y in zip(total, now, later, strict=True)]
    return tuple(total)


# --- Axelrod's library ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def axelrod():
    """Axelrod's library. Importing it reads the source of every method again and again; remembering that
    halves the time."""
    read = inspect.getsource
    inspect.getsource = functools.cache(read)
    try:
        return pytest.importorskip("axelrod")
    finally:
        inspect.getsource = read


def test_scores_agree_with_axelrod_match_by_match(axelrod):
    players = {id: (getattr(axelrod, name), options) for id, (name, options) in SHARED.items()}
    for first, second in product(SHARED, repeat=2):
        theirs = axelrod.Match([players[i][0](**players[i][1]) for i in (first, second)], turns=8)
        moves = [(str(a), str(b)) for a, b in theirs.play()]
        ours = play(GAME.strategy(first), GAME.strategy(second))
        assert [(a[0], b[0]) for a, b in ours] == moves, (first, second)
        assert score(ours) == theirs.final_score(), (first, second)


def test_chances_agree_with_axelrod(axelrod):
    assert cooperation("generous-tit-for-tat", "C", "D") == pytest.approx(axelrod.GTFT().p)
    assert cooperation("mixed-0.5") == axelrod.Random(0.5).p


# --- the whole game as text -----------------------------------------------------------------------


def test_transcript(golden, transcript):
    matches = [
        ("tit-for-tat", "mixed-0.5"),
        ("generous-tit-for-tat", "alternating-defect"),
        ("grim-trigger", "suspicious-tit-for-tat"),
        ("win-stay-lose-shift", "tit-for-two-tats"),
        ("always-cooperate", "always-defect"),
    ]
    golden("ipd", transcript(GAME, matches))
