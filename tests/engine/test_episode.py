"""The record of play as a table."""

from __future__ import annotations

from sepo_kit.engine.episode import decision_frame
from sepo_kit.engine.policy import scripted
from sepo_kit.engine.rollout import play
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
