"""One training step, whoever learns: what it plays, what it pays, which weights come next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sepo_kit.engine.policy import scripted, uniform
from sepo_kit.engine.rollout import play_matches
from sepo_kit.games import get_game
from sepo_kit.games.base import Pools, Weights
from sepo_kit.objective.credit import MODES, assign_credit, training_matches
from sepo_kit.objective.step import StepSettings, TrainingStep
from sepo_kit.objective.terms import results_of, row_of, terms_of


def played(step: TrainingStep, seed: int = 0):
    return play_matches(step.game, uniform(step.game), step.matches, seed)


@pytest.mark.parametrize("mode", MODES)
def test_a_step_plays_and_pays_what_its_mode_says(mode):
    game = get_game("kuhn")
    step = TrainingStep(game, StepSettings(mode=mode, rollouts=3, groups=2))
    assert step.matches == training_matches(game, mode, 3, 2)
    episodes = played(step)
    credit = step.learn(episodes)
    expected = assign_credit(game.spec, episodes, mode=mode)
    np.testing.assert_array_equal(credit.advantage, expected.advantage)
    np.testing.assert_array_equal(row_of(step.terms), row_of(terms_of(game.spec, results_of(episodes))))
    assert step.episodes == episodes
    assert step.weights == step.charged == game.spec.weights


def test_other_pools_are_played_and_paid():
    game = get_game("ipd")
    pools = Pools(("grim-trigger",), ("always-defect",), (), ())
    step = TrainingStep(game, StepSettings(rollouts=2, pools=pools))
    assert step.opponents == ("grim-trigger", "always-defect")
    episodes = play_matches(game, scripted(game, "always-cooperate"), step.matches, 0)
    step.learn(episodes)
    assert (step.terms.payoff, step.terms.exploit) == (3.0, 5.0)
    spec = replace(game.spec, pools=pools)
    np.testing.assert_array_equal(step.credit.reward, assign_credit(spec, episodes).reward)


def test_limits_charge_the_weights_that_the_step_before_reached():
    game = get_game("ipd")
    limits = {"exploit": 0.0}
    step = TrainingStep(
        game, StepSettings(rollouts=2, weights=Weights(1, 1, 1), limits=limits, dual_rate=2.0)
    )
    first = step.learn(played(step))
    reached = Weights(1 + 2.0 * step.terms.exploit, 1, 1)
    assert (step.charged, step.weights) == (Weights(1, 1, 1), reached) and reached.exploit > 1
    second = step.learn(step.episodes)
    assert step.charged == reached
    assert not np.array_equal(first.reward, second.reward)


def test_a_training_that_was_stopped_takes_up_its_weights():
    game = get_game("ipd")
    limited = TrainingStep(game, StepSettings(limits={"collusion": 0.1}))
    limited.go_on_with(Weights(3, 2, 1))
    assert limited.weights == limited.dual.weights == Weights(3, 2, 1)
    fixed = TrainingStep(game, StepSettings())
    fixed.go_on_with(Weights(3, 2, 1))
    assert fixed.weights == game.spec.weights


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rollouts", 1, "rollouts must be >= 2, got 1"),
        ("rollouts", 2.5, "rollouts must be a whole number"),
        ("groups", 0, "groups must be > 0"),
        ("groups", True, "groups must be a finite number"),
        ("mode", "ppo", "credit mode must be one of"),
        ("horizon", "all", "horizon must be one of"),
        ("common_random_numbers", 1, "must be True or False"),
        ("weights", (1, 2, 3), "weights must be a Weights"),
        ("pools", ("nash",), "pools must be a Pools"),
        ("limits", {"greed": 1}, "limits must be on"),
        ("dual_rate", 0, "dual_rate must be > 0"),
        ("dual_rate", "x", "dual_rate must be a finite number"),
        ("dual_rate", 10**400, "dual_rate must be a finite number"),
        ("limits", {"exploit": 10**400}, "must be a finite number >= 0"),
        ("pools", Pools(("nash",), ("worst-case",), (), ()), "set exploiters='worst-case'"),
        ("pools", Pools(("fitted",), (), (), ()), "an answer to the agent as it was before training"),
    ],
)
def test_bad_settings_are_named(field, value, words):
    with pytest.raises(ValueError, match=words):
        StepSettings(**{field: value})
