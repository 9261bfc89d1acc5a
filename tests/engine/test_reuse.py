"""Replies used in several matches: how many there are, who is given them, and that one match alone is as ever."""

from __future__ import annotations

import numpy as np
import pytest

from sepo_kit.engine.policy import tabular, uniform
from sepo_kit.engine.reuse import Reusing
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.games import get_game

CHANCES = {"J": (0.7, 0.3), "Q": (0.4, 0.6), "K": (0.2, 0.8)}


@pytest.fixture(scope="module")
def kuhn():
    return get_game("kuhn")


@pytest.fixture(scope="module")
def policy(kuhn):
    """Looks at its card only."""
    keys = {"J", "Q", "K"} | {card + history for card in "JQK" for history in ("p", "b", "pb")}
    return tabular(kuhn, {key: CHANCES[key[0]] for key in keys}, row="key")


def reusing(policy, replies: int, step: int = 0) -> Reusing:
    return Reusing(policy, replies, (0, step), lambda seen: seen.key)


def told(decisions) -> list[tuple]:
    return [(d.information, d.said, d.action) for d in decisions]


def test_a_question_has_so_many_replies_at_most_and_equal_numbers_are_one_reply(kuhn, policy):
    agent = reusing(policy, 3)
    episodes = play_matches(kuhn, agent, matches(kuhn, ("train", "exploit"), 8, 8), seed=1)
    decisions = [d for episode in episodes for d in episode.decisions]
    replies: dict[int, set] = {}
    questions: dict[str, set] = {}
    for key, said, action in told(decisions):
        replies.setdefault(said, set()).add((key, action))
        questions.setdefault(key, set()).add(said)
    assert all(len(same) == 1 for same in replies.values())
    assert len(questions) > 10 and max(map(len, questions.values())) == 3
    assert len(replies) <= agent.given <= 36 < len(decisions) / 20
    assert all(d.round is not None and d.log_prob is not None for d in decisions)


def test_it_is_known_by_whose_replies_they_are_and_which(kuhn, policy):
    agents = [reusing(policy, 3), reusing(policy, 4), reusing(policy, 3, step=1), reusing(uniform(kuhn), 3)]
    assert len({agent.identity() for agent in agents}) == len(agents)
    assert reusing(policy, 3).identity() == agents[0].identity()


def test_what_is_given_depends_on_nobody_else(kuhn, policy):
    todo = matches(kuhn, ("train", "exploit"), 4, 2)
    together = play_matches(kuhn, reusing(policy, 4), todo, seed=1)
    alone = [play_matches(kuhn, reusing(policy, 4), [match], seed=1)[0] for match in todo]
    assert [told(e.decisions) for e in together] == [told(e.decisions) for e in alone]
    other = play_matches(kuhn, reusing(policy, 4, step=1), todo, seed=1)
    assert [told(e.decisions) for e in together] != [told(e.decisions) for e in other]


def test_where_many_are_wanted_all_are_asked_for_at_once(kuhn, policy):
    """A batch for every move of the first hand, and hardly any later on."""
    sizes = []
    asked = type(policy).act

    class Counted(type(policy)):
        def act(self, seen, uniforms):
            sizes.append(len(seen))
            return asked(self, seen, uniforms)

    policy.__class__, own = Counted, policy.__class__
    agent = reusing(policy, 8)
    play_matches(kuhn, agent, matches(kuhn, ("train", "exploit"), 8, 4), seed=1)
    policy.__class__ = own
    assert sum(sizes) == agent.given <= 96 and len(sizes) < 6
    few = reusing(policy, 100)
    episodes = play_matches(kuhn, few, matches(kuhn, ("train",), 2, 1), seed=1)
    used = {d.said for episode in episodes for d in episode.decisions}
    assert few.given == len(used), "nothing is asked for that is not wanted"


def test_a_single_decision_is_a_draw_from_the_policy(kuhn, policy):
    """Over many steps; within one there are only two replies."""
    states = {}
    for number in range(5):
        agent = Reusing(policy, 2, (0,), lambda seen: states.setdefault(seen.key, seen).key)
        play_matches(kuhn, agent, matches(kuhn, ("train",), 4), seed=number)
    uniforms = np.random.default_rng(0).random(1000)
    for card in "JQK":
        drawn = [reusing(policy, 2, n).act([states[card]], [u])[0].action for n, u in enumerate(uniforms)]
        assert np.mean([action == "BET" for action in drawn]) == pytest.approx(CHANCES[card][1], abs=0.05)
