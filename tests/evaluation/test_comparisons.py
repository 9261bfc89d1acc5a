"""Differences of stages: paired on the same draws, with p-values that are corrected for their number."""

import json

import numpy as np
import pandas as pd
import pytest
from finished import evaluation, kuhn_stages
from scipy import stats

import sepo_kit as sk
from sepo_kit.engine.rollout import matches, play_matches
from sepo_kit.evaluation.comparisons import COLUMNS, differences, holm, p_value, write_differences
from sepo_kit.evaluation.results import read_results
from sepo_kit.evaluation.statistics import over_seeds
from sepo_kit.games.base import POOLS
from sepo_kit.runs import RunError

KUHN = sk.get_game("kuhn")


@pytest.mark.parametrize("game_id", sk.GAMES)
def test_all_agents_of_a_game_meet_the_same_draws(game_id):
    """What nature deals before anybody has moved, and what an opponent does that moves at the same time."""
    game = sk.get_game(game_id)
    agents = (sk.uniform(game), sk.scripted(game, next(iter(game.strategies))))
    met = []
    for agent in agents:
        played = play_matches(game, agent, matches(game, POOLS, 3), 10_000, common_random_numbers=False)
        met.append([_met(episode.path) for episode in played])
    assert met[0] == met[1]
    assert len(set(met[0])) > 1  # and not always the same ones


def _met(path):
    first = next(i for i, event in enumerate(path) if isinstance(event, tuple))
    return (*path[:first], path[first][1:])


@pytest.mark.parametrize("game_id", ["kuhn", "auction"])
def test_every_later_deal_is_the_same_too(game_id):
    game = sk.get_game(game_id)
    todo = matches(game, POOLS, 2)
    dealt = [
        [[event for event in episode.path if not isinstance(event, tuple)] for episode in played]
        for played in (
            play_matches(game, agent, todo, 7, common_random_numbers=False)
            for agent in (sk.uniform(game), sk.scripted(game, next(iter(game.strategies))))
        )
    ]
    assert dealt[0] == dealt[1]


def betting(chance):
    """An agent of Kuhn poker that puts in a chip with ``chance``, whatever its card."""
    rows = {
        state.key: [chance if action in ("BET", "CALL") else 1 - chance for action in state.legal_actions]
        for state in sk.exact.information_states(KUHN)
    }
    return sk.tabular(KUHN, rows)


def sampled_stages(root, episodes=30):
    """Result files of an agent that learned to bet a little less."""
    evaluation(root, "kuhn", "sft", betting(0.5), 0, episodes=episodes)
    evaluation(root, "kuhn", "sepo", betting(0.4), 0, episodes=episodes)
    return sorted(root.glob("*/kuhn/results/*.json"))


def row_of(frame, metric, stage="sepo", minus="sft"):
    (row,) = frame.query(f"metric == '{metric}' and stage == '{stage}' and minus == '{minus}'").to_dict(
        "records"
    )
    return row


def test_a_difference_is_that_of_the_results_and_the_pairs_make_it_sharper(tmp_path):
    files = sampled_stages(tmp_path)
    row = row_of(differences(files), "payoff")
    results = read_results(files).query("metric == 'payoff'").set_index("stage")
    assert row["value"] == pytest.approx(results["value"]["sepo"] - results["value"]["sft"])
    assert (row["seeds"], row["interval"]) == (1, "episodes")
    exact = [sk.exact.terms(KUHN, betting(chance)).payoff for chance in (0.5, 0.4)]
    assert row["low"] <= exact[1] - exact[0] <= row["high"]
    apart = np.hypot(*(results["high"] - results["low"]).to_numpy(float))  # its width on draws of their own
    assert row["high"] - row["low"] < 0.6 * apart


def test_seeds_are_paired_and_a_base_model_meets_each(tmp_path):
    files = kuhn_stages(tmp_path)
    found = differences(files)
    assert list(found.columns) == list(COLUMNS)
    values = read_results(files).query("metric == 'safety'").set_index(["stage", "seed"])["value"]
    each = [values["sepo", seed] - values["base"].iloc[0] for seed in (0, 1)]
    row, expected = row_of(found, "safety", "sepo", "base"), over_seeds(each)
    assert [row["value"], row["low"], row["high"]] == pytest.approx(
        [expected.value, expected.low, expected.high]
    )
    assert row["p"] == pytest.approx(stats.ttest_1samp(each, 0.0).pvalue)
    assert (row["seeds"], row["interval"]) == (2, "seeds")
    only = row_of(found, "worst_case", "worst-case", "sepo")  # seed 0 alone has both
    assert (only["seeds"], only["interval"]) == (1, "none") and only["low"] == only["high"] == only["value"]
    assert np.isnan(only["p"]) and np.isnan(only["p_holm"])


def test_a_worst_case_between_bounds_has_no_difference(tmp_path):
    files = kuhn_stages(tmp_path)
    (base,) = [file for file in files if file.stem == "base"]
    whole = json.loads(base.read_text())
    for metric in whole["metrics"]:
        if metric["metric"] == "worst_case":
            metric["high"] = None
    base.write_text(json.dumps({k: v for k, v in whole.items() if k != "seal"}))
    found = differences(files)
    bounded = found[found["minus"] == "base"]
    assert not set(bounded["metric"]) & {"worst_case", "guaranteed"} and "safety" in set(bounded["metric"])
    assert "guaranteed" in set(found[found["minus"] == "sepo"]["metric"])


def test_p_is_five_percent_where_the_interval_ends_at_0():
    each, within = np.array([0.5, 1.0, 1.8]), (0.4, 0.3)
    error = each.std(ddof=1) / np.sqrt(3)
    low = over_seeds(each, within).low
    shifted = each - low
    assert over_seeds(shifted, within).low == pytest.approx(0)
    assert p_value(shifted.mean(), error, 3, within[0], 20) == pytest.approx(0.05)
    assert p_value(shifted.mean() * 1.1, error, 3, within[0], 20) < 0.05
    assert p_value(0.0, error, 3, 0.0, 0) == 1.0


def test_holm_corrects_over_the_games_of_a_table(tmp_path):
    """By hand: 0.005 * 4, then 0.01 * 3, then 0.03 * 2, and no smaller than the one before."""
    corrected = holm([0.01, 0.04, 0.03, 0.005, float("nan")])
    assert corrected[:4].tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02]) and np.isnan(corrected[4])
    files = kuhn_stages(tmp_path)
    for seed, strategy in enumerate(("uniform", "tight-passive")):
        evaluation(tmp_path, "kuhn", "sepo", strategy, seed, model="other", exact=True)
    evaluation(tmp_path, "kuhn", "base", "always-bet", model="other", exact=True)
    found = differences([*files, *sorted(tmp_path.glob("other/kuhn/results/*.json"))])
    family = found[(found["metric"] == "payoff") & (found["stage"] == "sepo")]
    assert family["model"].tolist() == ["pico", "other"]
    assert family["p_holm"].tolist() == holm(family["p"]).tolist() != family["p"].tolist()


def test_agents_that_met_other_draws_are_not_compared(tmp_path):
    evaluation(tmp_path, "kuhn", "sft", betting(0.5), 0, episodes=4)
    evaluation(tmp_path, "kuhn", "sepo", betting(0.4), 0, episodes=5)
    files = sorted(tmp_path.glob("*/kuhn/results/*.json"))
    with pytest.raises(
        RunError, match="sepo seed 0 and pico on kuhn, sft seed 0 were not evaluated on the same draws"
    ):
        differences(files)
    files[0].with_suffix(".rounds.parquet").unlink()
    with pytest.raises(RunError, match="is missing: no episodes to compare; evaluate again"):
        differences(files)


def test_differences_are_written_beside_the_table(tmp_path):
    (path,) = write_differences(kuhn_stages(tmp_path / "runs"), tmp_path / "out", "mine")
    assert path.name == "mine-differences.csv"
    written = pd.read_csv(path)
    assert list(written.columns) == list(COLUMNS) and len(written) > 10
    assert write_differences([], tmp_path / "out", "none") == []
