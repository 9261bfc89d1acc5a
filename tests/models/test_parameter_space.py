"""From logits to parameters: the chain rule, checked against a gradient taken through the model."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from peft import get_peft_model

from sepo_kit import exact
from sepo_kit.games import get_game
from sepo_kit.games.kuhn import KuhnInformation
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.models.lora import lora
from sepo_kit.models.parameter_space import inner_products, log_probabilities
from sepo_kit.study.estimators import estimator_study


@pytest.fixture
def agent(tokenizer):
    model = tiny.with_adapters_that_act(get_peft_model(tiny.model(tokenizer), lora(4, 8, 0.0)))
    return LanguageModel(model.eval(), tokenizer, get_game("kuhn"), temperature=1.5)


@pytest.fixture
def states():
    return exact.information_states("kuhn")


def test_log_probabilities_are_those_it_plays_with(agent, states):
    expected = np.concatenate(agent.distributions(states))
    np.testing.assert_allclose(log_probabilities(agent, states).exp().detach().numpy(), expected, rtol=1e-5)


def test_the_metric_is_the_length_of_the_gradient_in_parameters(agent, states):
    weights = np.random.default_rng(0).normal(size=sum(len(s.legal_actions) for s in states))
    objective = (torch.as_tensor(weights, dtype=torch.float32) * log_probabilities(agent, states)).sum()
    agent.model.zero_grad()
    objective.backward()
    squared = sum(float((p.grad**2).sum()) for p in agent.model.parameters() if p.grad is not None)
    assert weights @ inner_products(agent, states) @ weights == pytest.approx(squared, rel=1e-4)


def test_where_one_action_is_legal_nothing_varies(agent, states):
    class Forced(KuhnInformation):
        legal_actions = states[0].legal_actions[:1]

    forced = Forced(states[0].card, states[0].moves)
    chances = log_probabilities(agent, [*states[:1], forced])
    assert chances.shape == (3,) and chances[2] == 0
    found = inner_products(agent, [forced, *states[:1]])
    assert not found[0].any() and found[1, 1] > 0


def test_a_model_that_is_not_being_trained_has_no_metric(agent, states):
    agent.model.requires_grad_(False)
    with pytest.raises(ValueError, match="give it a LoRA adapter first"):
        inner_products(agent, states)


def test_credited_is_the_gradient_in_parameters_too(agent, states):
    table = dict(zip((s.key for s in states), agent.distributions(states), strict=True))
    found = estimator_study(
        "kuhn", 30, modes=["shared", "credited"], start=table, metric=inner_products(agent, states), groups=4
    ).set_index(["mode", "part"])
    assert found.loc[("credited", "penalty"), "cosine"] > 0.95
    assert np.isnan(found.loc[("shared", "penalty"), "cosine"])
