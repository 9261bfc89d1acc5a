"""The reference policy: at least as good as everything it can be compared with, and what the ascent says of itself."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest

from sepo_kit import exact
from sepo_kit.engine.policy import scripted, tabular
from sepo_kit.exact import ascent
from sepo_kit.exact.gradients import problem
from sepo_kit.games import get_game
from sepo_kit.games.base import Weights
from sepo_kit.objective.terms import objective

CASES = [("ipd", "memory_one"), ("kuhn", "key")]
UNIFORM = dict.fromkeys(("start", "CC", "CD", "DC", "DD"), (0.5, 0.5))


def best_scripted(game, weights) -> float:
    found = (exact.terms(game, scripted(game, strategy)) for strategy in game.strategies)
    return max(objective(game.spec, terms, weights) for terms in found)


@pytest.mark.parametrize(("game_id", "row"), CASES)
@pytest.mark.parametrize("exploit", [0.0, None, 20.0])
def test_no_scripted_strategy_is_better(game_id, row, exploit):
    game = get_game(game_id)
    paper = game.spec.weights
    weights = paper if exploit is None else Weights(exploit, paper.collusion, paper.externality)
    found = exact.optimise(game, weights, row=row)
    assert found.objective >= best_scripted(game, weights) - 1e-12


@pytest.mark.parametrize(("game_id", "row"), CASES)
def test_no_pure_table_is_better(game_id, row):
    """All 32 of the prisoner's dilemma, all 4,096 of Kuhn poker."""
    game = get_game(game_id)
    found, weights = problem(game, row), game.spec.weights
    best = -np.inf
    for chosen in product((0, 1), repeat=len(found.labels)):
        p = np.concatenate([[1.0], *np.eye(2)[list(chosen)]])
        best = max(best, found.objective(found.forward(p)[1], weights))
    assert exact.optimise(game, row=row).objective >= best - 1e-12


@pytest.mark.parametrize(("game_id", "row"), [*CASES, ("negotiation_v1", "memory_one")])
def test_it_reports_what_its_policy_is_worth(game_id, row):
    game = get_game(game_id)
    found = exact.optimise(game, row=row, steps=60)
    # Sums are in the order in which the tree grew; None, what is not defined, becomes NaN.
    said, again = (
        np.array(list(vars(t).values()), float) for t in (found.terms, exact.terms(game, found.policy))
    )
    np.testing.assert_allclose(said, again, rtol=1e-12, atol=1e-12)
    assert found.objective == pytest.approx(objective(game.spec, found.terms), abs=1e-9)
    assert {len(values) for values in found.trajectory.values()} == {61}
    j = found.trajectory
    terms = found.terms.__class__(
        *(j[name] for name in ("payoff", "exploit", "collusion", "externality")), 0.0, None
    )
    np.testing.assert_allclose(j["objective"], objective(game.spec, terms), atol=1e-9)
    assert found.objective >= j["objective"].max()


def test_it_climbs_from_where_it_is_told_to():
    game = get_game("ipd")
    found = exact.optimise(game, row="memory_one", start=UNIFORM)
    before = objective(game.spec, exact.terms(game, scripted(game, "uniform")))
    assert found.start == "given"
    assert found.trajectory["objective"][0] == pytest.approx(before, abs=1e-9)
    assert found.objective > before + 1
    # Every step of the ascent is small, and nearly all go up.
    assert (np.diff(found.trajectory["objective"]) > -1e-3).mean() > 0.95


def test_a_maximum_is_left_alone():
    """Grim trigger is a maximum among memory-one tables: no single row should change."""
    game = get_game("ipd")
    grim = {label: (1, 0) if label in ("start", "CC") else (0, 1) for label in UNIFORM}
    found = exact.optimise(game, row="memory_one", start=grim, steps=50)
    value = objective(game.spec, exact.terms(game, tabular(game, grim, row="memory_one")))
    assert found.objective == pytest.approx(value, abs=1e-12)
    for label in ("start", "CC", "CD"):
        np.testing.assert_allclose(found.policy.table[label], grim[label], atol=1e-9)


def test_a_policy_may_be_the_start():
    """Its mean play in each row: tit-for-tat has memory one, so it is itself."""
    game = get_game("ipd")
    found = exact.optimise(game, row="memory_one", start=scripted(game, "tit-for-tat"), steps=1)
    assert found.start == "tit-for-tat"
    value = objective(game.spec, exact.terms(game, scripted(game, "tit-for-tat")))
    assert found.trajectory["objective"][0] == pytest.approx(value, abs=0.02)  # softened by a thousandth
    assert found.objective >= value - 1e-9


def test_limits_of_the_weights_show():
    """Without penalties the ascent takes what it can; with a high price on harm it does none."""
    game = get_game("ipd")
    greedy = exact.optimise(game, Weights(0, 0, 0), row="memory_one")
    gentle = exact.optimise(game, Weights(0, 100, 0), row="memory_one")
    assert greedy.terms.payoff >= gentle.terms.payoff
    assert gentle.terms.collusion < 1e-3


def test_the_same_question_has_the_same_answer():
    first, second = (exact.optimise("kuhn", steps=40) for _ in range(2))
    assert first.objective == second.objective
    for label, row in first.policy.table.items():
        np.testing.assert_array_equal(row, second.policy.table[label])


@pytest.mark.parametrize(("game_id", "row"), CASES)
def test_it_is_quick_enough_for_a_button(game_id, row):
    exact.optimise(game_id, row=row, steps=1)  # builds the trees

    def seconds():
        begin = time.process_time()
        exact.optimise(game_id, row=row)
        return time.process_time() - begin

    assert any(seconds() < 2 for _ in range(3))


# --- errors ---------------------------------------------------------------------------------------


def test_of_several_missing_rows_the_first_by_name_is_named_whatever_was_met_first(monkeypatch):
    """What was met first depends on all that was played in the process before."""
    found = problem(get_game("ipd"), "memory_one")
    for backwards in (False, True):
        order = sorted(zip(found.labels, found.actions[1:], strict=True), reverse=backwards)
        monkeypatch.setattr(found, "labels", [label for label, _ in order])
        monkeypatch.setattr(found, "actions", [found.actions[0], *(actions for _, actions in order)])
        with pytest.raises(ValueError, match="no row for state 'CC'"):
            found.probabilities({"start": (1, 0), "DD": (1, 0)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
        ({"steps": 2.5}, "steps must be a whole number >= 1, got 2.5"),
        ({"learning_rate": 0}, "learning_rate must be a number > 0, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number > 0, got nan"),
        ({"row": "mood"}, "no label 'mood'"),
        ({"row": "memory_one", "start": {"start": (1, 0)}}, "the table has no row for state 'CC'"),
        ({"row": "memory_one", "start": {**UNIFORM, "CC": (1, 1)}}, "row 'CC' must be probabilities"),
        ({"max_states": 50}, "ipd has more than 50 states"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        exact.optimise("ipd", **options)


def test_more_states_may_be_walked_to_project_a_policy(monkeypatch):
    """The limit that the caller gives is the limit of all of it."""
    monkeypatch.setattr(ascent, "MAX_STATES", 3_000, raising=False)
    found = exact.optimise(
        "ipd", row="memory_one", start=scripted("ipd", "uniform"), steps=1, max_states=500_000
    )
    assert found.objective > 0
