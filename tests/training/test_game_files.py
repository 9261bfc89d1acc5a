"""Which files a user's own game is made of: an edit to one of them makes what was trained and found stale."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from sepo_kit.games import KIT_GAMES
from sepo_kit.games.base import Mixture, UniformStrategy
from sepo_kit.games.kuhn import KuhnPoker
from sepo_kit.training.game_files import game_files
from sepo_kit.training.request import ROOMS, code_of

GAME = """
from sepo_kit.games.kuhn import KuhnPoker
class Mine(KuhnPoker): pass
GAME = Mine()
"""
STRATEGY = "from sepo_kit.games.base import UniformStrategy\nclass Other(UniformStrategy): id = 'other'\n"


@pytest.fixture
def files_of(tmp_path, monkeypatch):
    """A function that writes modules, imports the first and tells the files of its GAME, as seen from their folder."""
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)

    def write(modules: dict[str, str]) -> set[str]:
        for name, text in modules.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        first = next(iter(modules)).removesuffix(".py").replace("/", ".")
        return {str(path.relative_to(tmp_path)) for path in game_files(importlib.import_module(first).GAME)}

    yield write
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_kits_own_games_have_none_and_a_game_in_one_file_has_that_one(files_of):
    assert not [game for game in KIT_GAMES.values() if game_files(game)]
    assert files_of({"one_file.py": GAME}) == {"one_file.py"}


@pytest.mark.parametrize(
    "line",
    [
        "from made_of.strats import ODDS", "import made_of.strats", "from made_of import strats",
        "from . import strats", "from .strats import *", "from .strats import ODDS as odds",
        "def late():\n    from made_of import strats",
    ],
)  # fmt: skip
def test_what_it_imports_of_its_package_is_of_it_and_nothing_else(files_of, line):
    modules = {
        "made_of/game.py": f"{line}\n{GAME}",
        "made_of/__init__.py": "",
        "made_of/strats.py": "import numpy, random\nfrom made_of.deeper.odds import ODDS\n",
        "made_of/deeper/__init__.py": "",
        "made_of/deeper/odds.py": "from .. import strats\nODDS = 0.3\n",
        "made_of/plots.py": "import made_of.game\n",
    }
    assert files_of(modules) == modules.keys() - {"made_of/plots.py"}


def test_in_a_package_without_an_init_file_too(files_of):
    modules = {"space/game.py": f"from space import strats\n{GAME}", "space/strats.py": ""}
    assert files_of(modules) == modules.keys()


def test_what_lies_beside_a_game_is_of_it_where_it_is_imported(files_of):
    modules = {"beside.py": f"import odds_of\n{GAME}", "odds_of/__init__.py": "", "unread.py": ""}
    assert files_of(modules) == {"beside.py", "odds_of/__init__.py"}


def test_what_lies_beside_an_installed_game_is_another_package(files_of):
    modules = {
        "installed/game.py": f"import another_of\nfrom installed import strats\n{GAME}",
        "installed/strats.py": "",
        "another_of.py": "",
        "installed-1.0.dist-info/METADATA": "",
    }
    assert files_of(modules) == {"installed/game.py", "installed/strats.py"}


@pytest.mark.parametrize(
    "part",
    [
        "strategies = {**KuhnPoker.strategies, 'other': Other()}",
        "mixture = Mixture(((Other(), 1.0),), ('nash',))",
        "def initial_state(self): return State()",
    ],
)
def test_whoever_plays_it_is_of_it_wherever_that_was_imported(files_of, part):
    """As through a registry of strategies, which no import statement names."""
    game = f"""
import importlib
from sepo_kit.games.base import Mixture
from sepo_kit.games.kuhn import KuhnPoker
Other = importlib.import_module("players_of").Other
State = type(KuhnPoker().initial_state())
State = type("State", (State,), {{"__module__": "players_of"}})
class Mine(KuhnPoker):
    {part}
GAME = Mine()
"""
    modules = {"registered.py": game, "players_of.py": f"import notes_of\n{STRATEGY}", "notes_of.py": ""}
    assert files_of(modules) == modules.keys()


def test_a_file_that_is_half_edited_imports_nothing(files_of):
    modules = {
        "edited.py": f"try:\n    import half\nexcept SyntaxError:\n    pass\n{GAME}",
        "half.py": "import (",
    }
    assert files_of(modules) == modules.keys()


def test_a_module_that_is_run_has_the_files_of_one_that_is_imported(tmp_path):
    package = tmp_path / "run_as"
    package.mkdir()
    (package / "strats.py").write_text("")
    tell = "from sepo_kit.training.game_files import game_files\nprint([path.name for path in game_files(GAME)])\n"
    (package / "game.py").write_text(f"from run_as import strats\n{GAME}{tell}")
    for line in (["-m", "run_as.game"], ["-c", "import run_as.game"]):
        told = subprocess.run([sys.executable, *line], cwd=tmp_path, capture_output=True, text=True)
        assert told.stdout == "['game.py', 'strats.py']\n", told.stderr


def test_a_strategy_in_no_file_is_named():
    """As one that was written in a cell of a notebook."""
    made: dict = {"UniformStrategy": UniformStrategy, "__name__": "cell"}
    exec("class Mine(UniformStrategy):\n    id = 'mine'", made)
    game = KuhnPoker()
    game.mixture = Mixture(((made["Mine"](), 1.0),), ("nash",))
    with pytest.raises(
        ValueError, match=r"the class of strategy mine of game kuhn is in no file, .*; write it into"
    ):
        code_of(ROOMS["sft"], game)
