"""The policies behind results can be read again, and give the numbers that were written."""

from __future__ import annotations

import pandas as pd
import pytest
from finished import kuhn_stages

import sepo_kit as sk
from sepo_kit.evaluation.policies import policies_of, stored_policies, write_policies
from sepo_kit.evaluation.results import read_results
from sepo_kit.pipeline.notebooks import PROJECT

KUHN = sk.get_game("kuhn")
PUBLISHED = PROJECT / "data" / "results"


@pytest.fixture
def files(tmp_path):
    return kuhn_stages(tmp_path)


def test_stored_policies_are_the_ones_that_were_evaluated(files):
    policies = stored_policies(files, "kuhn")
    assert list(policies) == [
        ("pico", "base", None),
        ("pico", "sepo", 0),
        ("pico", "sepo", 1),
        ("pico", "worst-case", 0),
    ]
    stored = read_results(files)
    for (_, stage, seed), policy in policies.items():
        of = stored["stage"].eq(stage) & (stored["seed"].isna() if seed is None else stored["seed"].eq(seed))
        worst = stored.loc[of & stored["metric"].eq("worst_case"), "value"].item()
        assert sk.exact.worst_case(KUHN, policy).advantage == pytest.approx(worst, abs=1e-12)
    assert stored_policies(files, "leduc") == {}


def test_they_are_written_and_read_as_one_table(files, tmp_path):
    (path,) = write_policies(files, tmp_path, "mine")
    assert path.name == "mine-policies.parquet"
    again = policies_of(pd.read_parquet(path), "kuhn")
    for key, policy in stored_policies(files, "kuhn").items():
        assert {k: list(v) for k, v in again[key].table.items()} == {
            k: list(v) for k, v in policy.table.items()
        }
    assert write_policies([], tmp_path, "none") == [] and not (tmp_path / "none-policies.parquet").exists()


def published(profile):
    """The rows of a published table with the policy that each is of."""
    table = pd.read_csv(PUBLISHED / f"{profile}.csv")
    frame = pd.read_parquet(PUBLISHED / f"{profile}-policies.parquet")
    for game in frame["game"].unique():
        for (model, stage, seed), policy in policies_of(frame, game).items():
            own = (table["model"] == model) & (table["game"] == game) & (table["stage"] == stage)
            rows = table[own & (table["seed"].isna() if seed is None else table["seed"] == seed)]
            yield game, stage, policy, rows.set_index("metric")["value"]


def test_the_published_worst_cases_come_out_again():
    """Of every agent whose policy is kept: what the best of all adversaries gains, and what the pool does; up to the
    float32 of a model that was asked in other batches."""
    met = set()
    for game, stage, policy, value in [*published("worst-case"), *published("worst-case-leduc")]:
        met.add((game, stage))
        assert sk.exact.worst_case(game, policy).advantage == pytest.approx(value["worst_case"], abs=1e-4)
        found = sk.exact.terms(game, policy)
        assert found.exploit == pytest.approx(value["exploit"], abs=1e-4)
        assert found.payoff == pytest.approx(value["payoff"], abs=1e-4)
    stages = ("base", "sft", "sepo", "worst-case")
    assert met == {(game, stage) for game in ("kuhn", "leduc") for stage in stages}


def test_smollm2_plays_kuhn_poker_within_three_hundredths_of_a_chip_of_unexploitable():
    worst = [
        sk.exact.worst_case("kuhn", policy).advantage
        for game, stage, policy, _ in published("worst-case")
        if (game, stage) == ("kuhn", "worst-case") and policy.name.startswith("smollm2")
    ]
    assert len(worst) == 3 and max(worst) <= 0.03
