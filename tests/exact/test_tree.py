"""Trees grow no further than they are asked to, are kept, and are let go when they get too large."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from sepo_kit import exact
from sepo_kit.engine.policy import Policy, scripted, uniform
from sepo_kit.exact import gradients, tree
from sepo_kit.exact.answers import Answers, Seen
from sepo_kit.exact.tree import Tree, arena
from sepo_kit.games import get_game


@pytest.fixture(autouse=True)
def from_scratch():
    forget()
    yield
    forget()


def forget() -> None:
    """Drop everything that is kept between questions."""
    for kept in (tree._arena, gradients._problem):
        kept.cache_clear()


def size(one: Tree) -> int:
    return sum(len(layer) - 1 for layer in one.layers)


class Counting(Policy):
    """Cooperates and counts what it is asked."""

    name = "counting"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def distributions(self, seen):
        self.asked += [state.key for state in seen]
        return [np.array([1.0, 0.0])] * len(seen)


def test_a_pure_agent_reaches_no_more_than_its_opponent_allows():
    game = get_game("ipd")
    exact.worst_case(game, scripted(game, "tit-for-tat"))
    assert size(arena(game).free) == 2**8 - 1  # every sequence of replies, one answer to each
    exact.worst_case(game, uniform(game))
    assert size(arena(game).free) == (4**8 - 1) // 3


def test_an_agent_is_asked_once_for_what_it_can_meet_and_for_nothing_else():
    agent = Counting()
    exact.terms("ipd", agent)
    assert len(agent.asked) == len(set(agent.asked))
    assert all(moves[0] == "C" for key in agent.asked if key != "start" for moves in key.split(" "))


def test_trees_are_kept_between_questions():
    game = get_game("kuhn")
    exact.terms(game, uniform(game))
    kept = arena(game)
    grown = size(kept.against(game.strategy("nash")))
    exact.terms(game, uniform(game))
    assert arena(game) is kept and size(kept.against(game.strategy("nash"))) == grown > 0


def test_the_hands_of_poker_stand_side_by_side():
    """Six roots, three layers of moves, and no position of a later hand below an earlier one."""
    game = get_game("kuhn")
    exact.worst_case(game, uniform(game))
    layers = arena(game).free.layers
    assert [len(layer) - 1 for layer in layers] == [6, 6 * 6, 6 * 6 * 2, 6 * 6, 0]


def test_a_tree_that_was_too_large_is_let_go():
    game = get_game("ipd")
    with pytest.raises(exact.TooLarge):
        exact.worst_case(game, uniform(game), max_states=5000)
    assert size(arena(game).free) == 1
    assert exact.worst_case(game, uniform(game)).advantage == pytest.approx(2.5)


def test_what_is_kept_has_a_limit(monkeypatch):
    game = get_game("ipd")
    before = exact.terms(game, scripted(game, "mixed-0.5"))
    first = arena(game)
    found = gradients.problem(game, "memory_one")
    monkeypatch.setattr(tree, "KEPT", 1000)
    assert arena(game) is not first
    assert exact.terms(game, scripted(game, "mixed-0.5")) == before
    assert found.trees[0].seen is first.seen  # a problem keeps the numbers it was made with


def test_the_garbage_collector_is_left_as_it_was():
    game = get_game("kuhn")
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            tree._arena.cache_clear()
            exact.terms(game, uniform(game))
            assert gc.isenabled() == enabled
        finally:
            gc.enable()


def test_probabilities_of_the_likeliest_part_add_up():
    """What is followed and what is cut make up everything, layer by layer."""
    game = get_game("ipd")
    one = Tree(game, Seen(), scripted(game, "mixed-0.5"))
    steps = one.reach_likely(Answers(one.seen, scripted(game, "generous-tit-for-tat")), max_moves=40)
    arriving = 1.0
    for step in steps:
        followed = step.reach.sum()
        assert followed <= arriving + 1e-12
        assert bool(len(step.cut)) == (followed < arriving - 1e-12)
        assert np.count_nonzero(step.reach) <= 40
        arriving = step.flow.sum()
        assert arriving == pytest.approx(followed)
