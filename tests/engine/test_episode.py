"""The record of play as a table."""

from __future__ import annotations

from sepo_kit.adversaries.play import play
from sepo_kit.engine.episode import Decision, decision_frame, round_frame
from sepo_kit.engine.policy import scripted, uniform
from sepo_kit.games import get_game


def test_decision_frame_has_one_row_per_decision_with_its_round():
    kuhn = get_game("kuhn")
    episodes = play(kuhn, scripted(kuhn, "nash"), "always-bet", episodes=3, seed=5)
    frame = decision_frame(episodes)
    assert len(frame) == sum(len(episode.decisions) for episode in episodes)
    assert set(frame["index"]) == {0, 1, 2} and set(frame["pool"]) == {"exploit"}
    for _, row in frame.iterrows():
        episode = episodes[row["index"]]
        assert row["own"] == episode.own[row["round"]] and row["their"] == episode.their[row["round"]]
        assert row["own"] == -row["their"]
    last = episodes[1].decisions[-1]
    row = frame[frame["index"] == 1].iloc[-1]
    assert (row["information"], row["action"], row["move"]) == (last.information, last.action, last.move)


def test_decision_frame_of_nothing_is_empty():
    assert decision_frame([]).empty


def test_every_round_is_a_row_whether_or_not_anybody_decided_in_it():
    game = get_game("kuhn")
    episodes = play(game, uniform(game), "nash", episodes=3, seed=4)
    episodes[1].decisions.clear()
    frame = round_frame(episodes)
    assert len(frame) == 3 * game.spec.rounds
    for number, episode in enumerate(episodes):
        rows = frame[frame["index"] == number]
        for column in ("own", "their", "collusion", "externality"):
            assert rows[column].tolist() == getattr(episode, column)
        assert rows["round"].tolist() == list(range(game.spec.rounds))
        assert rows["decisions"].sum() == len(episode.decisions)


def test_the_other_seats_decisions_are_rows_of_their_own():
    game = get_game("ipd")
    (episode,) = play(game, uniform(game), "tit-for-tat", episodes=1)
    episode.answers.append(Decision("DEFECT", -0.5, "DEFECT").placed(2, 0, "what it saw"))
    frame = decision_frame([episode])
    assert frame["seat"].tolist() == [0] * 8 + [1]
    last = frame.iloc[-1]
    assert (last["round"], last["information"], last["action"]) == (2, "what it saw", "DEFECT")
    assert last["own"] == episode.own[2]
    assert round_frame([episode])["decisions"].tolist() == [1] * 8  # the agent's
