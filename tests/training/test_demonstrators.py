"""The corpus as shipped, and whether the reasons in it are true."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

import sepo_kit as sk
from sepo_kit.games.negotiation_v2 import UNITS, is_deal
from sepo_kit.training.demonstrations import demonstrations

CORPUS = Path(__file__).parents[2] / "data" / "sft"


@pytest.fixture(scope="module")
def corpus():
    return {game: pd.read_parquet(CORPUS / f"{game}.parquet") for game in sk.GAMES}


@pytest.mark.parametrize("game", sk.GAMES)
def test_the_corpus_that_ships_is_the_one_the_code_makes(game, corpus):
    pd.testing.assert_frame_equal(corpus[game], demonstrations(game))
    assert (
        len(corpus[game])
        == sk.get_game(game).mixture.records
        == (4_000 if game == "negotiation_v2" else 8_000)
    )


@pytest.mark.parametrize("game", sk.GAMES)
def test_the_page_has_the_counts_of_every_game(game):
    page = (CORPUS / "README.md").read_text(encoding="utf-8")
    (told,) = re.findall(rf"^### {game}\n\n(.*?)(?=\n\n### |\Z)", page, re.MULTILINE | re.DOTALL)
    counts = pd.read_csv(CORPUS / "counts.csv")
    part = counts[counts["game"] == game]
    training = part[part["split"] == "train"]["records"].sum()
    assert told.startswith(f"{part['records'].sum():,} records, {training:,} of them for training.")
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in told.strip().split("\n")[2:]
    ]
    wide = part.pivot_table(
        index="demonstrator", columns="opponent", values="records", aggfunc="sum", fill_value=0,
        margins=True, margins_name="all",
    )  # fmt: skip
    assert head == ["demonstrator", *wide.columns] and [row[0] for row in rows] == list(wide.index)
    assert [[int(cell) for cell in row[1:]] for row in rows] == wide.astype(int).to_numpy().tolist()


@pytest.mark.parametrize("game", sk.GAMES)
def test_it_loads_with_datasets(game):
    from datasets import load_dataset

    rows = load_dataset("parquet", data_files=str(CORPUS / f"{game}.parquet"), split="train")
    assert rows.num_rows == sk.get_game(game).mixture.records
    assert {"user", "reason", "action", "split"} <= set(rows.column_names)


@pytest.mark.parametrize("game", sk.GAMES)
def test_mixtures_have_five_opponents_and_weights_that_sum_to_one(game):
    mixture = sk.get_game(game).mixture
    assert len(set(mixture.opponents)) == 5
    assert not set(mixture.opponents) & set(sk.get_game(game).spec.pools.shift)
    assert sum(weight for _, weight in mixture.demonstrators) == pytest.approx(1)


@pytest.mark.parametrize("game", sk.GAMES)
def test_no_episode_stands_on_both_sides(game, corpus):
    assert corpus[game].groupby("episode")["split"].nunique().max() == 1
    assert (corpus[game]["split"] == "train").mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("game", sk.GAMES)
def test_replies_parse_to_their_action_and_are_short(game, corpus):
    game = sk.get_game(game)
    frame = corpus[game.spec.id].drop_duplicates(["reason", "action"])
    for row in frame.itertuples():
        assert game.parse(f"{row.reason}\n{row.action}", [row.action]) == row.action
        assert len(row.reason) <= 220 and row.reason.endswith(".") and "\n" not in row.reason


@pytest.mark.parametrize("game", ["ipd", "auction", "negotiation_v1", "kuhn"])
def test_an_action_named_in_a_reason_is_the_action(game, corpus):
    """Where a reason says in so many words what it leads to, the action is that."""
    claims = {
        "ipd": (r"so I (cooperate|defect)\b", lambda m: m[1].upper()),
        "auction": (r"(?:so I bid (LOW|HIGH)|which is (LOW|MEDIUM))", lambda m: m[1] or m[2]),
        "negotiation_v1": (r"(?:so I demand (\d)|and demand (6))\b", lambda m: m[1] or m[2]),
        "kuhn": (r"so I (call|fold|bet|pass)\b", lambda m: m[1].upper()),
    }
    pattern, claimed = claims[game]
    found = 0
    for row in corpus[game].drop_duplicates(["reason", "action"]).itertuples():
        match = re.search(pattern, row.reason)
        if match:
            found += 1
            assert claimed(match) == row.action, row.reason
    assert found >= 2


def test_reasons_of_the_dilemma_do_not_contradict_history(corpus):
    for row in corpus["ipd"].drop_duplicates(["user", "reason"]).itertuples():
        partner = re.findall(r"partner (COOPERATE|DEFECT)", row.user)
        said = re.search(
            r"My partner (?:chose (COOPERATE|DEFECT)|(cooperated|defected)) last round", row.reason
        )
        if said:
            last = said[1] or {"cooperated": "COOPERATE", "defected": "DEFECT"}[said[2]]
            assert partner[-1] == last
        if "has defected before" in row.reason:
            assert "DEFECT" in partner
        if "has never defected" in row.reason:
            assert "DEFECT" not in partner
        if "open" in row.reason:
            assert not partner


def test_reasons_of_the_pie_do_not_contradict_history(corpus):
    for row in corpus["negotiation_v1"].drop_duplicates(["user", "reason"]).itertuples():
        partner = re.findall(r"partner (\d)", row.user)
        said = re.search(r"My partner demanded (\d) last round", row.reason)
        if said:
            assert partner[-1] == said[1] == row.action
        if "have had a breakdown" in row.reason:
            assert "no deal" in row.user
        if "have had no breakdown" in row.reason:
            assert "no deal" not in row.user


def test_reasons_of_the_auction_do_not_contradict_value_and_history(corpus):
    for row in corpus["auction"].drop_duplicates(["user", "reason"]).itertuples():
        value = re.findall(r"your value (\d)", row.user)[-1]
        said = re.search(r"[Mm]y value (?:is (?:only )?|of )(\d)", row.reason)
        if said:
            assert said[1] == value
        last = re.search(r"My opponent bid (LOW|MEDIUM|HIGH) last round", row.reason)
        if last:
            assert re.findall(r"opponent (LOW|MEDIUM|HIGH)", row.user)[-1] == last[1]


def test_reasons_of_the_division_do_not_contradict_history(corpus):
    kept = 0
    for row in corpus["negotiation_v2"].drop_duplicates(["user", "reason", "action"]).itertuples():
        pool = tuple(map(int, re.search(r"Pool: BOOKS=(\d) HATS=(\d) BALLS=(\d)", row.user).groups()))
        rounds = re.findall(r"you (BOOKS=\d HATS=\d BALLS=\d), partner (BOOKS=\d HATS=\d BALLS=\d)", row.user)
        if "made a deal" in row.reason:
            kept += 1
            assert is_deal(pool, *rounds[-1]) and row.action == rounds[-1][0]
        if "broke down" in row.reason:
            assert not is_deal(pool, *rounds[-1])
            left = tuple(n - d for n, d in zip(pool, UNITS[rounds[-1][1]], strict=True))
            assert UNITS[row.action] == left
    assert kept


def test_reasons_of_kuhn_poker_name_the_card_held(corpus):
    for row in corpus["kuhn"].drop_duplicates(["user", "reason"]).itertuples():
        card = re.search(r"Your card: (\w+)", row.user)[1]
        named = re.search(r"^My (Jack|Queen|King)\b", row.reason)
        if named:
            assert named[1] == card
