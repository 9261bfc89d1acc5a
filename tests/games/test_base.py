"""The types that a game file fills in: weights, labels, and what the five games say of themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import toys

from sepo_kit import exact
from sepo_kit.engine.policy import first_information, scripted
from sepo_kit.games import KIT_GAMES, get_game
from sepo_kit.games.base import Weights
from sepo_kit.games.ipd import DilemmaInformation


@pytest.mark.parametrize("number", [np.float64(1.5), np.float32(1.5), np.int64(1), np.uint8(1), 1, 1.5])
def test_weights_take_numpy_numbers_and_keep_plain_ones(number):
    weights = Weights(number, number, number)
    assert weights == Weights(float(number), float(number), float(number))
    assert all(type(value) is float for value in vars(weights).values())


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), float("nan"), np.float64("nan"), np.inf, "1", None, 1j, np.array(1.0)]
)
def test_weights_refuse_what_is_no_finite_number(value):
    with pytest.raises(
        ValueError, match=r"collusion must be a finite number >= 0, got .*; write 0 to switch"
    ):
        Weights(1.0, value, 1.0)


def test_weights_refuse_a_negative_numpy_number():
    with pytest.raises(ValueError, match=r"weights\.exploit must be >= 0, got np\.float64\(-1\.0\)"):
        Weights(np.float64(-1), 0, 0)


def test_a_spec_takes_lists_and_can_be_remembered_by():
    spec = toys.spec(actions=["L", "R"], payoff_bounds=[0.0, 1.0])
    assert hash(spec) == hash(toys.spec(payoff_bounds=(0.0, 1.0))) and spec.actions == ("L", "R")


def test_opponents_are_those_of_the_spec_as_it_is_now():
    game = type(get_game("ipd"))()
    agent = scripted(game, "tit-for-tat")
    before = exact.terms(game, agent)
    game.spec = replace(game.spec, pools=replace(game.spec.pools, train=("always-defect",)))
    assert ("train", "always-defect") in game.opponents and len(game.opponents) < len(
        get_game("ipd").opponents
    )
    assert exact.terms(game, agent).payoff < before.payoff


def test_a_label_is_the_last_round_where_a_game_says_so_and_else_the_key():
    seen = DilemmaInformation((("COOPERATE", "DEFECT"), ("DEFECT", "COOPERATE")))
    assert (seen.label, seen.memory_one, seen.key) == ("DC", "DC", "CD DC")
    seen = first_information(get_game("kuhn"))
    assert seen.label == seen.key


def test_what_the_games_say_of_their_size():
    assert [name for name, game in KIT_GAMES.items() if game.spec.few_states] == ["kuhn", "leduc"]
    rows = {name: game.spec.reference_row for name, game in KIT_GAMES.items() if game.spec.reference_row}
    assert rows == {"ipd": "label", "negotiation_v1": "label", "kuhn": "key", "leduc": "key"}
    assert [name for name, game in KIT_GAMES.items() if game.study_start] == ["ipd"]
