"""Which games are known: registered ones, those of entry points, and what is said where one is not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import sepo_kit as sk
from sepo_kit.games import KIT_GAMES
from sepo_kit.games.base import Harms
from sepo_kit.games.kuhn import KuhnPoker
from sepo_kit.games.registry import GROUP, Games

OWN_GAME = """
from dataclasses import replace
from sepo_kit.games.kuhn import KuhnPoker

class Poker(KuhnPoker):
    spec = replace(KuhnPoker.spec, id="{id}", title="Poker")

GAME = Poker()
"""


class Poker(KuhnPoker):
    spec = replace(KuhnPoker.spec, id="poker", title="Poker")


@pytest.fixture
def games(monkeypatch):
    """The kit's games with nothing registered yet, and no entry points."""
    monkeypatch.setattr("sepo_kit.games.registry.entry_points", lambda group: [])
    return Games(KIT_GAMES)


def installed(folder: Path, name: str, source: str, value: str) -> None:
    """A module and the metadata of a package that names an entry point, as an installer leaves them."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {value}\n")


def in_a_new_process(folder: Path, code: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )


def test_a_registered_game_is_known_by_its_id(games):
    game = Poker()
    assert games.register(game) is game
    assert games["poker"] is games.get_game("poker") is games.checked_game("poker") is game
    assert list(games) == [*KIT_GAMES, "poker"] and len(games) == 7


def test_the_public_function_is_that_of_the_public_games():
    assert sk.register(sk.get_game("kuhn")) is sk.GAMES["kuhn"]


def test_a_game_may_be_registered_again_and_is_checked_once(games, monkeypatch):
    calls = []
    monkeypatch.setattr("sepo_kit.games.registry.check_game", calls.append)
    game = Poker()
    for _ in range(2):
        games.register(game)
        games.checked_game(game)
    assert calls == [game]


def test_games_that_are_not_registered_are_remembered_for_a_while_only(games, monkeypatch):
    calls = []
    monkeypatch.setattr("sepo_kit.games.registry.check_game", calls.append)
    first = Poker()
    for game in (first, first, *(Poker() for _ in range(20)), first):
        games.checked_game(game)
    assert calls[0] is first is calls[-1] and len(calls) == 22


@pytest.mark.parametrize("taken", ["kuhn", "poker"])
def test_a_taken_id_is_refused_in_a_line(games, taken):
    games.register(Poker())
    other = type("Other", (Poker,), {"spec": replace(Poker.spec, id=taken)})()
    with pytest.raises(
        ValueError, match=f"^game id '{taken}' is taken by .*; give the spec of your game .*$"
    ):
        games.register(other)
    assert games[taken] is not other


def test_a_broken_game_is_not_registered(games, monkeypatch):
    monkeypatch.setattr(Poker, "harms", lambda *_, **__: Harms(2.0, 0.0))
    with pytest.raises(sk.GameError, match="collusion"):
        games.register(Poker())
    with pytest.raises(sk.GameError, match="needs an instance of Game"):
        games.register(Poker)
    assert "poker" not in games


def test_an_unknown_game_says_how_one_is_made_known(games):
    with pytest.raises(
        ValueError, match=r"unknown game 'go'; known: ipd, .*entry point in the group 'sepo_kit\.games'"
    ):
        games.get_game("go")


def test_a_new_process_knows_the_games_of_installed_packages(tmp_path):
    installed(tmp_path, "cards", OWN_GAME.format(id="cards"), "cards:GAME")
    code = (
        "import sys, sepo_kit as sk; sk.get_game('kuhn'); assert 'cards' not in sys.modules; "
        "print(list(sk.GAMES), sk.get_game('cards').spec.title, sk.get_game('cards') is sk.GAMES['cards'])"
    )
    found = in_a_new_process(tmp_path, code)
    assert (found.stdout, found.stderr) == (f"{[*KIT_GAMES, 'cards']} Poker True\n", "")


@pytest.mark.parametrize(
    ("id", "value", "why"),
    [
        ("broken", "broken:NOTHING", "AttributeError: module 'broken' has no attribute 'NOTHING'"),
        ("broken", "broken:Poker", "TypeError: it is ABCMeta, not an instance of Game"),
        ("kuhn", "broken:GAME", "ValueError: game id 'kuhn' is taken by sepo_kit.games.kuhn.KuhnPoker"),
    ],
)
def test_a_broken_entry_point_is_named_in_a_line_and_the_kit_goes_on(tmp_path, id, value, why):
    installed(tmp_path, "broken", OWN_GAME.format(id=id), value)
    found = in_a_new_process(tmp_path, "import sepo_kit as sk; print(list(sk.GAMES)); sk.get_game('broken')")
    assert found.stdout == f"{list(KIT_GAMES)}\n"
    line = f"entry point 'broken = {value}' is left out: {why}"
    assert found.stderr.count(line) == 2  # the warning, and the error for the game that is missing
    assert found.stderr.strip().splitlines()[-1].startswith("ValueError: unknown game 'broken'; known: ipd,")


def test_a_workers_error_says_how_to_make_a_game_known(tmp_path):
    (tmp_path / "mine.py").write_text(OWN_GAME.format(id="cards"))
    code = (
        "import sepo_kit as sk, mine; sk.register(mine.GAME); import subprocess, sys; sys.exit(subprocess.call("
        + ("[sys.executable, '-m', 'sepo_kit', 'evaluate', 'cards', 'nash', '--exact']))")
    )
    found = in_a_new_process(tmp_path, code)
    assert found.returncode != 0
    assert "unknown game 'cards'" in found.stderr and "'sepo_kit.games'" in found.stderr
