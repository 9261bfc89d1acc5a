"""The corpus: the same for the same seed, mixed as told, split by episodes, and with reasons that fit."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pandas as pd
import pytest

from sepo_kit.engine.graph import StateGraph
from sepo_kit.games import GAMES, get_game
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.training.demonstrations import conversations, demonstrations, write_corpus

RECORDS = 3000


@cache
def corpus(game_id: str) -> pd.DataFrame:
    return demonstrations(game_id, RECORDS)


@pytest.fixture(params=list(GAMES))
def game(request):
    return get_game(request.param)


def test_the_same_seed_gives_the_same_records_and_fewer_are_a_beginning(game):
    frame = corpus(game.spec.id)
    assert len(frame) == RECORDS
    pd.testing.assert_frame_equal(demonstrations(game, 400), frame.head(400))
    other = demonstrations(game, 400, seed=1)
    assert (other["user"] != frame.head(400)["user"]).any()


def test_demonstrators_have_the_share_of_episodes_they_were_given(game):
    """Within 4.5 standard errors of a binomial share."""
    episodes = corpus(game.spec.id).drop_duplicates("episode")
    total = sum(weight for _, weight in game.mixture.demonstrators)
    assert total == pytest.approx(1)
    seen = episodes["demonstrator"].value_counts()
    assert set(seen.index) <= {strategy.id for strategy, _ in game.mixture.demonstrators}
    for strategy, weight in game.mixture.demonstrators:
        error = np.sqrt(weight * (1 - weight) / len(episodes))
        assert abs(seen.get(strategy.id, 0) / len(episodes) - weight) < 4.5 * error, strategy.id


def test_opponents_take_turns(game):
    episodes = corpus(game.spec.id).drop_duplicates("episode").sort_values("episode")
    opponents = game.mixture.opponents
    assert len(set(opponents)) == 5
    expected = [opponents[number % 5] for number in episodes["episode"]]
    assert episodes["opponent"].tolist() == expected


def test_no_episode_is_on_both_sides_of_the_split(game):
    frame = corpus(game.spec.id)
    sides = frame.groupby("episode")["split"].unique()
    assert (sides.map(len) == 1).all()
    test = (sides.map(lambda side: side[0]) == "test").mean()
    assert abs(test - 0.2) < 4.5 * np.sqrt(0.16 / len(sides))


def test_every_reply_is_read_as_its_action(game):
    """In both styles, so that nothing a model is taught counts as unreadable."""
    vocabulary = game.spec.actions
    for row in corpus(game.spec.id).drop_duplicates(["reason", "action"]).itertuples():
        assert "\n" not in row.reason and row.reason.endswith(".")
        for reply in (row.action, f"{row.reason}\n{row.action}"):
            assert game.parse(reply, vocabulary) == row.action


def test_a_reason_given_in_one_state_leads_to_one_action(game):
    frame = corpus(game.spec.id)
    determined = frame[frame["demonstrator"] != "uniform"]
    actions = determined.groupby(["information", "reason"])["action"].nunique()
    assert len(actions) > 10 and (actions == 1).all()


# What a reason says, and the only action it can end in.
SAYS = {
    "ipd": {
        r"so I cooperate|open with trust|always cooperate|I forgive": "COOPERATE",
        r"no longer cooperate|in kind|Defecting pays|so I defect": "DEFECT",
        r"chose COOPERATE .* do the same": "COOPERATE",
        r"chose DEFECT .* do the same": "DEFECT",
    },
    "kuhn": {
        r"so I bluff|for value": "BET",
        r"put in no more|keep the pot small": "PASS",
        r"so I call|look this bet up": "CALL",
        r"so I fold|give up this hand": "FOLD",
    },
    "auction": {
        r"(LOW bid|is LOW)\.$": "LOW",
        r"in the middle|is MEDIUM\.$": "MEDIUM",
        r"bid HIGH to be sure|up to the highest bid": "HIGH",
        r"bid LOW last round, so I bid one more": "MEDIUM",
        r"bid MEDIUM last round, so I bid one more": "HIGH",
    },
    "negotiation_v1": {r"demand half|half of the pie": "5", r"a little above half": "6"}
    | {rf"(demand|demanded) {n}\b": str(n) for n in range(1, 10)},
}


@pytest.mark.parametrize("game_id", list(SAYS))
def test_no_reason_contradicts_its_action(game_id):
    frame = corpus(game_id)
    frame = frame[frame["demonstrator"] != "uniform"]
    understood = 0
    for reason, action in set(zip(frame["reason"], frame["action"])):
        meant = {act for words, act in SAYS[game_id].items() if re.search(words, reason)}
        understood += len(meant) > 0
        assert meant <= {action}, (reason, action)
    assert understood >= 0.7 * len(set(frame["reason"]))


def test_a_reason_fits_what_was_seen():
    """Tit-for-tat tells what the partner did last, which is the last letter of the state."""
    frame = corpus("ipd")
    mirrored = frame[frame["reason"].str.contains("do the same")]
    assert len(mirrored) > 100
    for row in mirrored.itertuples():
        told = re.search("chose (C|D)", row.reason).group(1)
        assert told == row.information[-1] == row.action[0]
    cards = {"J": "Jack", "Q": "Queen", "K": "King"}
    frame = corpus("kuhn")
    for row in frame[frame["demonstrator"] != "uniform"].itertuples():
        assert row.reason.startswith(f"My {cards[row.information[0]]} ")


def test_records_are_what_the_agent_is_asked_at_play(tiny_model, tokenizer):
    """A model must meet in training the words it meets at the table."""
    kuhn = get_game("kuhn")
    frame = demonstrations(kuhn, 30)
    asked = {}
    for style in ("direct", "reasoned"):
        agent = LanguageModel(tiny_model, tokenizer, kuhn, style=style)
        graph = StateGraph(kuhn)
        deals = [graph.root.after_chance(i) for i in range(6)]
        for node in [*deals, *(deal.after((move,)) for deal in deals for move in ("PASS", "BET"))]:
            for seen in node.seen.values():
                asked[style, seen.key] = agent.prompts.messages(seen)
    for style in ("direct", "reasoned"):
        for record, conversation in zip(frame.itertuples(), conversations(frame, style), strict=True):
            if (style, record.information) in asked:
                assert conversation["prompt"] == asked[style, record.information]
            (reply,) = conversation["completion"]
            expected = record.action if style == "direct" else f"{record.reason}\n{record.action}"
            assert reply == {"role": "assistant", "content": expected}
    assert len(asked) == 18


def test_a_game_without_a_mixture(monkeypatch):
    monkeypatch.setattr(type(get_game("ipd")), "mixture", None)
    with pytest.raises(
        ValueError, match=r"no demonstrations for 'ipd'; games with .*: auction, .*; give Iter.* a mix"
    ):
        demonstrations("ipd", 10)


def test_the_counts_are_of_all_games_that_are_there(tmp_path):
    write_corpus(tmp_path, ["ipd", "kuhn"])
    whole = (tmp_path / "counts.csv").read_bytes()
    write_corpus(tmp_path, ["kuhn"])
    assert (tmp_path / "counts.csv").read_bytes() == whole
    assert set(pd.read_csv(tmp_path / "counts.csv")["game"]) == {"ipd", "kuhn"}


@pytest.mark.parametrize("records", [0, -5])
def test_records_must_be_positive(records):
    with pytest.raises(ValueError, match=f"records must be >= 1, got {records}"):
        demonstrations("kuhn", records)


def test_unknown_game():
    with pytest.raises(ValueError, match="unknown game 'go'; known: ipd"):
        demonstrations("go")
