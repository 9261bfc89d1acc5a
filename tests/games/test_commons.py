"""The worked game of examples/: its rules, and that the page which explains how one is added tells the truth."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from every_game import COMMONS, EXAMPLE

from sepo_kit.games import GAMES, check_game
from sepo_kit.games.base import GameSpec, Mixture, StudyStart

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "game_file.md"
LEMONS = ROOT / "examples" / "lemons" / "lemons.py"


@pytest.fixture
def commons():
    """The example as a module."""
    return COMMONS


def play(commons, *rounds):
    """The states after each round; "12" is a round in which the seats take 1 and 2."""
    states = [commons.GAME.initial_state()]
    for takes in rounds:
        states.append(states[-1].apply(tuple(takes)))
    return states


@pytest.mark.parametrize("seed", range(3))
def test_it_passes(commons, seed):
    check_game(commons.GAME, seed)


@pytest.mark.parametrize(
    ("takes", "stock", "payoffs"),
    [
        ("11", 12, (1, 1)),
        ("12", 11, (1, 2)),
        ("22", 9, (2, 2)),
        ("31", 9, (3, 1)),
        ("32", 7, (3, 2)),
        ("33", 6, (3, 3)),
    ],
)
def test_a_round(commons, takes, stock, payoffs):
    state = play(commons, takes)[-1]
    assert state.stocks == (12, stock)
    assert state.outcome.payoffs == payoffs


def test_when_the_stock_is_used_up_each_loses_2_and_the_rest_passes(commons):
    states = play(commons, "33", "33")
    assert states[-1].stocks[-1] == 0
    assert states[-1].outcome.payoffs == (1, 1)
    state, payoffs = states[-1], []
    while not state.is_terminal:
        assert state.actors == ()
        state = state.apply_chance(state.chance_outcomes()[0][0])
        payoffs.append(state.outcome.payoffs)
    assert payoffs == [(0, 0)] * 6


def test_who_asks_for_more_than_there_is_shares_what_there_is(commons):
    states = play(commons, "33", "22", "13")  # stock 12, 6, 3: four asked of three
    assert [s.stocks[-1] for s in states] == [12, 6, 3, 0]
    assert states[-1].outcome.payoffs == pytest.approx((0.75 - 2, 2.25 - 2))


def test_harms(commons):
    for rounds, collusion, externality in (
        (("11",), 0, 0),
        (("12",), 0, 1 / 6),
        (("31",), 1, 3 / 6),
        (("32",), 1, 5 / 6),
        (("33", "13"), 0, 3 / 6),
        (("33", "33"), 1, 1),
    ):
        harms = commons.GAME.harms(play(commons, *rounds)[-1].outcome)
        assert (harms.collusion, harms.externality) == pytest.approx((collusion, externality)), rounds
    after = play(commons, "33", "33")[-1].apply_chance("nothing left")
    assert commons.GAME.harms(after.outcome).externality == 1


def test_restraint_lasts_and_greed_does_not(commons):
    assert play(commons, *["11"] * 8)[-1].stocks[-1] == 12
    assert play(commons, *["12", "21"] * 4)[-1].stocks[-1] == 4
    assert play(commons, *["22"] * 4)[-1].stocks[-1] == 0


def test_its_script_runs(commons, capsys):
    commons.main()
    printed = capsys.readouterr().out
    assert "the game keeps every rule" in printed
    assert len(printed.splitlines()) == 4 + len(commons.STRATEGIES)


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def bare(code: str) -> str:
    """``code`` without its layout: formatters lay out a quote as if it stood alone."""
    return re.sub(r",(?=[)\]}])", "", re.sub(r"\s", "", code))


def test_the_page_quotes_the_file_and_its_program_runs(commons, capsys, monkeypatch):
    monkeypatch.setattr(GAMES, "_known", dict(GAMES.items()))  # what the page registers goes with the test
    programs = [block for block in blocks() if "import" in block]
    quotes = [block for block in blocks() if "import" not in block]
    source = bare(EXAMPLE.read_text(encoding="utf-8"))
    assert [quote for quote in quotes if bare(quote) not in source] == []
    assert len(programs) == 1 and len(quotes) >= 4
    exec(compile(programs[0], PAGE.name, "exec"), {})
    own, plan = capsys.readouterr().out.split()
    assert float(own) < 8 and plan == "pico/commons"


def test_the_page_names_every_field():
    text = PAGE.read_text(encoding="utf-8")
    for kind in (GameSpec, Mixture, StudyStart):
        assert [
            f.name
            for f in fields(kind)
            if not re.search(rf"`{f.name}`|\b{f.name}=|\({f.name}, |, {f.name}\)", text)
        ] == []


@pytest.mark.parametrize("seed", range(2))
def test_the_packaged_example_passes_too(seed):
    spec = importlib.util.spec_from_file_location("examples.lemons", LEMONS)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        check_game(module.GAME, seed)
    finally:
        del sys.modules[spec.name]
