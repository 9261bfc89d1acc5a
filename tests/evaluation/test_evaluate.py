"""Reports: sampled against exact, the weights, and what cannot be evaluated."""

import numpy as np
import pytest

import sepo_kit as sk
from sepo_kit.engine.episode import decision_frame, round_frame
from sepo_kit.engine.simulate import simulate
from sepo_kit.evaluation.episode_means import MEANS, EpisodeMeans
from sepo_kit.evaluation.evaluate import METRICS, luck
from sepo_kit.objective.terms import Against, safety, terms_of


@pytest.mark.parametrize("game", ["ipd", "kuhn"])
def test_sampled_intervals_hold_the_exact_numbers(game):
    agent = sk.uniform(sk.get_game(game))
    sampled, exact = sk.evaluate(agent, game, episodes=200, seed=1), sk.evaluate(agent, game, exact=True)
    inside = [
        estimate.low - 1e-9 <= exact.estimates[name].value <= estimate.high + 1e-9
        for name, estimate in sampled.estimates.items()
        if estimate.value is not None
    ]
    # 95 % intervals of eight dependent numbers: one may miss.
    assert sum(inside) >= len(inside) - 1


def test_a_report_prints_its_numbers_and_not_its_record():
    report = sk.evaluate(sk.uniform(sk.get_game("ipd")), "ipd", episodes=20)
    assert report.episodes and len(repr(report)) < 3_000
    assert f"payoff={report.terms.payoff}" in repr(report)


def test_a_report_has_one_row_per_metric_and_safety_follows_the_weights():
    agent = sk.scripted(sk.get_game("ipd"), "tit-for-tat")
    frame = sk.evaluate(agent, "ipd", exact=True).to_frame()
    assert list(frame["metric"]) == list(METRICS)
    assert sk.evaluate(agent, "ipd", exact=True).safety == pytest.approx(1.7390625)
    free = sk.evaluate(agent, "ipd", exact=True, weights=sk.Weights(0, 0, 0))
    assert free.safety == pytest.approx(2.7890625)


def test_nra_is_not_defined_in_a_zero_sum_game():
    report = sk.evaluate(sk.scripted(sk.get_game("kuhn"), "nash"), "kuhn", episodes=5)
    assert report.nra is None
    assert np.isnan(report.to_frame().set_index("metric").loc["nra", "value"])


def test_what_it_is_worth_to_enumerate():
    """docs/howto/evaluate.md: 100 episodes per opponent leave a standard error of 0.22, here of 60 samples."""
    game = sk.get_game("kuhn")
    agent = sk.uniform(game)
    weighed = [member for member in game.opponents if member[0] != "shift"]
    played = [simulate(game, agent, name, 6_000, 5, pool) for pool, name in weighed]
    means = {  # (60, 4): own, their, collusion, externality of each sample
        member: np.stack([getattr(p, name).reshape(60, -1).mean(axis=1) for name in MEANS], axis=1)
        for member, p in zip(weighed, played, strict=True)
    }
    found = [
        safety(game.spec, terms_of(game.spec, {m: Against(*rows[i]) for m, rows in means.items()}))
        for i in range(60)
    ]
    assert np.std(found, ddof=1) == pytest.approx(0.22, rel=0.25)
    exact = sk.evaluate(agent, game, exact=True).safety
    assert np.mean(found) == pytest.approx(exact, abs=4 * 0.22 / np.sqrt(60))


def test_the_luck_of_the_deal_is_taken_out_where_nature_deals():
    """In the auction a bidder with high values earns more, so the intervals of payoff shrink."""
    game = sk.get_game("auction")
    agent = sk.scripted(game, "truthful")
    plain, fair = (
        sk.evaluate(agent, game, 20, seed=1, worst_case="none", control_variate=on) for on in (False, True)
    )
    lucky = luck(game, plain.episodes)
    met = [i for i, episode in enumerate(plain.episodes) if episode.opponent == "conservative"]
    own = [np.mean(plain.episodes[i].own) for i in met]
    assert np.corrcoef(lucky[met], own)[0, 1] > 0.7
    wide, narrow = plain.estimates["payoff"], fair.estimates["payoff"]
    assert narrow.high - narrow.low < 0.85 * (wide.high - wide.low)
    with pytest.raises(ValueError, match="with a control variate episodes must be >= 3, got 2"):
        sk.evaluate(agent, game, 2, control_variate=True)


def test_one_episode_per_opponent_has_no_interval():
    found = sk.evaluate(sk.uniform(sk.get_game("kuhn")), "kuhn", episodes=1).estimates
    assert all(found[name].low is None is found[name].high for name in METRICS if name != "worst_case")
    assert found["worst_case"].low == found["worst_case"].value  # which is exact


def test_the_same_seed_gives_the_same_report_and_another_does_not():
    agent = sk.uniform(sk.get_game("kuhn"))
    first, second, other = (sk.evaluate(agent, "kuhn", episodes=5, seed=s) for s in (0, 0, 1))
    assert first.to_frame().equals(second.to_frame())
    assert not first.to_frame().equals(other.to_frame())


@pytest.mark.parametrize("game_id", sk.GAMES)
def test_stored_decisions_give_the_same_means_as_the_episodes(game_id):
    game = sk.get_game(game_id)
    report = sk.evaluate(sk.uniform(game), game, episodes=5)
    stored = decision_frame(report.episodes)
    played = EpisodeMeans.of_episodes(game.spec, report.episodes)
    read = EpisodeMeans.of_tables(game.spec, round_frame(report.episodes), stored)
    assert read.names == played.names
    for name in ("group", "means", "decisions", "unread"):
        np.testing.assert_allclose(getattr(read, name), getattr(played, name), atol=1e-12, err_msg=name)
    rows = stored[stored["pool"] == "train"].drop_duplicates(["opponent", "index", "round"])
    assert read.terms()[0].payoff == pytest.approx(rows.groupby("opponent")["own"].mean().mean())


def test_a_table_of_decisions_that_is_not_whole_is_refused():
    game = sk.get_game("ipd")
    episodes = sk.play(game, sk.uniform(game), "mixed-0.5", episodes=2)
    stored, rounds = decision_frame(episodes), round_frame(episodes)
    with pytest.raises(ValueError, match="no column own, round"):
        EpisodeMeans.of_tables(game.spec, rounds.drop(columns=["own", "round"]), stored)
    with pytest.raises(ValueError, match="no column seat"):
        EpisodeMeans.of_tables(game.spec, rounds, stored.drop(columns="seat"))
    with pytest.raises(ValueError, match="8 rounds, and some are missing"):
        EpisodeMeans.of_tables(game.spec, rounds[rounds["round"] != 3], stored)
    with pytest.raises(ValueError, match="not those of the rounds, and some are missing"):
        EpisodeMeans.of_tables(game.spec, rounds, stored[stored["round"] != 3])
    with pytest.raises(ValueError, match="not those of the rounds"):
        EpisodeMeans.of_tables(game.spec, rounds, stored.assign(index=stored["index"] + 2))


def test_no_episodes_and_unknown_games_are_errors():
    game = sk.get_game("ipd")
    with pytest.raises(ValueError, match="episodes must be a whole number >= 1"):
        sk.evaluate(sk.uniform(game), game, episodes=0)
    with pytest.raises(ValueError, match="known: ipd"):
        sk.evaluate(sk.uniform(game), "chess")
