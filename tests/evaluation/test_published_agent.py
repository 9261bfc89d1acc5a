"""The agent whose weights are published is as good as its results say."""

from __future__ import annotations

from pathlib import Path

import pytest

import sepo_kit as sk
from sepo_kit.evaluation.results import read_result
from sepo_kit.runs import WEIGHTS

PUBLISHED = Path(__file__).parents[2] / "data" / "results" / "smollm2"
KUHN = PUBLISHED / "smollm2-135m" / "kuhn"


def test_its_worst_case_is_computed_again():
    told = {
        row["metric"]: row["value"]
        for row in read_result(KUHN / "results" / "worst-case-seed-0.json")["metrics"]
    }
    agent = sk.language_model(sk.load_model(KUHN / "worst-case-seed-0"), "kuhn", temperature=0.8)
    found = sk.evaluate(agent, "kuhn", exact=True)
    worst, payoff = found.estimates["worst_case"].value, found.estimates["payoff"].value
    assert worst == pytest.approx(told["worst_case"], abs=1e-4) and told["worst_case"] < 0.01
    assert payoff == pytest.approx(told["payoff"], abs=1e-4)


def test_published_weights_stay_small():
    sizes = [file.stat().st_size for file in (PUBLISHED.parent).rglob(WEIGHTS)]
    assert sizes and sum(sizes) < 30e6
