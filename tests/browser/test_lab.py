"""Notebook 09 in the browser: a slider moves, and the page shows what the library computes."""

from __future__ import annotations

import time

import pytest
from finished import evaluation
from playwright.sync_api import expect

import sepo_kit as sk
from sepo_kit.evaluation.contenders import scripted, stored
from sepo_kit.evaluation.reweigh import ranking

HOSTILE = "<img src=x onerror='window.hurt=1;alert(1)'>"
GAME = "ipd"
WEIGHTS = ("exploit", "collusion", "externality")
METRICS = ("place", "safety", "payoff", "exploit", "collusion", "externality", "worst_case", "guaranteed")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of runs: strategies in models' clothes."""
    root = tmp_path_factory.mktemp("runs")
    for stage, strategy, seed in (
        ("base", "uniform", None), ("sft", "mixed-0.5", 0), ("sepo", "tit-for-tat", 0), ("sepo", "grim-trigger", 1)
    ):  # fmt: skip
        evaluation(root / "quick", GAME, stage, strategy, seed)
    evaluation(root / "quick", GAME, "sft", "always-defect", 0, model=HOSTILE)
    return root


@pytest.fixture(scope="module")
def lab(open_notebook, runs):
    with open_notebook("09_penalty_lab", runs=str(runs / "quick"), game=GAME) as page:
        page.run_all()
        page.show("PenaltyLab(")
        yield page


def slider(lab, weight: str):
    return lab.page.locator(f".sepo-weight-{weight} .noUi-handle")


def shown_weights(lab) -> sk.Weights:
    return sk.Weights(
        *(float(lab.page.locator(f".sepo-weight-{w} .widget-readout").inner_text()) for w in WEIGHTS)
    )


def shown_ranking(lab) -> dict[tuple[str, str], float]:
    cells = lab.page.locator(".sepo-lab .sepo-ranking td[data-metric]")
    found = cells.evaluate_all(
        "cells => cells.map(c => [c.dataset.agent, c.dataset.metric, c.dataset.value])"
    )
    return {(agent, metric): float(value) for agent, metric, value in found if metric in METRICS}


def expect_ranking(lab, runs, weights: sk.Weights) -> None:
    """Every number of the ranking on the page becomes the library's under ``weights``, but for the rounding of another
    order of summation: a tree's layers lie in the order in which questions were asked."""
    contenders = [*scripted(GAME), *stored([runs / "quick"], GAME).contenders]
    rows = ranking(sk.get_game(GAME).spec, contenders, weights).to_dict("records")
    numbers = {(row["agent"], metric): row[metric] for row in rows for metric in METRICS}
    expected = pytest.approx(numbers, rel=1e-12, abs=1e-12)
    until = time.monotonic() + 60
    while shown_ranking(lab) != expected and time.monotonic() < until:
        lab.page.wait_for_timeout(50)
    assert shown_ranking(lab) == expected


def test_the_lab_opens_with_the_librarys_numbers(lab, runs):
    expect_ranking(lab, runs, sk.get_game(GAME).spec.eval_weights)
    for picture in ("ranking", "front", "lines"):
        box = lab.pictures(lab.page.locator(f"img.sepo-picture-{picture}"), 1).bounding_box()
        assert 250 < box["width"] < 900
    assert lab.page.locator(".sepo-weight-exploit .noUi-target").bounding_box()["width"] > 250
    assert lab.page.locator(".Toastify__toast").count() == 0  # nobody asks whether news are wanted


def test_arrow_keys_move_a_weight_and_every_number_follows(lab, runs):
    before = shown_weights(lab)
    slider(lab, "exploit").focus()
    for _ in range(3):
        lab.page.keyboard.press("ArrowRight")
    expect(lab.page.locator(".sepo-weight-exploit .widget-readout")).to_have_text(
        f"{before.exploit + 0.15:.2f}"
    )
    expect_ranking(lab, runs, shown_weights(lab))


def test_the_mouse_drags_a_weight_and_every_number_follows(lab, runs):
    before = shown_weights(lab)
    handle = slider(lab, "externality")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lab.page.mouse.move(x, y)
    lab.page.mouse.down()
    lab.page.mouse.move(x + 70, y, steps=5)
    lab.page.mouse.up()
    after = shown_weights(lab)
    assert after.externality > before.externality + 1
    assert (after.exploit, after.collusion) == (before.exploit, before.collusion)
    expect_ranking(lab, runs, after)


def test_the_exact_policy_is_trained_at_the_press_of_a_button(lab):
    lab.page.get_by_role("button", name="train the exact policy").click()
    expect(lab.page.locator(".sepo-reference .sepo-policy")).to_be_visible()


def test_a_hostile_name_of_a_model_stays_text(lab):
    expect(lab.page.locator(".sepo-lab .sepo-ranking td", has_text=HOSTILE)).to_have_count(1)
    assert lab.page.locator("img[src='x']").count() == 0
    assert lab.page.evaluate("window.hurt") is None


def test_its_picture_for_the_tour(open_notebook, lab, real_runs, screenshots):
    picture = screenshots / "penalty-lab.png"
    if real_runs:
        with open_notebook("09_penalty_lab", runs=str(real_runs), game=GAME) as lab:
            lab.run_all()
            lab.screenshot(picture, of="PenaltyLab(")
    else:
        lab.screenshot(picture, of="PenaltyLab(")
    assert 20_000 < picture.stat().st_size < 200_000


def test_a_saved_lab_is_there_when_it_is_reopened(open_notebook, runs):
    """Without a kernel behind it: what was shown stays, as far as JupyterLab allows."""
    with open_notebook("09_penalty_lab", runs=str(runs / "quick"), game=GAME) as lab:
        lab.run_all()
        lab.show("PenaltyLab(")
        expect_ranking(lab, runs, sk.get_game(GAME).spec.eval_weights)
        lab.reopen()
        lab.show("PenaltyLab(")
        expect(slider(lab, "exploit")).to_be_visible()
        expect_ranking(lab, runs, sk.get_game(GAME).spec.eval_weights)
        front = lab.pictures(lab.page.locator("img.sepo-picture-front"), 1)
        assert front.evaluate("i => i.naturalWidth") > 250
        before = "w => [getComputedStyle(w, '::before').content, getComputedStyle(w, '::before').display]"
        says, shown = lab.page.locator(".sepo-lab").evaluate(before)
        assert "Run the cell to use the controls" in says and shown == "block"
        assert slider(lab, "exploit").evaluate(f"s => ({before})(s.closest('.widget-slider'))[1]") == "none"
