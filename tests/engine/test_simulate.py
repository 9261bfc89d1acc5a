"""Simulated episodes are those of ``play``, without the record."""

import numpy as np
import pytest

import sepo_kit as sk
from sepo_kit.engine.simulate import simulate

PAIRS = [
    (game.spec.id, agent, opponent)
    for game in sk.GAMES.values()
    for agent, opponent in (
        (next(iter(game.strategies)), "uniform"),
        ("uniform", list(game.strategies)[1]),
        ("uniform", "uniform"),
    )
]


@pytest.mark.parametrize(("game", "agent", "opponent"), PAIRS)
def test_a_simulation_is_the_play_of_the_same_seed(game, agent, opponent):
    game = sk.get_game(game)
    agent = sk.scripted(game, agent)
    played = sk.play(game, agent, opponent, episodes=12, seed=3, pool="none")
    simulated = simulate(game, agent, opponent, episodes=12, seed=3, pool="none")
    for field in ("own", "their", "collusion", "externality"):
        np.testing.assert_array_equal(getattr(simulated, field), [getattr(e, field) for e in played])


@pytest.mark.parametrize("opponent", ["nash", "always-bet", "uniform"])
def test_simulate_and_play_draw_alike_if_nobody_names_a_pool(opponent):
    agent = sk.uniform("kuhn")
    played = sk.play("kuhn", agent, opponent, episodes=12, seed=3)
    simulated = simulate("kuhn", agent, opponent, episodes=12, seed=3)
    np.testing.assert_array_equal(simulated.own, [episode.own for episode in played])


def test_more_episodes_do_not_change_the_first_ones():
    game = sk.get_game("kuhn")
    few, many = (simulate(game, sk.uniform(game), "nash", episodes=n, seed=1).own for n in (5, 50))
    np.testing.assert_array_equal(few, many[:5])


def test_it_converges_to_the_exact_values():
    game = sk.get_game("kuhn")
    own = simulate(game, sk.uniform(game), "nash", episodes=20_000).own
    exact = sk.exact.results(game, sk.uniform(game), [("train", "nash")])["train", "nash"].own
    assert own.mean() == pytest.approx(exact, abs=4 * own.std() / np.sqrt(own.size))


def test_no_episodes_is_an_error():
    game = sk.get_game("ipd")
    with pytest.raises(ValueError, match="episodes must be a whole number >= 1"):
        simulate(game, sk.uniform(game), "tit-for-tat", episodes=0)
