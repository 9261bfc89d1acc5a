"""A game as its attacker has it: the same play, the seats exchanged, paid by the lead."""

from __future__ import annotations

import pytest

from sepo_kit import exact
from sepo_kit.adversaries.attacked import AttackedGame
from sepo_kit.engine.policy import scripted
from sepo_kit.games import GAMES, check_game, get_game


@pytest.mark.parametrize("name", ["ipd", "auction", "negotiation_v1", "kuhn"])
def test_it_keeps_the_rules(name):
    check_game(AttackedGame(GAMES[name]))


@pytest.mark.parametrize(
    ("name", "agent", "adversary"),
    [("ipd", "generous-tit-for-tat", "always-defect"), ("kuhn", "nash", "tight-passive")],
)
def test_the_attacker_earns_its_lead(name, agent, adversary):
    game = get_game(name)
    lead = exact.against(game, scripted(game, agent), scripted(game, adversary)).advantage
    found = exact.against(AttackedGame(game), scripted(game, adversary), scripted(game, agent))
    assert found.own == pytest.approx(lead) and found.their == pytest.approx(-lead)
    assert found.collusion == found.externality == 0
