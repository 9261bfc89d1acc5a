"""Held-out suites: who is in them, worst first, and one line for a suite that does not fit."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
from finished import evaluation

import sepo_kit as sk
from sepo_kit.adversaries import suites
from sepo_kit.adversaries.gain import gain_of
from sepo_kit.engine.policy import NoDistribution, Policy
from sepo_kit.evaluation.held_out import held_out_of, worst_offenders
from sepo_kit.evaluation.results import KEYS
from sepo_kit.models import PICO


class Silent(Policy):
    def __init__(self, inner):
        self.inner, self.name = inner, "silent"

    def distributions(self, seen):
        raise NoDistribution("it answers in text")

    def act(self, seen, uniforms):
        return self.inner.act(seen, uniforms)


def test_the_worst_is_first():
    agent = sk.scripted("ipd", "always-cooperate")
    given = {name: sk.scripted("ipd", name) for name in ("tit-for-tat", "always-defect", "mixed-0.5")}
    found = sk.held_out(agent, "ipd", given, episodes=4)
    assert list(found.frame["adversary"]) == ["always-defect", "mixed-0.5", "tit-for-tat"]
    assert (found.worst, found.gain) == ("always-defect", 5.0)
    assert found.payoff == pytest.approx(found.frame["payoff"].mean())
    assert found.frame["low"].iloc[1] < found.frame["gain"].iloc[1] < found.frame["high"].iloc[1]
    assert set(found.to_frame()["suite"]) == {"given"}
    assert sk.held_out(Silent(agent), "ipd", given, episodes=4).worst == "always-defect"


@pytest.mark.usefixtures("ready_pico")
def test_agents_of_results_meet_it_and_the_worst_of_each_is_named(tmp_path):
    evaluation(tmp_path, "kuhn", "base", "uniform", model=PICO)
    files = list(tmp_path.glob("*/kuhn/results/*.json"))
    found = held_out_of(files, "strategies", episodes=4, seed=3)
    agent = sk.language_model(sk.load_model(PICO), "kuhn", temperature=0.8)
    again = sk.held_out(agent, "kuhn", "strategies", 4, 3)
    assert found["gain"].tolist() == pytest.approx(again.frame["gain"].tolist())
    (row,) = worst_offenders(found).to_dict("records")
    assert (row["model"], row["stage"], row["worst"]) == (PICO, "base", again.worst)
    assert (row["gain"], row["mean payoff"]) == pytest.approx((again.gain, again.payoff))
    own = again.frame.iloc[0]
    assert (
        row["low"] < own["low"] < own["gain"] < own["high"] < row["high"]
    )  # as wide as all of them together
    assert held_out_of([]).empty


def test_the_luckiest_of_many_is_said_to_be_so_where_it_may_be_chance():
    """200 strategies that gain nothing but noise: the largest gain is beyond its own interval, not beyond theirs."""
    rng = np.random.default_rng(0)
    rows = []
    for stage, shift in (("base", 0.0), ("sepo", 3.0)):
        for number in range(200):
            gain = gain_of(rng.normal(shift, 1.0, 10))
            rows.append(("pico", "ipd", stage, 0, f"s{number}", 1.0, gain.value, gain.low, gain.high, 10))
    columns = [*KEYS, "adversary", "payoff", "gain", "low", "high", "episodes"]
    noise, lead = worst_offenders(pd.DataFrame(rows, columns=columns)).to_dict("records")
    best = max(rows[:200], key=lambda row: row[6])
    assert best[7] > 0 > noise["low"] and noise["high"] > best[8]
    assert (noise["may be chance"], lead["may be chance"]) == ("yes", "") and lead["low"] > 0


def test_every_game_has_its_strategies_and_a_fitted_adversary():
    game = sk.get_game("kuhn")
    found = sk.held_out(sk.scripted(game, "always-bet"), game, "strategies", episodes=40)
    names = set(found.frame["adversary"])
    assert names == {*game.strategies, "fitted"} - set(game.spec.pools.exploit)
    assert found.worst == "fitted"


def test_openspiel_finds_the_equilibrium_and_the_best_response():
    pytest.importorskip("pyspiel")
    game, agent = sk.get_game("kuhn"), sk.uniform("kuhn")
    members = suites.suite(game, "openspiel", agent)
    assert sk.exact.worst_case(game, members["cfr"]).advantage < 0.02
    assert sk.exact.against(game, agent, members["best-response"]).advantage == pytest.approx(11 / 12)
    found = sk.held_out(agent, game, "openspiel", episodes=300)
    assert found.worst == "best-response" and len(found.frame) == 2


@pytest.mark.parametrize(
    ("game", "suite", "message"),
    [
        ("ipd", "chess", "unknown suite 'chess'; known: axelrod, openspiel, strategies"),
        ("kuhn", "axelrod", "suite 'axelrod' is one of ipd, not of kuhn; known there: openspiel, strategies"),
        (
            "ipd",
            "openspiel",
            "suite 'openspiel' is one of kuhn, not of ipd; known there: axelrod, strategies",
        ),
    ],
)
def test_a_suite_that_does_not_fit_is_one_line(game, suite, message):
    with pytest.raises(ValueError, match=message):
        sk.held_out(sk.uniform(game), game, suite)


def test_a_library_that_is_not_there_is_one_line():
    with pytest.raises(ValueError, match=r"no_such_library is not installed; install the extra"):
        suites.library("no_such_library")


def test_too_few_episodes_are_refused():
    with pytest.raises(ValueError, match="episodes must be a whole number >= 2, got 1"):
        sk.held_out(sk.uniform("ipd"), "ipd", "strategies", episodes=1)


def test_sources_are_read_once_inside_of_a_block_and_as_ever_after_it(monkeypatch):
    read, getsource = [], inspect.getsource

    def counting(code):
        read.append(code)
        return getsource(code)

    monkeypatch.setattr(inspect, "getsource", counting)
    other = sk.uniform("kuhn")
    with pytest.raises(OSError, match="no source"), suites.sources_read_once():
        for player in (sk.uniform("ipd"), other, other):  # methods of any one: of the class they have it from
            assert inspect.getsource(player.act) == getsource(Policy.act)
        assert read == [Policy.act]
        raise OSError("no source")
    assert inspect.getsource is counting


@pytest.mark.slow
def test_a_player_of_axelrods_library_forgets_the_histories_before():
    """All of them: what one plays after a history is what a new one would, whatever it was led through before."""
    game = sk.get_game("ipd")
    histories = sk.exact.information_states(game)[::2_500]
    for name in suites.axelrod_classes():
        used = suites.axelrod_strategy(game, name)
        used.distributions(histories[::-1])
        for seen in histories[:2]:
            new = suites.axelrod_strategy(game, name).distributions([seen])[0]
            assert used.distributions([seen])[0].tolist() == new.tolist(), name


@pytest.mark.slow
def test_axelrods_library_plays_as_it_does_at_home():
    """More than 200 strategies; those of both libraries play the same, and those that draw draw as often."""
    axelrod = pytest.importorskip("axelrod")
    game = sk.get_game("ipd")
    assert len(suites.axelrod_classes()) > 200
    for name, ours in (
        ("TitForTat", "tit-for-tat"),
        ("Grudger", "grim-trigger"),
        ("TitFor2Tats", "tit-for-two-tats"),
    ):
        theirs = suites.axelrod_strategy(game, name)
        for seen in sk.exact.information_states(game)[::97]:
            assert (
                theirs.distributions([seen])[0].tolist()
                == sk.scripted(game, ours).distributions([seen])[0].tolist()
            )
    gradual = suites.axelrod_strategy(game, "Gradual")
    match = axelrod.Match([axelrod.Gradual(), axelrod.Alternator()], turns=8)
    moves = [str(pair[0]) for pair in match.play()]
    (episode,) = sk.play(game, suites.axelrod_strategy(game, "Alternator"), gradual, episodes=1)
    assert [d.action[0] for d in episode.answers] == moves
    (first,) = suites.axelrod_strategy(game, "Random").distributions([sk.exact.information_states(game)[0]])
    assert 0 < first[0] < 1
    found = sk.held_out(sk.scripted(game, "tit-for-tat"), game, "axelrod", episodes=2)
    assert len(found.frame) == len(suites.axelrod_classes()) and found.gain == pytest.approx(5 / 8)
    with pytest.raises(ValueError, match="axelrod has no strategy 'Darwin'"):
        suites.axelrod_strategy(game, "Darwin")
    with pytest.raises(ValueError, match="axelrod:TitForTat plays ipd, not kuhn"):
        suites.axelrod_strategy(sk.get_game("kuhn"), "TitForTat")


def test_few_episodes_have_intervals_as_wide_as_they_need():
    """95 % of them hold what is true, by Student's t; by the normal distribution it would be 82 % of five episodes."""
    rng = np.random.default_rng(0)
    leads = rng.normal(0.3, 1.0, size=(2_000, 5))
    found = [gain_of(row) for row in leads]
    assert np.mean([one.low <= 0.3 <= one.high for one in found]) == pytest.approx(0.95, abs=0.015)
