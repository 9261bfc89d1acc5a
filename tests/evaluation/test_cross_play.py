"""Cross-play: every pair is there, and the numbers are those of the exact solver."""

import numpy as np
import pytest

import sepo_kit as sk
from sepo_kit.evaluation.cross_play import cross_play


@pytest.mark.parametrize("game", sk.GAMES)
def test_every_pair_is_played_within_the_bounds(game):
    pairs, spec = cross_play(game, episodes=20), sk.get_game(game).spec
    names = list(sk.get_game(game).strategies)
    assert list(zip(pairs["agent"], pairs["opponent"], strict=True)) == [(a, o) for a in names for o in names]
    low, high = spec.payoff_bounds
    assert pairs[["own", "their"]].stack().between(low, high).all()
    if spec.zero_sum:
        np.testing.assert_allclose(pairs["own"], -pairs["their"], atol=1e-12)


def test_cells_agree_with_enumeration():
    game = sk.get_game("kuhn")
    pairs = cross_play(game, episodes=2_000)
    for row in pairs.itertuples():
        exact = sk.exact.results(game, sk.scripted(game, row.agent), [("train", row.opponent)])
        assert abs(row.own - exact["train", row.opponent].own) <= 5 * row.error + 1e-9


def test_deterministic_pairs_have_no_error():
    pairs = cross_play("ipd", episodes=5).set_index(["agent", "opponent"])
    cell = pairs.loc[("tit-for-tat", "always-defect")]
    assert (cell["own"], cell["their"], cell["error"]) == (0.875, 1.5, 0.0)


def test_one_episode_is_an_error():
    with pytest.raises(ValueError, match="episodes must be >= 2"):
        cross_play("ipd", episodes=1)
