"""A user's game that breaks a rule is named before anything is loaded or written."""

import pytest

import sepo_kit as sk
from sepo_kit.games.base import Harms
from sepo_kit.games.kuhn import KuhnPoker


class Harmful(KuhnPoker):
    """Kuhn poker whose harms leave [0, 1]."""

    def harms(self, outcome, seat=0, definition="corrected"):
        return Harms(collusion=2.0, externality=0.0)


@pytest.mark.parametrize("stage", ["sft", "sepo"])
def test_a_broken_game_is_not_trained_on(tmp_path, stage):
    plan = sk.get_profile("smoke").plan("pico", "kuhn")
    train, settings = {"sft": (sk.train_sft, plan.sft), "sepo": (sk.train_sepo, plan.sepo)}[stage]
    with pytest.raises(sk.GameError, match="collusion"):
        train("pico", Harmful(), tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
