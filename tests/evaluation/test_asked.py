"""Agents that were asked in every information state: what their answers say of them, and how surely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sepo_kit import exact
from sepo_kit.engine.episode import Decision
from sepo_kit.engine.policy import Policy, TabularPolicy, tabular
from sepo_kit.evaluation.asked import Asked, ask, asked_report, metrics_resampled
from sepo_kit.evaluation.comparisons import differences
from sepo_kit.evaluation.evaluate import METRICS, evaluate
from sepo_kit.evaluation.results import EvaluationSettings, read_result
from sepo_kit.evaluation.stage import evaluate_stage
from sepo_kit.games import get_game

STATES = exact.information_states("kuhn")
WEIGHTS = get_game("kuhn").spec.eval_weights


def player(seed: int) -> TabularPolicy:
    rng = np.random.default_rng(seed)
    return tabular("kuhn", {state.key: rng.dirichlet([2.0, 2.0]) for state in STATES})


def test_a_policy_without_chance_is_known_exactly():
    pure = tabular("kuhn", {state.key: [1.0, 0.0] for state in STATES})
    found, known = asked_report(ask(pure, "kuhn", 4), resamples=20), evaluate(pure, "kuhn", exact=True)
    for metric in METRICS:
        one, other = found.estimates[metric], known.estimates[metric]
        assert [one.value, one.low, one.high] == pytest.approx(
            [other.value, other.low, other.high], nan_ok=True
        ), metric
    assert found.worst_case.how == "bounds" and found.estimates["payoff"].n == 4 * len(STATES)


def test_intervals_hold_the_exact_numbers_and_the_bounds_the_worst_case():
    held = {metric: 0 for metric in ("payoff", "exploit", "safety", "robust", "worst_case", "guaranteed")}
    for seed in range(30):
        agent = player(seed)
        found = asked_report(ask(agent, "kuhn", 40, seed), resamples=80)
        known = evaluate(agent, "kuhn", exact=True)
        for metric in held:
            one = found.estimates[metric]
            held[metric] += one.low <= known.estimates[metric].value <= one.high
    # 95 % are claimed, and with so few resamples 93 are left: fewer than 23 of 30 is then one case in thousands.
    assert min(held.values()) >= 23, held


def test_what_an_opponent_gains_is_right_on_average():
    agent = player(1)
    known = exact.against("kuhn", agent, "nash").advantage
    asked = (ask(agent, "kuhn", 4, seed).policy() for seed in range(400))
    found = [one.advantage for one in exact.each_against("kuhn", asked, "nash")]
    assert abs(np.mean(found) - known) < 4 * np.std(found) / 20


class Mumbling(Policy):
    """Every third of its replies cannot be read."""

    name = "mumbling"

    def distributions(self, seen):
        raise NotImplementedError

    def act(self, seen, uniforms):
        return [Decision(s.legal_actions[n % 2], 0.0, fallback=n % 3 == 0) for n, s in enumerate(seen)]


def test_fallbacks_are_counted():
    assert asked_report(ask(Mumbling(), "kuhn", 12)).fallback == pytest.approx(1 / 3)


def test_what_cannot_be_asked_is_said():
    with pytest.raises(
        ValueError, match="ipd has too many information states to ask in each; play episodes instead"
    ):
        ask(player(0), "ipd", 10)
    for replies in (2, 5):
        with pytest.raises(ValueError, match=f"replies must be even and >= 4, got {replies}"):
            ask(player(0), "kuhn", replies)


def test_resamples_of_the_shares_are_as_wide_as_those_of_the_answers():
    asked = ask(player(2), "kuhn", 200)
    again = Asked.of_policy("kuhn", exact.policy_table("kuhn", asked.policy()), 200)
    one, other = (metrics_resampled(each, WEIGHTS, 0)[:, METRICS.index("payoff")] for each in (asked, again))
    assert other.std() == pytest.approx(one.std(), rel=0.2) and other.mean() == pytest.approx(
        one.mean(), abs=0.01
    )


def test_a_stage_that_answers_in_words_is_evaluated_by_its_answers(tiny_folder, tmp_path):
    settings = EvaluationSettings(episodes=2, exact=False, style="reasoned", max_new_tokens=3, replies=4)
    label = {"model": "tiny", "game": "kuhn", "stage": "sft", "seed": 0}
    files = []
    for stage in ("sft", "sepo"):
        files.append(evaluate_stage(tiny_folder, label | {"stage": stage}, settings, tmp_path))
    result = read_result(files[0])
    rows = {row["metric"]: row for row in result["metrics"]}
    assert rows["payoff"]["n"] == 4 * len(STATES)
    assert all(4 * p == round(4 * p) for row in result["policy"].values() for p in row.values())
    said = Asked.of_policy("kuhn", result["policy"], 4).policy()
    assert rows["payoff"]["value"] == pytest.approx(exact.terms("kuhn", said).payoff)
    assert rows["worst_case"]["low"] <= rows["worst_case"]["value"] <= rows["worst_case"]["high"]
    assert (tmp_path / "sft-seed-0.parquet").exists()  # its matches are kept all the same
    found = differences(files).set_index("metric")
    assert found.loc["payoff", "value"] == 0 and found.loc["payoff", "low"] < 0 < found.loc["payoff", "high"]
    direct = replace(settings, style="direct")
    assert not direct.asks(get_game("kuhn")) and not settings.asks(get_game("ipd"))
