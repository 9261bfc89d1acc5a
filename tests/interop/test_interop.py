"""What the adapters share: numbers and vectors, nothing foreign loaded, a missing package named."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from every_game import HIDING, each_game

from sepo_kit import interop
from sepo_kit.engine.policy import first_information
from sepo_kit.games import get_game
from sepo_kit.interop.encoding import bits, encoding, forfeit

FOREIGN = ("pyspiel", "pettingzoo", "gymnasium", "verifiers", "trl", "torch")
ADAPTERS = [
    ("to_open_spiel", "open_spiel_game", "pyspiel", "openspiel"),
    ("to_pettingzoo", "pettingzoo_env", "pettingzoo", "pettingzoo"),
    ("to_gymnasium", "gymnasium_env", "gymnasium", "gymnasium"),
    ("to_verifiers", "verifiers_env", "verifiers", "verifiers"),
]


def test_importing_it_loads_nothing_foreign():
    code = f"import sys; from sepo_kit import interop; print([n for n in {FOREIGN} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "module", "package", "extra"), ADAPTERS)
def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch, name, module, package, extra):
    monkeypatch.delitem(sys.modules, f"sepo_kit.interop.{module}", raising=False)
    for loaded in [n for n in sys.modules if n.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError) as caught:
        getattr(interop, name)("kuhn")
    message = str(caught.value)
    assert package in message and f"pip install 'sepo_kit[{extra}]'" in message and "\n" not in message


@pytest.mark.parametrize("name", interop.__all__)
def test_an_unknown_game_is_said(name):
    with pytest.raises(ValueError, match="unknown game 'chess'; known: ipd"):
        getattr(interop, name)("chess")


@each_game
def test_an_action_is_its_place_in_the_spec(game):
    codes, seen = encoding(game), first_information(game)
    assert [codes.actions[number] for number in codes.legal(seen)] == [
        action for action in game.spec.actions if action in seen.legal_actions
    ]
    assert codes.mask(seen).tolist() == [int(a in seen.legal_actions) for a in game.spec.actions]
    assert codes.legal(None) == [] and not codes.mask(None).any() and not codes.vector(None).any()


@each_game
def test_a_vector_is_the_key_and_nothing_else(game):
    codes, seen = encoding(game), first_information(game)
    vector = codes.vector(seen)
    assert vector.shape == (codes.length,) and vector.dtype == np.float32
    assert np.packbits(vector.astype(np.uint8)).tobytes().rstrip(b"\0").decode() == seen.key


def test_some_game_hides_something():
    """What the tests for leaks go by is not empty."""
    assert [game.spec.id for game in HIDING] == ["auction", "negotiation_v2", "kuhn", "leduc"]


def test_a_text_that_is_too_long_is_said():
    with pytest.raises(ValueError, match="has 3 bytes, vectors hold 2; shorten its key: 'abc'"):
        bits("abc", 2)


def test_what_a_forfeit_costs():
    assert forfeit(get_game("kuhn"), 4) == -4 and forfeit(get_game("ipd"), 0) == 0
