"""The tree of legal replies: where a model has to choose, and where it has not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepo_kit.engine.policy import draw
from sepo_kit.models.constrained import ReplyTree, Walk, reply_tree

END = 99
WORDS = st.sets(st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple), min_size=1, max_size=8)


def test_branches_are_where_more_than_one_token_can_follow():
    tree = reply_tree([(1, 2, 3), (1, 2, 4), (1, 5), (6,)], END)
    assert tree.replies == ((1, 2, 3, END), (1, 2, 4, END), (1, 5, END), (6, END))
    assert tree.branches == {(): (1, 6), (1,): (2, 5), (1, 2): (3, 4)}


def test_the_decisive_part_of_a_reply_ends_at_its_last_branching():
    tree = reply_tree([(1, 2, 3), (1, 2, 4), (1, 5, 7, 8), (6, 7)], END)
    assert [tree.decisive(i) for i in range(4)] == [(1, 2, 3), (1, 2, 4), (1, 5), (6,)]


def test_an_action_that_begins_another_is_told_by_its_end():
    tree = reply_tree([(1,), (1, 2)], END)
    assert tree.branches == {(1,): (2, END)}
    assert [tree.decisive(i) for i in range(2)] == [(1, END), (1, 2)]


def test_a_single_legal_action_needs_no_choice():
    tree = reply_tree([(4, 5)], END)
    assert tree.branches == {}
    assert tree.decisive(0) == (4,)  # a row of training needs a token, even if it is masked


def test_actions_spelled_alike_are_refused():
    with pytest.raises(ValueError, match="two legal actions have the same tokens"):
        ReplyTree(((1, 2), (1, 2)))


@given(words=WORDS.map(sorted))
def test_every_reply_is_told_from_every_other_by_its_branchings(words):
    tree = reply_tree(words, END)
    decisive = [tree.decisive(i) for i in range(len(words))]
    assert len(set(decisive)) == len(words)
    for i, reply in enumerate(tree.replies):
        assert reply[: len(decisive[i])] == decisive[i]
        # Beyond the decisive part the reply is alone.
        assert [other for other in tree.replies if other[: len(decisive[i])] == decisive[i]] == [reply]
    for prefix, tokens in tree.branches.items():
        assert set(tokens) == {r[len(prefix)] for r in tree.replies if r[: len(prefix)] == prefix}
        assert len(tokens) > 1


# --- drawing down the tree --------------------------------------------------------------------------


def whole_of(tree: ReplyTree, of_branches: dict) -> np.ndarray:
    """Probabilities of the actions, each the product over its branchings."""
    return np.array(
        [
            np.prod(
                [
                    p[tree.branches[at].index(r[len(at)])]
                    for at, p in of_branches.items()
                    if r[: len(at)] == at
                ]
            )
            for r in tree.replies
        ]
    )


@given(words=WORDS.map(sorted), seed=st.integers(0, 10_000), uniform=st.floats(0, 1, exclude_max=True))
def test_a_walk_draws_what_the_whole_distribution_gives(words, seed, uniform):
    tree = reply_tree(words, -1)  # the end before all other tokens: sorted words are in order
    assert tree.in_order
    rng = np.random.default_rng(seed)
    of_branches = {prefix: rng.dirichlet(np.ones(len(tokens))) for prefix, tokens in tree.branches.items()}
    whole = whole_of(tree, of_branches)
    walk = Walk(tree, uniform)
    while (at := walk.branching()) is not None:
        walk.take(of_branches[at])
    assert walk.probability == pytest.approx(whole[walk.action])
    margin = np.abs(np.cumsum(whole) - uniform).min()
    assert walk.action == draw(np.cumsum(whole).tolist(), uniform) or margin < 1e-9


def test_actions_that_do_not_lie_together_are_not_walked_to():
    assert reply_tree([(1, 2), (1, 3), (4,)], END).in_order
    assert not reply_tree([(1, 2), (4,), (1, 3)], END).in_order


# --- what is improbable ---------------------------------------------------------------------------


@given(words=WORDS, seed=st.integers(0, 10_000), least=st.sampled_from([0.0, 0.05, 0.5]))
def test_of_branchings_that_a_reply_hardly_comes_to_nothing_need_be_known(words, seed, least):
    tree = reply_tree(sorted(words), END)
    rng = np.random.default_rng(seed)
    of_branches = {prefix: rng.dirichlet(np.ones(len(tokens))) for prefix, tokens in tree.branches.items()}
    log_p = {prefix: np.log(p) for prefix, p in of_branches.items()}
    whole = whole_of(tree, of_branches)
    np.testing.assert_allclose(tree.distribution(log_p), whole)
    near = tree.within_reach(log_p.get, least)
    comes = {prefix: sum(whole[[r[: len(prefix)] == prefix for r in tree.replies]]) for prefix in log_p}
    assert near == [prefix for prefix in log_p if comes[prefix] >= least]
    guess = tree.distribution({prefix: log_p[prefix] for prefix in near})
    assert guess.sum() == pytest.approx(1)
    far = log_p.keys() - set(near)
    for prefix in far:
        if any(len(other) < len(prefix) and prefix[: len(other)] == other for other in far):
            continue
        behind = [r[: len(prefix)] == prefix for r in tree.replies]  # all that comes here, evenly
        np.testing.assert_allclose(guess[behind], comes[prefix] / sum(behind))
    lumped = [set(np.flatnonzero([r[: len(p)] == p for r in tree.replies])) for p in log_p if p not in near]
    alone = [action for action in range(len(words)) if not any(action in some for some in lumped)]
    np.testing.assert_allclose(guess[alone], whole[alone])


def test_where_nothing_is_known_every_branching_is_within_reach():
    tree = reply_tree([(1, 2, 3), (1, 2, 4), (1, 5), (6,)], END)
    assert tree.within_reach(lambda prefix: None, 0.9) == list(tree.branches)
    known = {(): np.log([0.3, 0.7])}
    assert tree.within_reach(known.get, 0.4) == [()]
    assert tree.distribution(known) == pytest.approx([0.1, 0.1, 0.1, 0.7])
    assert tree.distribution({}) == pytest.approx([0.25] * 4)
