"""A user's game that breaks a rule is named before anything is loaded or written."""

import importlib
from dataclasses import replace

import pytest

import sepo_kit as sk
from sepo_kit.adversaries.attacked import AttackedGame
from sepo_kit.games.base import Harms, Pools
from sepo_kit.games.kuhn import KuhnPoker
from sepo_kit.runs import code_fingerprint
from sepo_kit.training.request import ROOMS, code_of


class Harmful(KuhnPoker):
    """Kuhn poker whose harms leave [0, 1]."""

    def harms(self, outcome, seat=0, definition="corrected"):
        return Harms(collusion=2.0, externality=0.0)


def test_an_opponent_that_is_none_is_named_before_the_folder_is_taken(tmp_path):
    settings = replace(
        sk.get_profile("smoke").plan("pico", "kuhn").sepo, pools=Pools(("nosuch",), (), (), ())
    )
    with pytest.raises(ValueError, match="unknown strategy 'nosuch' in kuhn"):
        sk.train_sepo("pico", "kuhn", tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_a_game_that_stands_in_no_file_says_so(tmp_path):
    """As one that was written in a cell of a notebook."""
    made: dict = {"KuhnPoker": KuhnPoker, "__name__": "cell"}
    exec("class Mine(KuhnPoker):\n    pass", made)
    plan = sk.get_profile("smoke").plan("pico", "kuhn")
    with pytest.raises(
        ValueError, match=r"the class of game kuhn is in no file, .*; write it into a module of its own"
    ):
        sk.train_sft("pico", made["Mine"](), tmp_path / "run", plan.sft)
    assert not (tmp_path / "run").exists()


def test_the_code_of_an_attacked_game_is_that_of_the_game():
    mine = Harmful()
    rooms = ROOMS["sepo"]
    assert code_of(rooms, AttackedGame(mine)) == code_of(rooms, mine) != code_of(rooms, sk.get_game("kuhn"))


def test_the_numbers_and_words_of_a_game_are_part_of_its_code():
    """They may come from elsewhere than the file of its class."""
    mine, rooms = Harmful(), ROOMS["sft"]
    before = code_of(rooms, mine)
    mine.spec = replace(mine.spec, rounds=mine.spec.rounds + 1)
    longer = code_of(rooms, mine)
    mine.wordings = {}
    assert len({before, longer, code_of(rooms, mine)}) == 3
    assert code_of(rooms, Harmful()) == before


def test_what_a_game_inherits_from_is_part_of_its_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "rules_of_mine.py").write_text(
        "from sepo_kit.games.kuhn import KuhnPoker\nclass Rules(KuhnPoker): pass\n"
    )
    (tmp_path / "game_of_mine.py").write_text("from rules_of_mine import Rules\nclass Mine(Rules): pass\n")
    mine = importlib.import_module("game_of_mine").Mine()
    before = code_of(ROOMS["sft"], mine)
    with (tmp_path / "rules_of_mine.py").open("a") as file:
        file.write("# changed\n")
    code_fingerprint.cache_clear()
    assert code_of(ROOMS["sft"], mine) != before


@pytest.mark.parametrize("stage", ["sft", "sepo"])
def test_a_broken_game_is_not_trained_on(tmp_path, stage):
    plan = sk.get_profile("smoke").plan("pico", "kuhn")
    train, settings = {"sft": (sk.train_sft, plan.sft), "sepo": (sk.train_sepo, plan.sepo)}[stage]
    with pytest.raises(sk.GameError, match="collusion"):
        train("pico", Harmful(), tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
