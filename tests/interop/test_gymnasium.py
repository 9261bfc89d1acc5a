"""One seat of each game in Gymnasium, by Gymnasium's own check."""

from __future__ import annotations

import numpy as np
import pytest
from every_game import each_game, each_hiding, same_seen

import sepo_kit as sk
from sepo_kit import interop
from sepo_kit.engine.graph import Node, StateGraph
from sepo_kit.engine.sitting import Sitting

gymnasium = pytest.importorskip("gymnasium", reason="the extra gymnasium is not installed")

from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics
from gymnasium.wrappers.vector import RecordEpisodeStatistics as VectorStatistics


@each_game
@pytest.mark.parametrize("seat", [0, 1])
def test_it_is_a_gymnasium_environment(game, seat):
    check_env(interop.to_gymnasium(game, seat=seat), skip_render_check=True)


def play(env, seed, choose=np.argmax) -> tuple[list[float], dict, list]:
    """Rewards of one match, its last info, and all that was seen."""
    seen, info = env.reset(seed=seed)
    rewards, over, all_seen = [], False, [seen.tolist()]
    while not over:
        assert "match" not in info
        seen, reward, over, _, info = env.step(choose(info["action_mask"]))
        rewards.append(reward)
        all_seen.append(seen.tolist())
    return rewards, info, all_seen


@each_game
@pytest.mark.parametrize("seat", [0, 1])
def test_rewards_are_the_payoffs_of_the_kits_own_record(game, seat):
    env = interop.to_gymnasium(game, "train", seat)
    rewards, info, _ = play(env, 1)
    episode = info["match"]
    assert len(episode.own) == game.spec.rounds and episode.opponent in game.spec.pools.train
    assert sum(rewards) == pytest.approx(sum(episode.own))


def test_gymnasiums_statistics_are_kept_beside_the_match():
    env, over = RecordEpisodeStatistics(interop.to_gymnasium("ipd", "tit-for-tat")), False
    env.reset(seed=0)
    while not over:
        *_, over, _, info = env.step(0)
    assert info["episode"]["r"] == sum(info["match"].own) == 24.0
    vector = VectorStatistics(SyncVectorEnv([lambda: interop.to_gymnasium("ipd", "tit-for-tat")] * 2))
    vector.reset(seed=0)
    over = np.zeros(2, dtype=bool)
    while not over.all():
        *_, over, _, info = vector.step(np.zeros(2, dtype=int))
    assert info["episode"]["r"].tolist() == [24.0, 24.0]


@each_game
def test_the_same_seed_is_the_same_match(game):
    env = interop.to_gymnasium(game)
    matches = [play(env, seed) for seed in (4, 4, *range(10, 22))]
    told = [(rewards, info["match"], seen) for rewards, info, seen in matches]
    assert told[0] == told[1]
    assert len({str(one) for one in told}) > 1


def test_a_match_is_one_that_the_kit_plays():
    env = interop.to_gymnasium("kuhn", "nash")
    rewards, _, _ = play(env, 7)
    rng = np.random.default_rng(7)
    assert rng.integers(1) == 0  # which of one opponent
    sitting = Sitting(sk.get_game("kuhn"), sk.scripted(sk.get_game("kuhn"), "nash"), seed=rng.integers(2**32))
    while not sitting.over:
        sitting.act("PASS" if "PASS" in sitting.legal_actions else "FOLD")
    assert sum(sitting.episode().own) == sum(rewards)


@pytest.mark.parametrize("opponent", ["exploit", "grim-trigger", sk.uniform(sk.get_game("ipd"))])
def test_opponents(opponent):
    env = interop.to_gymnasium("ipd", opponent)
    met = {play(env, seed)[1]["match"].opponent for seed in range(12)}
    expected = {"exploit": set(sk.get_game("ipd").spec.pools.exploit), "grim-trigger": {"grim-trigger"}}
    assert met == (expected[opponent] if isinstance(opponent, str) else {"uniform"})


@each_hiding
def test_nothing_hidden_is_seen(game):
    for seat, states in same_seen(game):
        env, shown = interop.to_gymnasium(game, seat=seat), set()
        for state in states:
            env.reset(seed=0)
            env._sitting._node = Node(StateGraph(game), state)
            seen, info = env._shown()
            shown.add((*seen, *info["action_mask"], info["prompt"], info["legal_actions"], *info))
        assert len(shown) == 1
    _, info = interop.to_gymnasium(game).reset(seed=0)
    assert set(info) == {"action_mask", "prompt", "legal_actions"}


def test_an_action_that_is_not_legal_forfeits_what_is_left():
    env = interop.to_gymnasium("kuhn", "nash")
    _, info = env.reset(seed=0)
    illegal = int(np.argmin(info["action_mask"]))
    seen, reward, over, truncated, info = env.step(illegal)
    assert (reward, over, truncated, info["illegal_action"]) == (-12.0, True, False, illegal)
    assert not seen.any() and not env.action_masks().any() and "match" not in info
    with pytest.raises(ValueError, match="no match is at play; call reset"):
        env.step(0)


def test_what_is_not_there_is_said():
    with pytest.raises(ValueError, match="unknown opponent 'genius' in kuhn; give a pool"):
        interop.to_gymnasium("kuhn", "genius")
    with pytest.raises(
        ValueError, match="the pool 'collusive' of kuhn is empty; take one of train, exploit, shift"
    ):
        interop.to_gymnasium("kuhn", "collusive")
    with pytest.raises(ValueError, match="seat must be 0 or 1, got 2"):
        interop.to_gymnasium("kuhn", seat=2)
