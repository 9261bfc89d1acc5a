"""The games in PettingZoo, by PettingZoo's own tests."""

from __future__ import annotations

import numpy as np
import pytest
from every_game import each_game, each_hiding, same_seen

from sepo_kit import interop
from sepo_kit.games import get_game

pytest.importorskip("pettingzoo", reason="the extra pettingzoo is not installed")

from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test

pytestmark = pytest.mark.filterwarnings(
    "error",
    # Of its recommendations these are not followed: observations are dictionaries, as in its own card games, and
    # where an agent is not to move there is nothing for it to see.
    "ignore:Observation (space|is not|numpy array is all zeros)",
    "ignore:Environment has not defined a render",
)
TWO = ("player_0", "player_1")


@each_game
def test_parallel(game, capsys):
    parallel_api_test(interop.to_pettingzoo(game), num_cycles=100)
    assert "Passed Parallel API test" in capsys.readouterr().out


@each_game
def test_aec(game, capsys):
    api_test(interop.to_pettingzoo(game, "aec"), num_cycles=30)
    assert "Passed API test" in capsys.readouterr().out


@each_game
def test_seeds(game):
    parallel_seed_test(lambda: interop.to_pettingzoo(game), num_cycles=30)
    seed_test(lambda: interop.to_pettingzoo(game, "aec"), num_cycles=30)


def played(game, seed: int, choose) -> tuple[list, list]:
    """One parallel match: what was seen, and the rewards."""
    env = interop.to_pettingzoo(game)
    seen, _ = env.reset(seed=seed)
    all_seen, rewards = [seen], []
    while env.agents:
        actions = {agent: choose(seen[agent]["action_mask"]) for agent in env.agents}
        seen, reward, *_ = env.step(actions)
        all_seen.append(seen)
        rewards.append(tuple(reward.values()))
    return all_seen, rewards


@each_game
def test_the_same_seed_is_the_same_match(game):
    first, second = (played(game, 5, np.argmax) for _ in range(2))
    assert first[1] == second[1]
    for one, other in zip(first[0], second[0], strict=True):
        for agent in TWO:
            assert all((one[agent][part] == other[agent][part]).all() for part in one[agent])
    deals = {tuple(played(game, seed, np.argmax)[0][0]["player_0"]["observation"]) for seed in range(20)}
    assert len(deals) > 1 or not game.initial_state().chance_outcomes()


@each_game
def test_both_interfaces_play_the_same_match(game):
    _, rewards = played(game, 3, np.argmax)
    env, total = interop.to_pettingzoo(game, "aec"), np.zeros(2)
    env.reset(seed=3)
    for agent in env.agent_iter():
        seen, reward, over, *_ = env.last()
        total[TWO.index(agent)] += reward
        env.step(None if over else int(np.argmax(seen["action_mask"])))
    assert total.tolist() == pytest.approx(np.sum(rewards, axis=0).tolist())


@each_hiding
def test_nothing_hidden_is_seen(game):
    env = interop.to_pettingzoo(game)
    for seat, states in same_seen(game):
        shown = set()
        for state in states:
            env.reset(seed=0)
            env._match.state = state
            seen = env.observe(TWO[seat])
            shown.add((*seen["observation"], *seen["action_mask"], env._info(TWO[seat])["prompt"]))
        assert len(shown) == 1


def test_the_second_of_two_simultaneous_moves_does_not_see_the_first():
    shown = []
    for first in (0, 1):
        env = interop.to_pettingzoo("ipd", "aec")
        env.reset(seed=0)
        env.step(first)
        assert env.agent_selection == "player_1"
        shown.append((env.last(), env.infos["player_1"]))
    assert str(shown[0]) == str(shown[1])


def test_one_round_of_the_prisoners_dilemma():
    env = interop.to_pettingzoo("ipd")
    _, infos = env.reset(seed=0)
    assert "Round 1 of 8" in infos["player_0"]["prompt"]
    _, rewards, over, _, infos = env.step({"player_0": 1, "player_1": 0})  # DEFECT, COOPERATE
    assert rewards == {"player_0": 5.0, "player_1": 0.0}
    assert not any(over.values()) and "Round 2 of 8" in infos["player_1"]["prompt"]


def test_who_is_not_to_move_sees_nothing_and_is_not_read():
    env = interop.to_pettingzoo("kuhn")
    seen, infos = env.reset(seed=0)
    assert infos["player_0"]["prompt"] and not infos["player_1"]["prompt"]
    assert not seen["player_1"]["observation"].any() and not seen["player_1"]["action_mask"].any()
    seen, *_ = env.step({"player_0": 0, "player_1": 3})
    assert env.agents and seen["player_1"]["action_mask"].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("api", ["parallel", "aec"])
def test_an_action_that_is_not_legal_forfeits(api):
    env = interop.to_pettingzoo("kuhn", api)
    env.reset(seed=0)
    if api == "aec":
        env.step(3)  # CALL, and nobody has bet
        rewards, over = env.rewards, env.terminations
    else:
        _, rewards, over, *_ = env.step({"player_0": 3})
    worst = get_game("kuhn").spec.payoff_bounds[0] * 6
    assert rewards == {"player_0": worst, "player_1": -worst} and all(over.values())


def test_an_unknown_interface_is_said():
    with pytest.raises(ValueError, match="api must be one of parallel, aec, got 'turns'"):
        interop.to_pettingzoo("kuhn", "turns")
