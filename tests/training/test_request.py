"""What a run says it was made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sepo_kit.games import get_game
from sepo_kit.games.base import Pools
from sepo_kit.runs import Run, outdated
from sepo_kit.training.request import request_of
from sepo_kit.training.settings import SEPOSettings

SETTINGS = SEPOSettings(steps=1, rollouts=2, learning_rate=1e-3, beta=0.0)


def request(folder: Path, *opponents: str) -> dict:
    settings = replace(SETTINGS, pools=Pools(train=("nash",), exploit=opponents, collusive=(), shift=()))
    return request_of("sepo", "pico", get_game("kuhn"), folder, settings, 0)


def test_a_request_is_as_the_manifest_holds_it(tmp_path):
    """Else whoever compares the two, pools by pools, sees another request in every old run."""
    asked = request(tmp_path / "mine", "always-bet")
    run = Run(tmp_path / "mine", {**asked, "code": "1"})
    assert asked == {**run.manifest["request"], "code": asked["code"]}
    assert "was begun by other code (1, now " in outdated(tmp_path / "mine", asked)
