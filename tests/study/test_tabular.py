"""Tabular training: the credit modes do what the method page says."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import toys

import sepo_kit as sk
from sepo_kit.games import kuhn
from sepo_kit.games.base import Pools
from sepo_kit.objective.step import TrainingStep
from sepo_kit.study.tabular import Logits, Reference, TabularSettings, sampled_gradient, train_tabular

COOPERATIVE = {"start": [0.9, 0.1], "CC": [0.9, 0.1], "CD": [0.5, 0.5], "DC": [0.7, 0.3], "DD": [0.4, 0.6]}


def run(mode, steps=200):
    settings = TabularSettings(mode=mode, row="memory_one", steps=steps, log_every=steps, learning_rate=0.1)
    return train_tabular("ipd", settings, seed=0, start=COOPERATIVE).log


def test_credited_reaches_tit_for_tat_and_payoff_only_modes_do_not():
    assert run("credited")["safety"].iloc[-1] > 1.6
    assert run("shared")["safety"].iloc[-1] < 0.5
    assert run("shared")["collusion"].iloc[-1] > 0.9


@pytest.mark.parametrize("exploiters", ["pool", "worst-case"])
def test_where_the_best_response_cannot_be_enumerated_it_is_fitted_and_the_worst_case_unknown(
    monkeypatch, exploiters
):
    """Two hands of which an adversary would have to remember the first."""
    game = toys.shorten(monkeypatch, kuhn, rounds=2)
    monkeypatch.setattr(type(game), "spec", replace(game.spec, independent_rounds=False))
    found = train_tabular(game, TabularSettings(steps=3, rollouts=4, log_every=3, exploiters=exploiters))
    assert found.log["worst_case"].isna().all() and found.log["guaranteed"].isna().all()
    assert found.log["safety"].iloc[-1] != found.log["safety"].iloc[0]


def test_the_same_seed_gives_the_same_table():
    settings = TabularSettings(steps=5, rollouts=4)
    first, second = (train_tabular("kuhn", settings, seed=3) for _ in range(2))
    for label, row in first.table.items():
        np.testing.assert_array_equal(row, second.table[label])
    assert first.log.equals(second.log)


def test_shared_gradients_do_not_depend_on_the_weights():
    game = sk.get_game("ipd")
    settings = TabularSettings(mode="shared", row="memory_one")
    made = [
        sampled_gradient(
            TrainingStep(game, replace(settings, weights=weights)), Logits(game, "memory_one"), 0, 0
        )
        for weights in (sk.Weights(0, 0, 0), sk.Weights(24, 10, 18))
    ]
    for label, row in made[0].items():
        np.testing.assert_allclose(row, made[1][label], atol=1e-12)


def test_a_start_is_where_it_starts():
    game = sk.get_game("ipd")
    logits = Logits(game, "memory_one", COOPERATIVE)
    found = sk.exact.terms(game, logits.policy())
    named = sk.exact.terms(game, sk.tabular(game, COOPERATIVE, row="memory_one"))
    assert found.payoff == pytest.approx(named.payoff)


def test_a_table_that_learns_is_known_by_its_rows():
    game = sk.get_game("kuhn")
    first = Logits(game, "key")
    before = first.policy().identity()
    assert before == Logits(game, "key").policy().identity() != Logits(game, "label").policy().identity()
    sk.exact.worst_case(game, first.policy())  # it meets all states
    assert first.logits and first.policy().identity() == before
    first.logits["K"][0] += 1.0
    assert first.policy().identity() != before
    assert Logits(game, "key", first.probabilities()).policy().identity() != before


def test_the_pull_of_a_reference_is_the_gradient_of_the_divergence():
    """Minus KL(policy, reference), summed over the decisions that were trained, against finite differences."""
    game = sk.get_game("ipd")
    settings = TabularSettings(row="memory_one", rollouts=2, beta=0.1)
    logits, taken = Logits(game, "memory_one", COOPERATIVE), TrainingStep(game, settings)
    reference = Reference(logits)
    sampled_gradient(taken, logits, 0, 0)
    met = Counter(logits.rows[d.information] for episode in taken.episodes for d in episode.decisions)
    assert not any(row.any() for row in reference.pull(taken).values())  # it is where it started
    for row in logits.logits.values():
        row += [0.3, -0.4]
    held = {label: np.array(p) for label, p in COOPERATIVE.items()}

    def divergence() -> float:
        policy = logits.probabilities()
        return sum(n * float(policy[s] @ np.log(policy[s] / held[s])) for s, n in met.items()) / 2

    for label, found in reference.pull(taken).items():
        for place in range(2):
            values = []
            for shift in (1e-5, -2e-5):
                logits.logits[label][place] += shift
                values.append(divergence())
            logits.logits[label][place] += 1e-5
            assert found[place] == pytest.approx(-(values[0] - values[1]) / 2e-5, abs=1e-6)
    assert max(np.abs(row).max() for row in reference.pull(taken).values()) > 0.01
    reference.renew()
    assert not any(row.any() for row in reference.pull(taken).values())


def test_a_strong_pull_holds_a_table_and_a_renewed_one_lets_it_go():
    start = sk.exact.worst_case("kuhn", sk.uniform(sk.get_game("kuhn"))).advantage
    settings = TabularSettings(steps=60, learning_rate=0.1, log_every=60, beta=50.0, exploiters="worst-case")
    held = train_tabular("kuhn", settings).log["worst_case"].iloc[-1]
    let_go = train_tabular("kuhn", replace(settings, renew_reference_every=5)).log["worst_case"].iloc[-1]
    free = train_tabular("kuhn", replace(settings, beta=0.0)).log["worst_case"].iloc[-1]
    assert held > 0.85 * start > let_go > free


def test_a_table_plays_itself():
    """Both seats are asked, and only the agent's decisions are trained on."""
    game = sk.get_game("kuhn")
    settings = TabularSettings(pools=Pools(("self",), (), (), ()), rollouts=4)
    taken = TrainingStep(game, settings)
    sampled_gradient(taken, Logits(game, "key"), 0, 0)
    assert {episode.opponent for episode in taken.episodes} == {"self"}
    assert all(episode.answers for episode in taken.episodes)


def test_a_reference_is_renewed_only_where_it_pulls():
    with pytest.raises(ValueError, match=r"renew_reference_every=5 needs beta > 0, got beta=0\.0"):
        TabularSettings(renew_reference_every=5)
    with pytest.raises(ValueError, match=r"renew_reference_every must be >= 0"):
        TabularSettings(renew_reference_every=-1, beta=1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("rollouts", 1), ("learning_rate", 0.0), ("mode", "ppo"), ("horizon", "all")],
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=r"must be"):
        TabularSettings(**{field: value})
