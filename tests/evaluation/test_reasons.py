"""Reasons read against the situation and the action they were given for."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd
import pytest

import sepo_kit as sk
from sepo_kit.engine.episode import Decision, decision_frame, round_frame
from sepo_kit.engine.policy import Policy
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.engine.tables import write_tables
from sepo_kit.evaluation import archive
from sepo_kit.evaluation.reasons import READINGS, read_reason, reason_of, reasons_at, shares
from sepo_kit.evaluation.results import EvaluationSettings, by_reason
from sepo_kit.games.base import POOLS
from sepo_kit.runs import write_json
from sepo_kit.training.demonstrations import demonstrated, demonstrations

KUHN = sk.get_game("kuhn")
KING = KUHN.initial_state().apply_chance(("K", "J")).information(0)


class Talker(Policy):
    """Always passes or folds, and says in turn what is in ``said``."""

    name = "talker"

    def __init__(self, *said):
        self.said, self.count = said, 0

    def distributions(self, seen):
        raise NotImplementedError

    def act(self, seen, uniforms):
        made = []
        for state in seen:
            action = state.legal_actions[0]
            words = self.said[self.count % len(self.said)]
            self.count += 1
            made.append(Decision(action, None, f"{words}\n{action}".lstrip()))
        return made


@pytest.mark.parametrize("game_id", demonstrated())
def test_every_reason_of_the_corpus_is_true_where_it_is_given(game_id):
    """The corpus' own reasons, read back from a table of its play."""
    game = sk.get_game(game_id)
    for strategy, _ in game.mixture.demonstrators:
        seen = _first(game)
        for action, p in strategy.distribution(seen).items():
            if p > 0:
                assert action in reasons_at(game, seen)[strategy.explain(seen, action)]
                assert (
                    read_reason(game, seen, f"{strategy.explain(seen, action)}\n{action}", action)
                    == READINGS[0]
                )


def _first(game):
    state = game.initial_state()
    while not state.actors:
        state = state.apply_chance(state.chance_outcomes()[0][0])
    return state.information(state.actors[0])


def test_what_a_reason_can_be():
    bet, hidden = (
        "My King is the highest card, so I bet for value.",
        "My King is the highest card, but I pass to hide its strength.",
    )
    cases = {
        (f"{bet}\nBET", "BET"): "true, for its action",
        (f"{bet}\nPASS", "PASS"): "true, for another action",
        (f"{hidden}\nPASS", "PASS"): "true, for its action",
        ("My Jack cannot win a showdown, so I bluff.\nBET", "BET"): "false here",
        ("The moon is full.\nBET", "BET"): "of its own",
        ("BET", "BET"): "none",
    }
    assert {case: read_reason(KUHN, KING, *case) for case in cases} == cases
    assert reason_of("") == ""


def test_a_recording_is_read_reply_by_reply(tmp_path):
    said = ("The moon is full, so I bet.", "I fold and pass.", "")
    todo = matches(KUHN, POOLS, 3)
    episodes = play_matches(KUHN, Talker(*said), todo, 5, common_random_numbers=False)
    write_tables(tmp_path / "sepo.parquet", decision_frame(episodes), round_frame(episodes))
    recording = archive.read_episodes(tmp_path / "sepo.parquet")
    found = archive.reasons_in(recording)
    decisions = recording.decisions
    assert len(found) == (decisions["reply"] != decisions["action"]).sum() > 20
    assert set(found["reading"]) == {"of its own"}
    spoken = found["reply"].str.contains("moon")
    names = found[spoken].assign(open=found["action"] == "PASS")
    assert set(names.loc[names["open"], "names"]) == {"another"}  # it may bet, says so, and passes
    assert set(names.loc[~names["open"], "names"]) == {"none"}  # nobody can bet where there is a bet
    assert set(found.loc[~spoken, "names"]) == {"its action"}
    table = shares(found).set_index("reading")
    assert list(table.index) == list(READINGS) and table["share"].sum() == pytest.approx(1)
    assert table.loc["of its own", ["share", "low", "high"]].tolist() == [1, 1, 1]
    label = {"model": "talker", "game": "kuhn", "stage": "sepo", "seed": 3}
    metrics = [{"metric": "payoff", "value": 0.0, "low": None, "high": None, "n": 0}]
    settings = asdict(EvaluationSettings(episodes=3, exact=False))
    result = {"label": label, "metrics": metrics, "settings": settings, "provenance": {}}
    write_json(tmp_path / "sepo.json", result)
    told = by_reason([tmp_path / "sepo.json"])
    assert told["share"].tolist() == table["share"].tolist() and set(told["stage"]) == {"SEPO"}
    assert by_reason([]).empty
    first = archive.matches_of(recording).iloc[0][archive.MATCH]
    moves = archive.read_match(recording, **first)
    assert set(moves["reading"].dropna()) <= {"of its own"} and moves["reading"].notna().any()


def test_shares_have_intervals_over_episodes():
    records = demonstrations("kuhn", 200)
    frame = records.rename(columns={"episode": "index"}).assign(pool="none", group=0)
    frame["reading"] = [READINGS[number % 2] for number in range(len(frame))]
    table = shares(frame).set_index("reading")
    row = table.loc[READINGS[0]]
    assert row["low"] < 0.5 < row["high"] and row["high"] - row["low"] < 0.2
    assert shares(frame.iloc[:0]).empty
    # Of two episodes Student's t with one degree of freedom is 12.7 standard errors; one says nothing of others.
    two = pd.DataFrame({"pool": "none", "opponent": "x", "group": 0, "index": [0, 0, 1, 1]})
    two["reading"] = [READINGS[0], READINGS[0], READINGS[0], READINGS[1]]
    row = shares(two).set_index("reading").loc[READINGS[0]]
    assert (row["share"], row["low"], row["high"]) == (0.75, 0.0, 1.0)
    assert shares(two.iloc[:2])["low"].isna().all()
