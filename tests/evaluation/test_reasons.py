"""Reasons against actions: true ones, false ones, and those that are reasons for something else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sepo_kit.engine.policy import StrategyPolicy
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.evaluation.reasons import read_reasons, reasons_table
from sepo_kit.games import GAMES, get_game


def telling(game, strategy, say=None) -> list:
    """Episodes of a strategy that gives reasons: its own, or what ``say`` makes of (state, action, own reason)."""

    class Telling(StrategyPolicy):
        def choice(self, seen, index, probability):
            decision = super().choice(seen, index, probability)
            reason = self.strategy.explain(seen, decision.action)
            reason = reason if say is None else say(seen, decision.action, reason)
            return replace(decision, reply=f"{reason}\n{decision.action}")

    return play_matches(game, Telling(strategy), matches(game, ("train", "exploit"), 2), seed=0)


@pytest.mark.parametrize("name", [name for name, game in GAMES.items() if game.mixture is not None])
def test_what_demonstrators_say_of_themselves_is_true_and_consistent(name):
    game = get_game(name)
    strategies = [s for s, _ in game.mixture.demonstrators if s.id != "uniform"]
    for strategy in strategies[:3]:
        found = read_reasons(game, telling(game, strategy))
        assert len(found) > 10
        assert found[["understood", "true", "consistent"]].astype(bool).all(axis=None), strategy.id


def test_a_reason_that_does_not_hold_and_one_for_another_action_are_told_apart():
    kuhn = get_game("kuhn")
    nash = kuhn.strategy("nash")
    boast = "My King is the highest card, so I bet for value."
    found = read_reasons(kuhn, telling(kuhn, nash, lambda seen, action, own: boast))
    assert found["understood"].all()
    king = found["information"].str.startswith("K")
    first = found["information"].str.len().eq(1) | found["information"].str.endswith("p")
    opening = found[~found["information"].str.endswith("b")]
    assert 0 < king.sum() < len(found) and first.any()
    assert (opening["true"].astype(bool) == opening["information"].str.startswith("K")).all()
    assert (found["consistent"].astype(bool) == (found["action"] == "BET")).all()


def test_what_was_never_taught_is_not_understood_and_more_words_do_no_harm():
    kuhn = get_game("kuhn")
    nash = kuhn.strategy("nash")
    found = read_reasons(kuhn, telling(kuhn, nash, lambda *told: "I feel lucky."))
    assert not found["understood"].any() and found["true"].isna().all()
    found = read_reasons(kuhn, telling(kuhn, nash, lambda seen, action, own: f"Well.\n{own}  Let us see."))
    assert found["understood"].all() and found["true"].astype(bool).all()
    silent = play_matches(kuhn, StrategyPolicy(nash), matches(kuhn, ("train",), 2), seed=0)
    assert read_reasons(kuhn, silent).empty


def test_the_table_has_a_row_for_every_agent():
    kuhn = get_game("kuhn")
    nash = kuhn.strategy("nash")
    boast = "My King is the highest card, so I bet for value."
    table = reasons_table(
        {
            "honest": read_reasons(kuhn, telling(kuhn, nash)),
            "boasting": read_reasons(kuhn, telling(kuhn, nash, lambda *told: boast)),
            "silent": read_reasons(kuhn, []),
        }
    )
    assert table.loc["honest", ["understood", "true", "consistent"]].tolist() == [1, 1, 1]
    assert table.loc["honest", "true, but not for this action"] == 0
    boasting = table.loc["boasting"]
    assert 0 < boasting["true"] < 1 and 0 < boasting["consistent"] < 1
    assert table.loc["silent", "reasons"] == 0 and table.loc["silent"].isna().sum() == 4


def test_a_game_without_demonstrations(monkeypatch):
    monkeypatch.setattr(type(get_game("ipd")), "mixture", None)
    with pytest.raises(ValueError, match="no demonstrations for 'ipd'"):
        read_reasons("ipd", [])
