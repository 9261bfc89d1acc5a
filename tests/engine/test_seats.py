"""Any policy in either seat: who is asked together, what is recorded, and that no credit meets the other seat."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from sepo_kit.engine.policy import Policy, StrategyPolicy, scripted, uniform
from sepo_kit.engine.rollout import Match, matches, play_matches
from sepo_kit.games import GAMES, get_game
from sepo_kit.games.base import POOLS, UniformStrategy
from sepo_kit.objective.credit import MODES, assign_credit, training_matches

GAME_IDS = tuple(GAMES)


class Asked(Policy):
    """Plays as ``policy``, is none of the game's strategies, and notes what it was asked."""

    def __init__(self, policy, name="asked"):
        self.policy = policy
        self.name = name
        self.batches = []
        self.blocks = 0

    def distributions(self, seen):
        return self.policy.distributions(seen)

    @contextmanager
    def remember(self):
        self.blocks += 1
        yield

    def act(self, seen, uniforms):
        self.batches.append(list(seen))
        return self.policy.act(seen, uniforms)


def payoffs(episodes):
    return [(e.own, e.their, e.collusion, e.externality) for e in episodes]


# --- the same play --------------------------------------------------------------------------------


@pytest.mark.parametrize("common", [True, False])
@pytest.mark.parametrize("game_id", GAME_IDS)
def test_a_strategy_that_must_be_asked_plays_as_one_that_moves_alone(game_id, common):
    game = get_game(game_id)
    todo = matches(game, POOLS, 3, groups=2)
    told = {"seed": 5, "step": 1, "common_random_numbers": common}
    alone = play_matches(game, uniform(game), todo, **told)
    opponents = {name: Asked(scripted(game, name)) for _, name in game.opponents}
    asked = play_matches(game, uniform(game), todo, opponents=opponents, **told)
    assert payoffs(asked) == payoffs(alone)
    assert [e.decisions for e in asked] == [e.decisions for e in alone]
    assert not any(e.answers for e in alone) and all(e.answers for e in asked)


def test_a_strategy_by_its_own_name_moves_alone_and_is_not_recorded():
    game = get_game("kuhn")
    todo = matches(game, ("train",), 2)
    plain = play_matches(game, uniform(game), todo, seed=0)
    named = play_matches(game, uniform(game), todo, seed=0, opponents={"nash": scripted(game, "nash")})
    assert plain == named and not any(e.answers for e in named)


def test_a_name_in_opponents_hides_the_strategy_of_that_name():
    game = get_game("ipd")
    opponents = {"always-defect": scripted(game, "always-cooperate")}
    (episode,) = play_matches(
        game, scripted(game, "tit-for-tat"), [Match("x", "always-defect", 0)], seed=0, opponents=opponents
    )
    assert episode.own == [3.0] * 8
    assert [d.action for d in episode.answers] == ["COOPERATE"] * 8


@pytest.mark.parametrize("game_id", GAME_IDS)
def test_an_episode_does_not_depend_on_what_else_is_played(game_id):
    game = get_game(game_id)
    agent = Asked(StrategyPolicy(UniformStrategy()))
    names = ("self", "other", next(iter(game.strategies)))
    todo = [Match("none", name, index) for name in names for index in range(4)]

    def played(some):
        opponents = {"self": agent, "other": Asked(StrategyPolicy(UniformStrategy()))}
        return play_matches(game, agent, some, seed=3, opponents=opponents, common_random_numbers=False)

    everything = played(todo)
    assert played(todo[::-1]) == everything[::-1]
    assert played(todo[1:10:3]) == everything[1:10:3]


def test_the_seats_of_self_play_have_draws_of_their_own():
    game = get_game("ipd")
    agent = uniform(game)
    todo = [Match("none", "self", index) for index in range(8)]
    episodes = play_matches(game, agent, todo, seed=0, opponents={"self": agent})
    mine = [[d.action for d in e.decisions] for e in episodes]
    theirs = [[d.action for d in e.answers] for e in episodes]
    assert mine != theirs
    assert len(set(map(tuple, mine))) > 1 and len(set(map(tuple, theirs))) == 1  # common random numbers


def test_an_unknown_opponent_is_an_error():
    game = get_game("kuhn")
    with pytest.raises(ValueError, match="unknown strategy 'self' in kuhn; known: nash"):
        play_matches(game, uniform(game), [Match("none", "self", 0)], seed=0)


# --- one batch a policy ---------------------------------------------------------------------------


def test_self_play_asks_both_seats_in_one_batch_and_remembers_once():
    game = get_game("ipd")
    agent = Asked(uniform(game))
    todo = [Match("none", "self", index) for index in range(5)]
    play_matches(game, agent, todo, seed=0, opponents={"self": agent})
    assert [len(batch) for batch in agent.batches] == [10] * game.spec.rounds
    assert agent.blocks == 1


def test_a_policy_under_two_names_is_one_batch_and_scripts_wait_for_nobody():
    game = get_game("ipd")
    agent, other = Asked(uniform(game)), Asked(uniform(game))
    todo = [Match("none", name, index) for name in ("one", "two", "tit-for-tat") for index in range(3)]
    ticks = []
    play_matches(game, agent, todo, seed=0, opponents={"one": other, "two": other}, on_round=ticks.append)
    assert [len(batch) for batch in agent.batches] == [9] * 8
    assert [len(batch) for batch in other.batches] == [6] * 8
    assert other.blocks == 1 and ticks == list(range(1, 9))


def test_no_batch_is_empty_where_seats_take_turns():
    game = get_game("kuhn")
    agent, other = Asked(uniform(game)), Asked(uniform(game))
    todo = [Match("none", "other", index) for index in range(6)]
    episodes = play_matches(
        game, agent, todo, seed=1, opponents={"other": other}, common_random_numbers=False
    )
    for policy, kept in ((agent, "decisions"), (other, "answers")):
        assert all(policy.batches)
        assert sum(map(len, policy.batches)) == sum(len(getattr(e, kept)) for e in episodes)


def test_who_moves_at_the_same_time_sees_nothing_of_it():
    """Both seats of a node are asked before either move is played."""
    game = get_game("ipd")
    agent, other = Asked(uniform(game)), Asked(uniform(game))
    play_matches(game, agent, [Match("none", "other", 0)], seed=0, opponents={"other": other})
    for number, (mine, theirs) in enumerate(zip(agent.batches, other.batches, strict=True)):
        assert len(mine[0].history) == len(theirs[0].history) == number


# --- what is recorded -----------------------------------------------------------------------------


@pytest.mark.parametrize("game_id", GAME_IDS)
def test_answers_are_placed_and_carry_their_own_log_probabilities(game_id):
    game = get_game(game_id)
    other = Asked(StrategyPolicy(UniformStrategy()))
    todo = [Match("none", "other", index) for index in range(4)]
    for episode in play_matches(game, uniform(game), todo, seed=2, opponents={"other": other}):
        met = {state.key: state for batch in other.batches for state in batch}
        for number in range(game.spec.rounds):
            made = [d for d in episode.answers if d.round == number]
            assert [d.move for d in made] == list(range(len(made)))
        for decision in episode.answers:
            legal = met[decision.information].legal_actions
            assert decision.action in legal
            assert decision.log_prob == pytest.approx(-np.log(len(legal)))


# --- credit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("game_id", ["ipd", "kuhn"])
def test_credit_never_meets_the_other_seat(game_id, mode):
    game = get_game(game_id)
    agent = Asked(uniform(game))
    opponents = {name: agent for _, name in game.opponents}
    episodes = play_matches(game, agent, training_matches(game, mode, 3, 2), seed=0, opponents=opponents)
    assert all(e.answers for e in episodes)
    bare = [replace(e, answers=[]) for e in episodes]
    found, wanted = (assign_credit(game.spec, some, mode=mode) for some in (episodes, bare))
    assert len(found.advantage) == sum(len(e.decisions) for e in episodes)
    for name in ("advantage", "trained", "reward"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
