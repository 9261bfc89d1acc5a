"""The four credit modes, worked out by hand on batches of a few episodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import toys
from hypothesis import given
from hypothesis import strategies as st

from sepo_kit.engine.episode import Decision, Episode
from sepo_kit.engine.policy import uniform
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.games import get_game
from sepo_kit.games.base import Weights
from sepo_kit.objective.credit import ALIGNMENT, MODES, STD_FLOOR, assign_credit, training_matches

SPEC = toys.spec()  # T = 2 rounds, s = 2, |train| = 2, |exploit| = |collusive| = 1, |train + exploit| = 3
WEIGHTS = Weights(exploit=3.0, collusion=5.0, externality=0.6)


def episode(
    pool, opponent, index, own=(0, 0), their=(0, 0), c=(0, 0), x=(0, 0), moves=((0, 0), (1, 0)), **more
):
    """An episode with decisions at ``moves``, pairs (round, move)."""
    return Episode(
        "toy",
        pool,
        opponent,
        index,
        0,
        own=list(own),
        their=list(their),
        collusion=list(c),
        externality=list(x),
        decisions=[Decision("L", round=round, move=move, information="state") for round, move in moves],
        **more,
    )


TRAIN = [
    episode("train", "a", 0, own=(1, 2), x=(0.5, 1)),
    episode("train", "a", 1, own=(3, 0), x=(0, 0.25)),
]
EXPLOIT = [
    episode("exploit", "d", 0, own=(0, 1), their=(1, 3), x=(1, 0)),
    episode("exploit", "d", 1, own=(2, 2), their=(1, 1)),
]
COLLUSIVE = [episode("collusive", "k", 0, c=(1, 0)), episode("collusive", "k", 1)]
BATCH = TRAIN + EXPLOIT + COLLUSIVE


def advantages(episodes, weights=WEIGHTS, mode="credited", spec=SPEC, **more) -> np.ndarray:
    """One row per decision, before the one scale of the batch."""
    credit = assign_credit(spec, episodes, weights, mode, **more)
    return credit.advantage * credit.scale


def rewards(episodes, weights=WEIGHTS, mode="credited", spec=SPEC, **more) -> np.ndarray:
    return assign_credit(spec, episodes, weights, mode, **more).reward


# --- credited -------------------------------------------------------------------------------------


def test_credited_pays_each_decision_its_own_share_of_j_and_what_follows():
    """DESIGN.md, section 5. Train: (2 own / 2 - 0.6 x / 3) / 2; exploit: (-3 * 2 gain / 1 - 0.6 x / 3) / 2,
    since the mean gain 0.25 is positive; collusive: -5 c / 1 / 2."""
    shares = [
        [0.45, 0.9], [1.5, -0.025],  # train: own - 0.2 x, halved
        [-3.1, -6.0], [3.0, 3.0],  # exploit: -3 gain - 0.1 x
        [-2.5, 0.0], [0.0, 0.0],  # collusive
    ]  # fmt: skip
    np.testing.assert_allclose(rewards(BATCH, horizon="round"), np.ravel(shares), atol=1e-12)
    to_go = [[first + second, second] for first, second in shares]
    np.testing.assert_allclose(rewards(BATCH), np.ravel(to_go), atol=1e-12)


def test_credited_baseline_is_the_other_rollout_and_the_scale_is_one_for_all():
    credit = assign_credit(SPEC, BATCH, WEIGHTS)
    expected = [-0.125, 0.925, 0.125, -0.925, -15.1, -9.0, 15.1, 9.0, -2.5, 0.0, 2.5, 0.0]
    np.testing.assert_allclose(credit.advantage * credit.scale, expected, atol=1e-12)
    assert credit.scale == pytest.approx(np.sqrt(np.mean(np.square(expected))))
    assert np.std(credit.advantage) == pytest.approx(1)
    assert credit.trained.all()


def test_credited_baseline_leaves_out_the_decision_itself():
    """Three rollouts: each against the mean of the other two."""
    group = [episode("train", "a", i, own=(0, own)) for i, own in enumerate((2, 6, 1))]
    paid = np.array([2, 6, 1]) / 2
    others = np.array([7, 3, 8]) / 4
    np.testing.assert_allclose(advantages(group)[1::2], paid - others, atol=1e-12)


def test_groups_of_one_opponent_have_baselines_of_their_own():
    group = [episode("train", "a", i, own=(0, own), group=g) for g, i, own in
             [(0, 0, 2), (0, 1, 4), (1, 0, 20), (1, 1, 10)]]  # fmt: skip
    np.testing.assert_allclose(advantages(group)[1::2], [-1, 1, 5, -5], atol=1e-12)


def test_credited_charges_nothing_where_the_opponent_does_not_earn_more():
    """One rollout loses by 1, the other wins by 2: on average the opponent earns less."""
    batch = [
        episode("exploit", "d", 0, own=(0, 0), their=(1, 1), x=(0, 1)),
        episode("exploit", "d", 1, own=(2, 2)),
    ]
    np.testing.assert_allclose(rewards(batch, horizon="round"), [0, -0.1, 0, 0], atol=1e-12)
    even = [replace(batch[0]), replace(batch[1], own=[1, 1])]
    np.testing.assert_allclose(rewards(even, horizon="round"), [0, -0.1, 0, 0], atol=1e-12)


def test_one_opponent_that_earns_less_does_not_spare_another():
    pools = replace(SPEC.pools, exploit=("d", "f"))
    batch = [
        episode("exploit", "d", 0, their=(2, 2)),
        episode("exploit", "d", 1, their=(2, 2)),
        episode("exploit", "f", 0, own=(9, 9)),
        episode("exploit", "f", 1, own=(9, 9)),
    ]
    found = rewards(batch, spec=toys.spec(pools=pools), horizon="round")
    np.testing.assert_allclose(
        found, [-3, -3, -3, -3, 0, 0, 0, 0], atol=1e-12
    )  # -3 * 2 * 2 / 2 opponents / 2


def test_where_no_other_rollout_got_there_the_pool_is_the_baseline():
    """Second moves of a round: rollout 0 of a is alone with its own, b's two are in the same pool, and the
    exploit pool is not."""
    spec = toys.spec(moves_per_round=2, independent_rounds=True)
    both, one = ((0, 0), (0, 1), (1, 0)), ((0, 0), (1, 0))
    batch = [
        episode("train", "a", 0, own=(8, 0), moves=both),
        episode("train", "a", 1, own=(0, 0), moves=one),
        episode("train", "b", 0, own=(2, 0), moves=both),
        episode("train", "b", 1, own=(4, 0), moves=both),
        episode("exploit", "d", 0, their=(2, 0), moves=both),
        episode("exploit", "d", 1, their=(2, 0), moves=one),
    ]
    found = dict(zip([(e.opponent, e.index, d.round, d.move) for e in batch for d in e.decisions],
                     advantages(batch, spec=spec)))  # fmt: skip
    assert found["a", 0, 0, 1] == pytest.approx(4 - (1 + 2) / 2)
    assert found["b", 0, 0, 1] == pytest.approx(1 - 2)  # its own group's other, not the pool
    assert found["d", 0, 0, 1] == pytest.approx(-3 * 2 * 2 / 2)  # no other anywhere: no baseline
    assert found["a", 0, 0, 0] == pytest.approx(4 - 0)


def test_both_moves_of_a_round_earn_the_round():
    spec = toys.spec(moves_per_round=2)
    batch = [episode("train", "a", 0, own=(6, 2), moves=((0, 0), (0, 1), (1, 0)))]
    np.testing.assert_allclose(rewards(batch, spec=spec), [4, 4, 1], atol=1e-12)


def test_independent_rounds_are_never_paid_for_later_ones():
    spec = toys.spec(independent_rounds=True)
    np.testing.assert_array_equal(rewards(BATCH, spec=spec), rewards(BATCH, horizon="round"))
    np.testing.assert_array_equal(
        rewards(BATCH, spec=spec, horizon="return-to-go"), rewards(BATCH, horizon="round")
    )


def test_a_batch_without_differences_trains_nothing():
    batch = [episode("train", "a", i, own=(1, 1)) for i in range(3)]
    credit = assign_credit(SPEC, batch, WEIGHTS)
    np.testing.assert_array_equal(credit.advantage, 0)
    assert credit.scale == 1.0


def test_default_weights_are_the_games_own():
    np.testing.assert_array_equal(advantages(BATCH, None), advantages(BATCH, SPEC.weights))


# --- shared ---------------------------------------------------------------------------------------


def test_shared_is_the_payoff_of_the_round_standardised_within_its_group():
    credit = assign_credit(SPEC, BATCH, WEIGHTS, "shared")
    # Scaled payoffs 2, 6 and 4, 0: deviations -2, 2 and 2, -2; std with n - 1.
    z = 2 / (np.sqrt(8) + STD_FLOOR)
    np.testing.assert_allclose(credit.advantage, [-z, z, z, -z] + [0] * 8, atol=1e-12)
    np.testing.assert_array_equal(credit.trained, [True] * 4 + [False] * 8)


def test_shared_charges_one_estimate_to_every_train_decision():
    """le s e + lc c + lx x = 3 * 2 * 0.25 + 5 * 0.25 + 0.6 * mean x of train and exploit."""
    x = np.mean([0.5, 1, 0, 0.25, 1, 0, 0, 0])
    penalty = 3 * 2 * 0.25 + 5 * 0.25 + 0.6 * x
    np.testing.assert_allclose(
        rewards(BATCH, mode="shared")[:4], np.array([2, 4, 6, 0]) - penalty, atol=1e-12
    )


WEIGHT = st.floats(0, 1000, allow_subnormal=False)


@given(exploit=WEIGHT, collusion=WEIGHT, externality=WEIGHT)
def test_shared_penalties_cancel_whatever_the_weights(exploit, collusion, externality):
    without = advantages(BATCH, Weights(0, 0, 0), "shared")
    weighted = advantages(BATCH, Weights(exploit, collusion, externality), "shared")
    np.testing.assert_allclose(weighted, without, atol=1e-9)


def test_shared_penalties_cancel_in_real_play():
    ipd = get_game("ipd")
    episodes = play_matches(ipd, uniform(ipd), training_matches(ipd, "shared", 4), seed=2)
    with_penalty, without = (
        assign_credit(ipd.spec, episodes, weights, "shared").advantage
        for weights in (Weights(24, 10, 18), Weights(0, 0, 0))
    )
    np.testing.assert_allclose(with_penalty, without, atol=1e-9)
    assert np.abs(without).max() > 0.5


# --- auxiliary ------------------------------------------------------------------------------------


def auxiliary(i: int, their, c) -> list[Episode]:
    """The fresh episodes of rollout ``i`` against a."""
    owner = ("a", 0, i)
    return [
        episode("exploit", "d", 0, own=(1, 1), their=their, x=(1, 1), owner=owner),
        episode("collusive", "k", 0, c=c, owner=owner),
    ]


def test_auxiliary_charges_each_rollout_what_its_own_fresh_episodes_showed():
    batch = [*TRAIN, *auxiliary(0, (3, 5), (1, 0)), *auxiliary(1, (0, 0), (0, 0))]
    # Rollout 0: gain 3 a round, collusion 0.5, externality mean of 0.5, 1 and 1, 1. Rollout 1: no gain.
    first = 3 * 2 * 3 + 5 * 0.5 + 0.6 * np.mean([0.5, 1, 1, 1])
    second = 0.6 * np.mean([0, 0.25, 1, 1])
    paid = np.array([2 - first, 4 - first, 6 - second, 0 - second])
    credit = assign_credit(SPEC, batch, WEIGHTS, "auxiliary")
    np.testing.assert_allclose(credit.reward[:4], paid, atol=1e-12)
    np.testing.assert_array_equal(credit.trained, [True] * 4 + [False] * 8)
    np.testing.assert_array_equal(credit.advantage[4:], 0)
    half = (paid[:2] - paid[2:]) / 2
    z = half / (np.sqrt(2) * np.abs(half) + STD_FLOOR)
    np.testing.assert_allclose(credit.advantage[:4], [*z, *-z], atol=1e-9)


def test_auxiliary_groups_keep_their_episodes_apart():
    """The owner of an episode is (opponent, group, index): b's rollout 0 is not a's."""
    other = [episode("train", "b", i, own=(1, 1)) for i in range(2)]
    batch = [*TRAIN, *auxiliary(0, (3, 5), (1, 0)), *auxiliary(1, (0, 0), (0, 0)), *other]
    np.testing.assert_allclose(rewards(batch, mode="auxiliary")[-4:], [2, 2, 2, 2], atol=1e-12)


def test_auxiliary_plays_fresh_episodes_for_every_rollout():
    ipd = get_game("ipd")
    todo = training_matches(ipd, "auxiliary", 3, groups=2)
    train = [m for m in todo if m.pool == "train"]
    assert train == matches(ipd, ("train",), 3, groups=2)
    for match in train:
        mine = [m for m in todo if m.owner == (match.opponent, match.group, match.index)]
        assert [(m.pool, m.opponent) for m in mine] == [
            ("exploit", "always-defect"), ("exploit", "alternating-defect"), ("collusive", "always-cooperate")
        ]  # fmt: skip
    assert len(todo) == len(train) * 4


@pytest.mark.parametrize("mode", ["shared", "grouped", "credited", "alignment"])
def test_the_other_modes_play_groups_of_all_pools(mode):
    kuhn = get_game("kuhn")
    assert training_matches(kuhn, mode, 3, 2) == matches(kuhn, ("train", "exploit", "collusive"), 3, 2)


# --- grouped --------------------------------------------------------------------------------------


def test_grouped_standardises_each_share_within_its_group():
    credit = assign_credit(SPEC, BATCH, WEIGHTS, "grouped")
    shares = np.array([[0.45, 0.9, 1.5, -0.025], [-3.1, -6.0, 3.0, 3.0], [-2.5, 0, 0, 0]])
    np.testing.assert_allclose(credit.reward, shares.ravel(), atol=1e-12)
    half = (shares[:, :2] - shares[:, 2:]) / 2
    z = half / (np.sqrt(2) * np.abs(half) + STD_FLOOR)
    np.testing.assert_allclose(credit.advantage, np.concatenate([z, -z], axis=1).ravel(), atol=1e-9)
    assert credit.trained.all() and credit.scale == 1


TENFOLD = Weights(WEIGHTS.exploit, 10 * WEIGHTS.collusion, WEIGHTS.externality)


def test_grouped_does_not_notice_a_tenfold_weight_and_credited_does():
    """Why the weights between pools vanish in ``grouped``: only the floor of the std tells them apart."""
    assert np.abs(advantages(BATCH, TENFOLD, "grouped") - advantages(BATCH, WEIGHTS, "grouped")).max() < 1e-3
    before, after = advantages(BATCH), advantages(BATCH, TENFOLD)
    np.testing.assert_allclose(after[:8], before[:8], atol=1e-12)  # train and exploit stay
    np.testing.assert_allclose(after[8:], 10 * before[8:], atol=1e-12)
    assert np.abs(before[8:]).max() > 1


# --- alignment ------------------------------------------------------------------------------------

PARTNERS = [
    episode("train", "a", 0, own=(1, 2), their=(0, 4)),
    episode("train", "a", 1, own=(3, 0), their=(2, 0)),
]


def test_alignment_adds_the_product_of_how_it_went_and_how_the_opponent_fares_now():
    """Own scaled payoff before round 1: 2 and 6, less the other's -4 and 4, over their std with two zeros sqrt(8).
    What the opponent gets from there on: 8, 8 and 4, 0, less the other's 4, 8, -4, -8, over sqrt(40)."""
    credited, aligned = (assign_credit(SPEC, PARTNERS, WEIGHTS, mode) for mode in ("credited", "alignment"))
    product = -4 / np.sqrt(8) * 8 / np.sqrt(40)
    np.testing.assert_allclose(
        aligned.advantage - credited.advantage, [0, ALIGNMENT * product, 0, ALIGNMENT * product], atol=1e-12
    )
    np.testing.assert_array_equal(aligned.reward, credited.reward)
    assert aligned.scale == credited.scale and aligned.trained.all()


def test_alignment_pays_the_round_alone_where_it_is_told_to():
    """The opponent's rounds: 0, 8 and 4, 0, less the other's -4, 8, 4, -8."""
    credited, aligned = (
        assign_credit(SPEC, PARTNERS, WEIGHTS, mode, "round") for mode in ("credited", "alignment")
    )
    product = -4 / np.sqrt(8) * 8 / np.sqrt(40)
    np.testing.assert_allclose(aligned.advantage - credited.advantage, [0, product, 0, product], atol=1e-12)


def test_alignment_is_for_partners_and_leaves_adversaries_to_credited():
    credited, aligned = (assign_credit(SPEC, BATCH, WEIGHTS, mode) for mode in ("credited", "alignment"))
    np.testing.assert_array_equal(aligned.advantage[4:], credited.advantage[4:])
    np.testing.assert_array_equal(
        aligned.advantage, credited.advantage
    )  # in BATCH no partner's payoff varies
    mixed = [
        assign_credit(SPEC, PARTNERS + EXPLOIT + COLLUSIVE, WEIGHTS, m) for m in ("credited", "alignment")
    ]
    np.testing.assert_array_equal(mixed[0].advantage[4:], mixed[1].advantage[4:])
    assert not np.allclose(mixed[0].advantage[:4], mixed[1].advantage[:4])


# --- what all modes share -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_episodes_does_not_matter(mode):
    ipd = get_game("ipd")
    episodes = play_matches(ipd, uniform(ipd), training_matches(ipd, mode, 3), seed=5)
    credit = assign_credit(ipd.spec, episodes, mode=mode)
    assert len(credit.advantage) == len(episodes) * ipd.spec.rounds
    order = np.random.default_rng(0).permutation(len(episodes))
    shuffled = assign_credit(ipd.spec, [episodes[i] for i in order], mode=mode)
    by_episode = credit.advantage.reshape(len(episodes), -1)
    np.testing.assert_allclose(shuffled.advantage.reshape(len(episodes), -1), by_episode[order], atol=1e-9)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "alignment"])  # a product's mean is no 0
def test_advantages_of_a_full_group_sum_to_zero(mode):
    """Leave-one-out and group means alike: what one rollout gains over the others, they lose."""
    ipd = get_game("ipd")
    episodes = play_matches(ipd, uniform(ipd), training_matches(ipd, mode, 4), seed=5)
    credit = assign_credit(ipd.spec, episodes, mode=mode)
    trained = [i for i, e in enumerate(episodes) if e.pool == "train" or mode in ("grouped", "credited")]
    groups = credit.advantage.reshape(len(episodes), -1)[trained].reshape(-1, 4, ipd.spec.rounds)
    np.testing.assert_allclose(groups.sum(axis=1), 0, atol=1e-9)
    assert np.abs(groups).max() > 0.5


def test_unknown_mode_and_horizon():
    with pytest.raises(ValueError, match="credit mode must be one of shared, auxiliary, grouped, credited"):
        assign_credit(SPEC, BATCH, WEIGHTS, "grpo")
    with pytest.raises(ValueError, match=r"credit mode must be one of .* got 'grpo'"):
        training_matches(get_game("kuhn"), "grpo", 2)
    with pytest.raises(ValueError, match="horizon must be one of round, return-to-go, got 'episode'"):
        assign_credit(SPEC, BATCH, WEIGHTS, horizon="episode")


def test_no_episodes():
    with pytest.raises(ValueError, match=r"no episodes to credit; play training_matches"):
        assign_credit(SPEC, [], WEIGHTS)
