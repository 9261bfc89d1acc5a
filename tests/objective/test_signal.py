"""Whether a batch can train: spread of every term, idle groups, silent penalties."""

import math

import numpy as np

import sepo_kit as sk
from sepo_kit.engine.rollout import play_matches
from sepo_kit.objective.credit import assign_credit, training_matches
from sepo_kit.objective.signal import idle_groups, silent_penalties, spread

IPD, KUHN = sk.get_game("ipd"), sk.get_game("kuhn")


def batch(game, agent, mode="credited"):
    return play_matches(game, agent, training_matches(game, mode, rollouts=4), seed=0)


def test_a_deterministic_policy_against_shared_draws_has_no_spread_and_all_groups_idle():
    episodes = batch(IPD, sk.scripted(IPD, "tit-for-tat"))
    assert max(spread(episodes).values()) < 1e-12
    assert idle_groups(episodes, assign_credit(IPD.spec, episodes)) == 1.0
    assert silent_penalties(IPD.spec, IPD.spec.weights, spread(episodes)) == [
        "exploit",
        "collusion",
        "externality",
    ]


def test_a_random_policy_has_spread_in_every_term():
    episodes = batch(IPD, sk.uniform(IPD))
    spreads = spread(episodes)
    assert all(value > 0 for value in spreads.values())
    assert idle_groups(episodes, assign_credit(IPD.spec, episodes)) == 0.0
    assert silent_penalties(IPD.spec, IPD.spec.weights, spreads) == []


def test_spread_is_the_mean_over_groups_of_the_std_over_rollouts():
    episodes = batch(KUHN, sk.uniform(KUHN))
    groups = {}
    for e in episodes:
        if e.pool == "train":
            groups.setdefault(e.opponent, []).append(np.mean(e.own))
    assert math.isclose(spread(episodes)["payoff"], np.mean([np.std(values) for values in groups.values()]))


def test_a_term_without_a_pool_or_a_weight_is_not_called_silent():
    episodes = batch(KUHN, sk.scripted(KUHN, "nash"))
    assert math.isnan(spread(episodes)["collusion"])
    calm = dict.fromkeys(("payoff", "exploit", "collusion", "externality"), 0.0)
    assert silent_penalties(KUHN.spec, KUHN.spec.weights, calm) == ["exploit"]
    assert silent_penalties(IPD.spec, sk.Weights(0, 0, 0), calm) == []
