"""Fixtures of a user's own game: examples/commons.py, known to this process and to new ones."""

from __future__ import annotations

import shutil

import pytest
from every_game import COMMONS, EXAMPLE

import sepo_kit as sk
from sepo_kit.games.registry import GROUP


@pytest.fixture(scope="module")
def commons():
    """The game, known to this process for as long as the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        list(sk.GAMES)
        patch.setattr(sk.GAMES, "_known", dict(sk.GAMES._known))
        yield sk.register(COMMONS.GAME)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder on the path of new processes in which the commons are installed."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(EXAMPLE, folder)
    info = folder / "commons-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: commons\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\ncommons = commons:GAME\n")
    return folder
