"""Lockstep play: what an episode depends on, what it does not, and that the record follows the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from math import exp

import numpy as np
import pytest
from toys import TwoCoins

from sepo_kit.adversaries.play import play
from sepo_kit.engine.episode import Episode
from sepo_kit.engine.policy import Policy, scripted, tabular, uniform
from sepo_kit.engine.rollout import Match, matches, play_matches, uniforms
from sepo_kit.games import GAMES, get_game
from sepo_kit.games.base import Game

POOLS = ("train", "exploit", "collusive", "shift")


def records(episodes: Sequence[Episode]) -> list[dict]:
    return [asdict(episode) for episode in episodes]


def partner_moves(episode: Episode) -> list[str]:
    """What the partner did in the prisoner's dilemma, from the agent's payoffs."""
    return ["C" if own >= 3 else "D" for own in episode.own]


def cards(episode: Episode) -> list[str]:
    """The agent's card in each hand of Kuhn poker."""
    return [d.information[0] for d in episode.decisions if d.move == 0]


class CountingCalls(Policy):
    """An agent that notes how many states it was asked about at a time."""

    def __init__(self, agent):
        self.agent = agent
        self.sizes = []

    def distributions(self, seen):
        return self.agent.distributions(seen)

    def act(self, seen, uniforms):
        self.sizes.append(len(seen))
        assert len(uniforms) == len(seen)
        return self.agent.act(seen, uniforms)


# --- what an episode depends on -------------------------------------------------------------------


@pytest.mark.parametrize("game_id", list(GAMES))
def test_same_seed_same_episodes(game_id):
    game = get_game(game_id)
    todo = matches(game, POOLS, 3, groups=2)
    once, again = (play_matches(game, uniform(game), todo, seed=7, step=2) for _ in range(2))
    assert records(once) == records(again)
    assert [e.seed for e in once] == [7] * len(todo)


@pytest.mark.parametrize("change", [{"seed": 8}, {"step": 3}])
def test_other_seed_or_step_other_episodes(change):
    game = get_game("ipd")
    todo = matches(game, ("train",), 4)
    told = {"seed": 7, "step": 2}
    one = play_matches(game, uniform(game), todo, **told)
    other = play_matches(game, uniform(game), todo, **{**told, **change})
    assert [e.own for e in one] != [e.own for e in other]


@pytest.mark.parametrize("common", [True, False])
@pytest.mark.parametrize("game_id", list(GAMES))
def test_an_episode_does_not_depend_on_what_else_is_played(game_id, common):
    game = get_game(game_id)
    todo = matches(game, POOLS, 4, groups=2)

    def played(some):
        return records(play_matches(game, uniform(game), some, seed=1, common_random_numbers=common))

    everything = played(todo)
    assert played(todo[::-1]) == everything[::-1]
    assert played(todo[5:17:3]) == everything[5:17:3]
    more = matches(game, POOLS, 6, groups=3)
    assert [e for e in played(more) if e["index"] < 4 and e["group"] < 2] == everything


def test_matches_come_in_groups():
    game = get_game("kuhn")
    todo = matches(game, ("train", "exploit"), 3, groups=2)
    assert len(todo) == (3 + 2) * 2 * 3
    assert todo[:4] == [Match("train", "nash", i, 0) for i in range(3)] + [Match("train", "nash", 0, 1)]
    assert todo[-1] == Match("exploit", "always-bet", 2, 1)
    assert matches(game, ("collusive",), 3) == []


# --- common random numbers ------------------------------------------------------------------------


def test_rollouts_of_a_group_meet_the_same_partner_moves_whatever_the_agent_does():
    """The partner's moves follow its own draws, not the agent's choices, where its strategy allows that."""
    ipd = get_game("ipd")
    todo = [Match("train", "mixed-0.5", index, group) for group in range(12) for index in range(5)]
    episodes = play_matches(ipd, uniform(ipd), todo, seed=3)
    by_group = [episodes[start : start + 5] for start in range(0, 60, 5)]
    for members in by_group:
        assert len({tuple(partner_moves(e)) for e in members}) == 1
        assert len({tuple(d.action for d in e.decisions) for e in members}) > 1
    assert len({tuple(partner_moves(members[0])) for members in by_group}) == 12


def test_rollouts_of_a_group_get_the_same_cards_and_groups_get_others():
    kuhn = get_game("kuhn")
    todo = [Match("train", "nash", index, group) for group in range(8) for index in range(4)]
    episodes = play_matches(kuhn, uniform(kuhn), todo, seed=3)
    dealt = [[tuple(cards(e)) for e in episodes[start : start + 4]] for start in range(0, 32, 4)]
    assert all(len(set(members)) == 1 for members in dealt)
    assert len({members[0] for members in dealt}) == 8


def test_without_common_random_numbers_every_rollout_has_its_own():
    kuhn, ipd = get_game("kuhn"), get_game("ipd")
    todo = [Match("train", "nash", index) for index in range(6)]
    episodes = play_matches(kuhn, scripted(kuhn, "always-pass"), todo, seed=3, common_random_numbers=False)
    assert len({tuple(cards(e)) for e in episodes}) == 6
    todo = [Match("train", "mixed-0.5", index) for index in range(6)]
    agent = scripted(ipd, "always-cooperate")
    alone = play_matches(ipd, agent, todo, seed=3, common_random_numbers=False)
    assert len({tuple(e.own) for e in alone}) == 6
    shared = play_matches(ipd, agent, todo, seed=3)
    assert len({tuple(e.own) for e in shared}) == 1


def test_the_same_opponent_in_two_pools_is_met_with_different_draws():
    """Nash is in Kuhn's train and exploit pools."""
    kuhn = get_game("kuhn")
    todo = [Match(pool, "nash", 0, group) for pool in ("train", "exploit") for group in range(4)]
    episodes = play_matches(kuhn, uniform(kuhn), todo, seed=3)
    assert [cards(e) for e in episodes[:4]] != [cards(e) for e in episodes[4:]]


def test_auxiliary_episodes_of_different_owners_have_different_draws():
    kuhn = get_game("kuhn")
    todo = [Match("exploit", "nash", 0, owner=("nash", 0, index)) for index in range(6)]
    episodes = play_matches(kuhn, uniform(kuhn), todo, seed=3)
    assert len({tuple(cards(e)) for e in episodes}) == 6
    assert [e.owner for e in episodes] == [m.owner for m in todo]


def test_every_move_of_nature_in_a_round_has_its_own_draw():
    """Two coins a round: with one draw for both they would always fall alike."""
    game = TwoCoins()
    episodes = play(game, uniform(game), "uniform", episodes=40, seed=0)
    tosses = [d.information for e in episodes for d in e.decisions]
    assert len(tosses) == 240
    share = {pair: tosses.count(pair) / 240 for pair in ("HH", "HT", "TH", "TT")}
    assert all(0.15 < s < 0.35 for s in share.values()), share


# --- lockstep -------------------------------------------------------------------------------------


def test_the_agent_is_asked_once_a_round_about_all_episodes_of_all_pools():
    ipd = get_game("ipd")
    agent = CountingCalls(uniform(ipd))
    todo = matches(ipd, POOLS, 3)
    ticks = []
    play_matches(ipd, agent, todo, seed=0, on_round=ticks.append)
    assert agent.sizes == [len(todo)] * ipd.spec.rounds
    assert ticks == list(range(1, ipd.spec.rounds + 1))


def test_where_hands_differ_in_length_no_call_is_wasted():
    kuhn = get_game("kuhn")
    agent = CountingCalls(uniform(kuhn))
    episodes = play_matches(kuhn, agent, matches(kuhn, POOLS, 3), seed=0)
    assert len(agent.sizes) == max(len(e.decisions) for e in episodes)
    assert sum(agent.sizes) == sum(len(e.decisions) for e in episodes)


# --- the record follows the rules -----------------------------------------------------------------


def follows_the_rules(game: Game, episode: Episode) -> bool:
    """Whether some play of nature and of the opponent leads to the record, each move with its probability
    above 0: a search through the game itself, round by round."""
    spec = game.spec
    opponent = game.strategy(episode.opponent)
    columns = (episode.own, episode.their, episode.collusion, episode.externality)
    if any(len(column) != spec.rounds for column in columns):
        return False
    by_round = [[d for d in episode.decisions if d.round == t] for t in range(spec.rounds)]
    if any([d.move for d in played] != list(range(len(played))) for played in by_round):
        return False

    def ends(states: set, t: int) -> set:
        """The states that can follow round ``t`` from ``states`` as it was recorded."""
        found, open_ = set(), [(state, 0) for state in states]
        while open_:
            state, move = open_.pop()
            for following, used in steps(state, t, move):
                if following.outcome is not None:
                    harms = game.harms(following.outcome)
                    told = (*following.outcome.payoffs, harms.collusion, harms.externality)
                    if told == tuple(column[t] for column in columns) and used == len(by_round[t]):
                        found.add(following)
                else:
                    open_.append((following, used))
        return found

    def steps(state, t, move):
        chance = state.chance_outcomes()
        if chance:
            return [(state.apply_chance(outcome), move) for outcome, p in chance if p > 0]
        options = []
        for seat in state.actors:
            seen = state.information(seat)
            if seat == 1:
                options.append([a for a, p in opponent.distribution(seen).items() if p > 0])
            elif move < len(by_round[t]) and by_round[t][move].information == seen.key:
                options.append([by_round[t][move].action])
            else:
                return []
        used = move + (0 in state.actors)
        return [(state.apply(actions), used) for actions in product(*options)]

    states = {game.initial_state()}
    for t in range(spec.rounds):
        states = ends(states, t)
    return any(state.is_terminal for state in states)


@pytest.mark.parametrize("game_id", list(GAMES))
def test_every_record_can_be_replayed_by_the_rules(game_id):
    game = get_game(game_id)
    for episode in play_matches(game, uniform(game), matches(game, POOLS, 1), seed=11):
        assert follows_the_rules(game, episode), episode


def test_a_record_that_was_tampered_with_cannot_be_replayed():
    """So the test above can fail."""
    kuhn = get_game("kuhn")
    (episode,) = play(kuhn, uniform(kuhn), "always-bet", episodes=1, seed=1)
    assert follows_the_rules(kuhn, episode)
    assert not follows_the_rules(kuhn, replace(episode, own=[-x for x in episode.own]))
    assert not follows_the_rules(kuhn, replace(episode, decisions=episode.decisions[:-1]))
    assert not follows_the_rules(kuhn, replace(episode, externality=[0.5] * 6))
    other = replace(
        episode.decisions[0], information="Qb" if episode.decisions[0].information != "Qb" else "Kb"
    )
    assert not follows_the_rules(kuhn, replace(episode, decisions=[other, *episode.decisions[1:]]))


def test_decisions_carry_the_log_probability_of_their_action():
    ipd = get_game("ipd")
    rows = {"start": [0.9, 0.1], "CC": [0.8, 0.2], "CD": [0.7, 0.3], "DC": [0.6, 0.4], "DD": [0.5, 0.5]}
    episodes = play(ipd, tabular(ipd, rows, row="memory_one"), "mixed-0.5", episodes=5)
    for decision in (d for e in episodes for d in e.decisions):
        label = decision.information.split(" ")[-1]
        assert exp(decision.log_prob) == pytest.approx(rows[label][decision.action == "DEFECT"])


# --- play -----------------------------------------------------------------------------------------


def test_play_labels_episodes_with_the_first_pool_of_the_opponent():
    kuhn = get_game("kuhn")
    agent = uniform(kuhn)
    assert play(kuhn, agent, "nash", episodes=1)[0].pool == "train"
    assert play(kuhn, agent, "always-bet", episodes=1)[0].pool == "exploit"
    assert play(kuhn, agent, "uniform", episodes=1)[0].pool == "none"
    assert play(kuhn, agent, "nash", episodes=1, pool="exploit")[0].pool == "exploit"


def test_play_refuses_what_it_cannot_play():
    kuhn = get_game("kuhn")
    with pytest.raises(ValueError, match="unknown strategy 'grim-trigger' in kuhn; known: nash"):
        play(kuhn, uniform(kuhn), "grim-trigger")
    with pytest.raises(ValueError, match="episodes must be a whole number >= 1, got 0"):
        play(kuhn, uniform(kuhn), "nash", episodes=0)
    with pytest.raises(ValueError, match=r"episodes must be a whole number >= 1, got 2\.5"):
        play(kuhn, uniform(kuhn), "nash", episodes=2.5)
    for seed in (-1, 1.5, None):
        with pytest.raises(ValueError, match=f"seed must be a whole number >= 0, got {seed}"):
            play(kuhn, uniform(kuhn), "nash", episodes=1, seed=seed)


def test_numbers_read_from_a_table_give_the_same_draws():
    game = get_game("kuhn")
    mine, read = (uniforms(game, Match("train", "nash", 0, group), 2, seed=0) for group in (1, np.int64(1)))
    assert all(np.array_equal(a, b) for a, b in zip(mine, read, strict=True))
