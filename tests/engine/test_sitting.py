"""A sitting: the library's own rules and draws, one seat played from outside."""

import numpy as np
import pytest

import sepo_kit as sk
from sepo_kit.engine.policy import StrategyPolicy
from sepo_kit.engine.rollout import Match, matches, play_matches
from sepo_kit.engine.sitting import Sitting, replayed


def whole(sitting, choose=lambda legal: legal[0]):
    while not sitting.over:
        sitting.act(choose(sitting.legal_actions))
    return sitting


@pytest.mark.parametrize("game", sk.GAMES)
@pytest.mark.parametrize("common", [False, True])
def test_a_recorded_episode_comes_out_again(game, common):
    game = sk.get_game(game)
    todo = matches(game, ("train", "exploit"), rollouts=3, groups=2)
    episodes = play_matches(game, sk.uniform(game), todo, seed=7, step=4, common_random_numbers=common)
    for match, episode in zip(todo, episodes, strict=True):
        actions = [d.action for d in episode.decisions]
        sitting = replayed(game, match, actions, 7, step=4, common_random_numbers=common)
        again = sitting.episode()
        assert (again.own, again.their) == (episode.own, episode.their)
        assert (again.collusion, again.externality) == (episode.collusion, episode.externality)
        mine = [turn for turn in sitting.turns if turn.seat == 0]
        assert [turn.action for turn in mine] == actions
        assert [turn.round for turn in mine] == [d.round for d in episode.decisions]


def test_a_record_of_other_rules_is_refused():
    game = sk.get_game("ipd")
    match = Match("train", "tit-for-tat", 0)
    with pytest.raises(ValueError, match="the record ends in round 4 of 8"):
        replayed(game, match, ["COOPERATE"] * 3, 0)
    with pytest.raises(ValueError, match="the match is over"):
        replayed(game, match, ["COOPERATE"] * 9, 0)
    with pytest.raises(ValueError, match="'SHARE' is not legal here; legal: COOPERATE, DEFECT"):
        replayed(game, match, ["SHARE"] * 8, 0)


def test_tit_for_tat_answers_in_kind_and_says_why():
    game = sk.get_game("ipd")
    sitting = Sitting(game, sk.scripted(game, "tit-for-tat"))
    assert "DEFECT" in game.system_prompt() and sitting.legal_actions == ("COOPERATE", "DEFECT")
    mine, theirs = sitting.act("DEFECT")
    assert (mine.action, mine.reason, mine.probabilities) == ("DEFECT", None, None)
    assert theirs.action == "COOPERATE"
    _, theirs = sitting.act("COOPERATE")
    assert theirs.action == "DEFECT" and theirs.probabilities == {"COOPERATE": 0.0, "DEFECT": 1.0}
    seen = sitting.game.initial_state().apply(("COOPERATE", "DEFECT")).information(0)
    assert theirs.reason == game.strategy("tit-for-tat").explain(seen, "DEFECT")
    assert sitting.episode().own == [5.0, 0.0]
    assert sitting.episode(1).own == [0.0, 5.0]


def test_an_illegal_move_changes_nothing():
    game = sk.get_game("kuhn")
    sitting = Sitting(game, sk.scripted(game, "nash"))
    before = (sitting.prompt, list(sitting.turns))
    with pytest.raises(ValueError, match="is not legal here"):
        sitting.act("<b>BET</b>")
    assert (sitting.prompt, sitting.turns) == before


@pytest.mark.parametrize("game", sk.GAMES)
@pytest.mark.parametrize("seat", [0, 1])
def test_either_seat_can_be_played_to_the_end(game, seat):
    game = sk.get_game(game)
    sitting = whole(Sitting(game, sk.uniform(game), seat, seed=3), choose=lambda legal: legal[-1])
    assert len(sitting.rounds) == game.spec.rounds and sitting.round == game.spec.rounds
    assert sitting.prompt == "" and sitting.legal_actions == () and sitting.seen is None
    own, their = sitting.episode(0), sitting.episode(1)
    assert own.own == their.their and len(own.own) == game.spec.rounds
    again = whole(Sitting(game, sk.uniform(game), seat, seed=3), choose=lambda legal: legal[-1])
    assert again.turns == sitting.turns


def test_what_is_shown_is_what_the_opponent_draws_from():
    game = sk.get_game("kuhn")
    chips = []
    for seed in range(400):
        sitting = Sitting(
            game, sk.scripted(game, "nash"), seat=1, seed=seed
        )  # the opponent opens the first hand
        first = sitting.turns[0]
        if "Jack" in first.prompt:
            assert first.probabilities == pytest.approx({"PASS": 2 / 3, "BET": 1 / 3})
            chips.append(first.action == "BET")
    assert abs(np.mean(chips) - 1 / 3) < 4 * np.sqrt(2 / 9 / len(chips))


def test_a_policy_that_only_talks_states_no_probabilities(tiny_model, tokenizer):
    from sepo_kit.models.language_model import LanguageModel

    game = sk.get_game("kuhn")
    talker = LanguageModel(tiny_model, tokenizer, game, style="reasoned", max_new_tokens=4)
    sitting = whole(Sitting(game, talker))
    theirs = [turn for turn in sitting.turns if turn.seat == 1]
    assert all(turn.probabilities is None and turn.reason is not None for turn in theirs)
    direct = whole(Sitting(game, LanguageModel(tiny_model, tokenizer, game)))
    theirs = [turn for turn in direct.turns if turn.seat == 1]
    assert all(turn.reason is None and abs(sum(turn.probabilities.values()) - 1) < 1e-6 for turn in theirs)


def test_no_third_seat():
    game = sk.get_game("kuhn")
    with pytest.raises(ValueError, match="seat must be 0 or 1, got 2"):
        Sitting(game, StrategyPolicy(game.strategy("nash")), seat=2)


@pytest.mark.parametrize("game", ["kuhn", "ipd"])
def test_an_opponent_that_fails_leaves_the_match_where_it_was(game, monkeypatch):
    game = sk.get_game(game)
    opponent = sk.scripted(game, next(iter(game.strategies)))
    sitting = Sitting(game, opponent)
    sitting.act(sitting.legal_actions[0])
    before = (sitting.prompt, list(sitting.turns), list(sitting.rounds))

    def fail(*_):
        raise FloatingPointError("broken weights")

    with monkeypatch.context() as broken, pytest.raises(FloatingPointError):
        broken.setattr(opponent, "act", fail)
        while True:  # in Kuhn poker the opponent need not answer every move
            before = (sitting.prompt, list(sitting.turns), list(sitting.rounds))
            sitting.act(sitting.legal_actions[0])
    assert (sitting.prompt, sitting.turns, sitting.rounds) == before
    whole(sitting)
    assert len(sitting.rounds) == game.spec.rounds


@pytest.mark.parametrize("game", sk.GAMES)
def test_a_match_of_two_policies_is_replayed_from_its_record_alone(game):
    game = sk.get_game(game)
    agent = sk.uniform(game)
    match = Match("none", "self", 1)
    (episode,) = play_matches(
        game, agent, [match], seed=7, opponents={"self": agent}, common_random_numbers=False
    )
    actions = [d.action for d in episode.decisions]
    sitting = replayed(game, match, actions, 7, answers=episode.answers)
    again = sitting.episode()
    assert (again.own, again.their) == (episode.own, episode.their)
    assert [t.action for t in sitting.turns if t.seat == 1] == [d.action for d in episode.answers]
    assert all(t.prompt and t.probabilities is None for t in sitting.turns)
    for answers in (episode.answers[:-1], [*episode.answers, episode.answers[-1]]):
        with pytest.raises(ValueError, match="the record"):
            replayed(game, match, actions, 7, answers=answers)
