"""Drawing by inverse CDF, and the policies that are not language models."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import WordInformation

from sepo_kit.engine.policy import Policy, draw, identities, scripted, tabular, uniform
from sepo_kit.games import get_game
from sepo_kit.games.ipd import DilemmaInformation

WEIGHT = st.one_of(st.just(0.0), st.floats(0.0, 1.0), st.floats(0.0, 1e-12))
WEIGHTS = st.lists(WEIGHT, min_size=1, max_size=8).filter(lambda weights: sum(weights) > 0)
UNIFORM = st.one_of(st.floats(0.0, 1.0, exclude_max=True), st.sampled_from([0.0, 1 - 2**-53]))
MEMORY_ONE = {"start": [1, 0], "CC": [1, 0], "CD": [0, 1], "DC": [0.5, 0.5], "DD": [0.25, 0.75]}


# --- draw -----------------------------------------------------------------------------------------


@given(weights=WEIGHTS, uniform=UNIFORM)
def test_draw_never_picks_what_has_no_probability(weights, uniform):
    assert weights[draw(np.cumsum(weights), uniform)] > 0


@given(weights=WEIGHTS, first=UNIFORM, second=UNIFORM)
def test_draw_rises_with_the_uniform(weights, first, second):
    cumulative = np.cumsum(weights)
    low, high = sorted((first, second))
    assert draw(cumulative, low) <= draw(cumulative, high)


@given(weights=st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any))
def test_draw_gives_each_index_its_share(weights):
    """Of a fine, even grid of uniforms, each index gets exactly its share."""
    total = sum(weights)
    grid = (np.arange(total * 4) + 0.5) / (total * 4)
    drawn = [draw(np.cumsum(weights), u) for u in grid]
    assert [drawn.count(i) for i in range(len(weights))] == [4 * w for w in weights]


def test_draw_takes_the_lower_end_of_an_interval_in():
    cumulative = np.array([0.25, 0.75, 1.0])
    assert [draw(cumulative, u) for u in (0.0, 0.2499, 0.25, 0.7499, 0.75, 0.9999)] == [0, 0, 1, 1, 2, 2]


def test_draw_does_not_need_a_sum_of_one():
    """Rounding leaves cumulative sums a little off 1."""
    assert draw(np.array([0.5, 0.9999999]), 1 - 2**-53) == 1
    assert draw(np.array([1.0, 2.0, 2.0]), 1 - 2**-53) == 1


# --- act ------------------------------------------------------------------------------------------


class Counting(Policy):
    """Three to one for the first word; notes what it is asked."""

    name = "counting"

    def __init__(self):
        self.asked = []

    def distributions(self, seen):
        self.asked.append(list(seen))
        return [np.array([0.75, 0.25]) for _ in seen]


def test_act_asks_for_equal_states_once_and_keeps_the_order():
    policy = Counting()
    one, other = WordInformation(("A", "B")), WordInformation(("C", "D"))
    choices = policy.act([one, other, one, one], [0.1, 0.8, 0.9, 0.1])
    assert policy.asked == [[one, other]]
    assert [choice.action for choice in choices] == ["A", "D", "B", "A"]
    assert [choice.log_prob for choice in choices] == pytest.approx(
        [log(0.75), log(0.25), log(0.25), log(0.75)]
    )
    assert choices[0].reply is None and not choices[0].fallback


def test_act_needs_one_uniform_for_each_state():
    with pytest.raises(ValueError):
        Counting().act([WordInformation(("A", "B"))] * 2, [0.5])


# --- scripted, uniform ----------------------------------------------------------------------------


def test_scripted_fills_in_the_actions_a_strategy_leaves_out():
    ipd = get_game("ipd")
    agent = scripted(ipd, "tit-for-tat")
    seen = [DilemmaInformation(()), DilemmaInformation((("COOPERATE", "DEFECT"),))]
    assert agent.name == "tit-for-tat"
    np.testing.assert_array_equal(agent.distributions(seen), [[1, 0], [0, 1]])


def test_scripted_names_the_known_strategies():
    with pytest.raises(ValueError, match=r"unknown strategy 'tit-for-tit' in ipd; known: .*tit-for-tat"):
        scripted(get_game("ipd"), "tit-for-tit")


def test_uniform_gives_every_legal_action_the_same():
    (p,) = uniform(get_game("kuhn")).distributions([WordInformation(("A", "B", "C", "D", "E"))])
    np.testing.assert_allclose(p, [0.2] * 5)


# --- tabular --------------------------------------------------------------------------------------


def test_tabular_reads_the_row_of_the_label_it_was_told():
    agent = tabular(get_game("ipd"), MEMORY_ONE, row="memory_one", name="mine")
    seen = [
        DilemmaInformation(()),
        DilemmaInformation((("DEFECT", "DEFECT"), ("DEFECT", "COOPERATE"))),
        DilemmaInformation((("DEFECT", "COOPERATE"), ("DEFECT", "DEFECT"))),
    ]
    assert agent.name == "mine"
    np.testing.assert_allclose(agent.distributions(seen), [[1, 0], [0.5, 0.5], [0.25, 0.75]])


def test_tabular_takes_off_a_rounding_error():
    agent = tabular(get_game("ipd"), {"start": [1 / 3, 2 / 3 + 5e-7]})
    (p,) = agent.distributions([DilemmaInformation(())])
    assert p.sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    "row", [[0.5, 0.6], [0.5, 0.4], [-0.5, 1.5], [float("nan"), 1.0], [float("inf"), 0.0], [[0.5, 0.5]], []]
)
def test_tabular_refuses_what_is_no_distribution(row):
    with pytest.raises(ValueError, match="row 'CC' must be probabilities >= 0 that sum to 1"):
        tabular(get_game("ipd"), {**MEMORY_ONE, "CC": row}, row="memory_one")


def test_tabular_says_which_row_is_missing_and_what_it_should_hold():
    agent = tabular(get_game("ipd"), {"start": [1, 0]}, row="memory_one")
    with pytest.raises(ValueError, match=r"no row for state 'CC' \(rows: start\).*COOPERATE, DEFECT"):
        agent.distributions([DilemmaInformation((("COOPERATE", "COOPERATE"),))])


def test_tabular_says_which_row_is_too_long():
    agent = tabular(get_game("ipd"), {"start": [0.5, 0.25, 0.25]})
    with pytest.raises(ValueError, match="row 'start' has 3 probabilities; state has 2 legal actions: COOP"):
        agent.distributions([DilemmaInformation(())])


@pytest.mark.parametrize("row", ["memory_two", "history", "legal_actions"])
def test_tabular_refuses_a_label_the_game_does_not_offer(row):
    """``history`` is there, but is no label."""
    with pytest.raises(ValueError, match=f"information states of ipd have no label '{row}'"):
        tabular(get_game("ipd"), MEMORY_ONE, row=row)


# --- who they are ---------------------------------------------------------------------------------


def test_opponents_are_told_apart_by_what_their_names_stand_for():
    one = tabular("ipd", MEMORY_ONE, row="memory_one")
    two = tabular("ipd", {**MEMORY_ONE, "CC": [0, 1]}, row="memory_one")
    assert identities({"x": one, "y": two}) == identities({"y": two, "x": one})
    assert identities({"x": one, "y": two}) != identities({"x": two, "y": one})
