"""The exact gradient against central differences of the enumerated J, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import toys

from sepo_kit import exact
from sepo_kit.engine.policy import scripted, tabular
from sepo_kit.exact.gradients import problem
from sepo_kit.games import get_game, ipd, kuhn
from sepo_kit.games.base import Game, Weights
from sepo_kit.objective.terms import TERMS, objective, terms_of

MEMORY_ONE = ("start", "CC", "CD", "DC", "DD")


def random_table(game: Game, row: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    found = problem(game, row)
    return {
        label: rng.dirichlet(np.ones(len(actions)))
        for label, actions in zip(found.labels, found.actions[1:], strict=True)
    }


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


def central_differences(game, table, weights, row, labels=None, step=1e-5) -> dict[str, np.ndarray]:
    """dJ/dlogits of ``labels`` from enumerated terms, one logit at a time."""

    def j(label: str, logits: np.ndarray) -> float:
        changed = tabular(game, {**table, label: softmax(logits)}, row=row)
        pools = [member for member in game.opponents if member[0] != "shift"]
        found = terms_of(game.spec, exact.results(game, changed, pools))
        return objective(game.spec, found, weights)

    result = {}
    for label in labels or table:
        logits = np.log(table[label])
        shifts = step * np.eye(len(logits))
        result[label] = np.array([(j(label, logits + d) - j(label, logits - d)) / (2 * step) for d in shifts])
    return result


def assert_same(found, expected, tolerance=1e-6):
    for label, slope in expected.items():
        np.testing.assert_allclose(found[label], slope, atol=tolerance, rtol=0, err_msg=label)


CASES = [("ipd", "memory_one"), ("kuhn", "key"), ("negotiation_v1", "memory_one")]


@pytest.mark.parametrize(("game_id", "row"), CASES)
def test_gradient_is_the_slope_of_the_enumerated_objective(game_id, row):
    """Random tables, some of which have exploiters that earn less than they do."""
    game, rng = get_game(game_id), np.random.default_rng(3)
    for number in range(3):
        table = random_table(game, row, rng)
        labels = list(table)[number :: max(1, len(table) // 6)]
        weights = Weights(*rng.uniform(0, 5, 3).tolist())
        found = exact.gradient(game, table, weights, row=row)
        assert_same(found, central_differences(game, table, weights, row, labels))


def test_gradient_of_a_table_with_a_row_for_every_history(monkeypatch):
    game = toys.shorten(monkeypatch, ipd, rounds=3)
    table = random_table(game, "key", np.random.default_rng(5))
    assert len(table) == 1 + 4 + 16
    found = exact.gradient(game, table)
    assert_same(found, central_differences(game, table, game.spec.weights, "key"))


def test_tables_of_any_row_agree_where_they_say_the_same(monkeypatch):
    """A memory-one logit moves all histories that end alike: its slope is the sum of theirs."""
    game = toys.shorten(monkeypatch, ipd, rounds=4)
    short = random_table(game, "memory_one", np.random.default_rng(6))
    found = problem(game, "key")
    last = {label: label.split(" ")[-1] for label in found.labels}
    long = {label: short[last[label]] for label in found.labels}
    by_history = exact.gradient(game, long)
    total = {label: np.zeros(2) for label in short}
    for label, slope in by_history.items():
        total[last[label]] += slope
    assert_same(exact.gradient(game, short, row="memory_one"), total, 1e-12)


@pytest.mark.parametrize(("game_id", "row"), CASES)
def test_parts_add_up_and_scale_with_their_weights(game_id, row):
    game, rng = get_game(game_id), np.random.default_rng(8)
    table, spec = random_table(game, row, rng), game.spec
    parts = exact.gradient_parts(game, table, row=row)
    unit = exact.gradient_parts(game, table, Weights(1, 1, 1), row=row)
    w = {"payoff": 1, **{name: getattr(spec.weights, name) for name in TERMS[1:]}}
    for label in table:
        for name in TERMS:
            np.testing.assert_allclose(
                getattr(parts, name)[label], w[name] * getattr(unit, name)[label], atol=1e-12
            )
        together = sum(getattr(parts, name)[label] for name in TERMS)
        np.testing.assert_allclose(parts.total[label], together, atol=1e-12)
        np.testing.assert_allclose(parts.penalty[label], together - parts.payoff[label], atol=1e-12)
        assert abs(parts.total[label].sum()) < 1e-12  # a softmax does not change when all logits do
    assert exact.gradient(game, table, row=row).keys() == table.keys()


def test_each_part_is_the_slope_of_its_own_term():
    game = get_game("ipd")
    table = random_table(game, "memory_one", np.random.default_rng(9))
    parts = exact.gradient_parts(game, table, row="memory_one")
    zero = Weights(0, 0, 0)
    payoff = central_differences(game, table, zero, "memory_one")
    assert_same(parts.payoff, payoff)
    for name in TERMS[1:]:
        with_it = central_differences(
            game, table, replace(zero, **{name: getattr(game.spec.weights, name)}), "memory_one"
        )
        assert_same(getattr(parts, name), {label: with_it[label] - payoff[label] for label in table})


def test_an_exploiter_that_does_not_lead_has_no_slope():
    """max(0, .) is differentiated opponent by opponent."""
    game = get_game("kuhn")
    keys = exact.policy_table(game, scripted(game, "nash"))
    chip = {"J": 0.05, "Q": 0.6, "K": 0.95}
    tight = {key: (1 - chip[key[0]], chip[key[0]]) for key in keys}
    lead = exact.advantages_over(game, tabular(game, tight))
    assert lead["always-bet"] < 0 < lead["nash"]
    found = exact.gradient_parts(game, tight, Weights(1.5, 0, 0)).exploit
    alone = replace(game.spec, pools=replace(game.spec.pools, exploit=("nash",)))
    expected = {label: slope / 2 for label, slope in one_exploiter(game, alone, tight).items()}
    assert_same(found, expected, 1e-12)
    assert max(abs(slope).max() for slope in found.values()) > 0.01


def one_exploiter(game, spec, table):
    """The exploit part where the pool is that of ``spec``."""
    other = type(game)()
    other.spec = spec
    return exact.gradient_parts(other, table, Weights(1.5, 0, 0)).exploit


def test_a_certain_action_has_no_slope():
    game = get_game("ipd")
    table = {label: (1.0, 0.0) if label != "CC" else (0.5, 0.5) for label in MEMORY_ONE}
    found = exact.gradient(game, table, row="memory_one")
    for label in ("start", "CD", "DC", "DD"):
        np.testing.assert_array_equal(found[label], 0)
    assert abs(found["CC"][0]) > 0.01


def test_rows_that_the_pools_never_need_have_slope_zero():
    game = get_game("negotiation_v1")
    table = random_table(game, "memory_one", np.random.default_rng(0))
    more = {**table, "19": np.full(9, 1 / 9)}
    assert "19" not in table
    found = exact.gradient(game, more, row="memory_one")
    np.testing.assert_array_equal(found["19"], np.zeros(9))
    assert_same(found, exact.gradient(game, table, row="memory_one"), 0)


def test_the_spec_counts_as_it_is_now(monkeypatch):
    """Trees are kept between questions, but not beyond a change of the rules."""
    table = dict.fromkeys(MEMORY_ONE, (0.6, 0.4))
    whole = exact.gradient("ipd", table, row="memory_one")
    short = toys.shorten(monkeypatch, ipd, rounds=2)
    found = exact.gradient(short, table, row="memory_one")
    assert_same(found, central_differences(short, table, short.spec.weights, "memory_one"))
    assert not np.allclose(found["start"], whole["start"])


# --- errors ---------------------------------------------------------------------------------------


def test_a_missing_row_is_named():
    with pytest.raises(ValueError, match=r"no row for state 'DD'.*each of COOPERATE, DEFECT"):
        exact.gradient("ipd", dict.fromkeys(MEMORY_ONE[:-1], (0.5, 0.5)), row="memory_one")


@pytest.mark.parametrize("row", [(0.5, 0.6), (1.2, -0.2), (0.5, float("nan"))])
def test_a_row_that_is_no_distribution_is_refused(row):
    table = {**dict.fromkeys(MEMORY_ONE, (0.5, 0.5)), "CC": row}
    with pytest.raises(ValueError, match="row 'CC' must be probabilities >= 0 that sum to 1"):
        exact.gradient("ipd", table, row="memory_one")


def test_a_row_of_the_wrong_length_is_refused():
    table = {**dict.fromkeys(MEMORY_ONE, (0.5, 0.5)), "CC": (0.5, 0.25, 0.25)}
    with pytest.raises(ValueError, match="row 'CC' has 3 probabilities; it needs one for each of COOPERATE"):
        exact.gradient("ipd", table, row="memory_one")


def test_an_unknown_row_label_is_refused():
    with pytest.raises(ValueError, match="no label 'memory_two'; 'key' always works"):
        exact.gradient("ipd", {}, row="memory_two")


def test_a_row_must_stand_for_states_with_the_same_actions():
    """A Kuhn card alone does not say whether there is a bet to call."""
    with pytest.raises(ValueError, match="different legal actions, PASS, BET and FOLD, CALL; take row='key'"):
        exact.gradient("kuhn", {card: (0.5, 0.5) for card in kuhn.CARDS}, row="card")


def test_a_tree_too_large_names_the_way_out():
    with pytest.raises(
        exact.TooLarge, match=r"auction has more than 1000 states against .*estimate the gradient"
    ):
        exact.gradient("auction", {}, max_states=1000)
