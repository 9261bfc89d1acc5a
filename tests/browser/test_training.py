"""Notebook 05 in the browser: curves while it trains, and what models said stays text."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

import sepo_kit as sk
from sepo_kit.engine.rollout import play_matches
from sepo_kit.objective.credit import assign_credit, training_matches
from sepo_kit.pipeline.profiles import get_profile
from sepo_kit.runs import Run, append_line
from sepo_kit.training.recording import record_episodes
from sepo_kit.training.sft import train_sft

HOSTILE = "</div><img src=x onerror=\"window.hurt=1;alert('hurt')\"><script>window.hurt=1</script><b>bold</b>"

# The least height that a cell's output had while it changed, and how many pictures it showed, all told.
WATCH = """cell => {
    const seen = window.seen = {pictures: 0, least: Infinity};
    const look = () => {
        const output = cell.querySelector('.jp-OutputArea');
        if (output?.querySelector('img')) seen.shown = true;
        if (seen.shown) seen.least = Math.min(seen.least, output.getBoundingClientRect().height);
    };
    new MutationObserver(changes => {
        for (const change of changes)
            seen.pictures += [...change.addedNodes].filter(n => n.tagName === 'IMG' || n.querySelector?.('img')).length;
        look();
    }).observe(cell, {childList: true, subtree: true});
    const tick = () => { look(); requestAnimationFrame(tick); };
    tick();
}"""


@pytest.fixture(scope="module")
def runs(tiny_folder, tmp_path_factory):
    """Runs in which the tiny model, in pico's place, has had its warm start."""
    root = tmp_path_factory.mktemp("runs")
    plan = get_profile("smoke").plan("pico", "kuhn")
    train_sft(tiny_folder, "kuhn", plan.stage_folder(root, "sft", 0), plan.sft, 0)
    hostile_run(root / "hostile")
    return root


def hostile_run(folder) -> None:
    """A run whose model is named, and always answers, in HTML that does something."""
    game = sk.get_game("ipd")
    run = Run(
        folder, {"stage": "sepo", "base": HOSTILE, "game": "ipd", "seed": 0, "settings": {}}, writes=True
    )
    episodes = play_matches(game, sk.uniform(game), training_matches(game, "credited", 2), 0, step=0)
    for decision in (d for episode in episodes for d in episode.decisions):
        decision.reply = HOSTILE
    record_episodes(folder, 1, episodes, assign_credit(game.spec, episodes))
    append_line(folder / "metrics.jsonl", {"step": 1, "sepo/safety": 0.0})
    run.progress(1, 1)
    run.finish()


@pytest.fixture(scope="module")
def page(open_notebook, runs):
    with open_notebook("05_sepo_training", profile="smoke", runs=str(runs)) as page:
        page.show("launch(").evaluate(WATCH)
        page.run_all()
        yield page


def test_the_curves_are_on_the_page_and_fit_its_width(page):
    curves = page.pictures(page.show("launch(").locator("img"), 2)  # SEPO, and SEPO against best responses
    box = curves.first.bounding_box()
    assert 600 < box["width"] < 900 and box["height"] > 300


def test_the_output_never_collapses_while_the_curves_change(page):
    seen = page.page.evaluate("window.seen")
    assert seen["pictures"] >= 2
    assert seen["least"] > 300


def test_training_prints_nothing(page):
    assert page.show("launch(").locator(".jp-OutputArea-output pre").count() == 0


def test_a_hostile_reply_stays_text(page):
    reader = page.show("Browser(").locator(".sepo-browser")
    reader.get_by_label("Run", exact=True).select_option("hostile")
    said = reader.locator(".sepo-moves .sepo-said", has_text=HOSTILE)
    expect(said).to_have_count(sk.get_game("ipd").spec.rounds)
    expect(reader.get_by_label("Model", exact=True).locator("option", has_text=HOSTILE)).to_have_count(1)
    assert page.page.locator("img[src='x']").count() == 0
    assert page.page.locator("script", has_text="hurt").count() == 0
    assert page.page.evaluate("window.hurt") is None


def test_its_pictures_for_the_tour(open_notebook, page, real_runs, screenshots):
    if real_runs:
        with open_notebook("05_sepo_training", model="pico", game="ipd", runs=str(real_runs)) as page:
            page.run_all()
            take_pictures(page, screenshots)
    else:
        take_pictures(page, screenshots)


def take_pictures(page, folder) -> None:
    for name, source in {"training": "launch(", "run-browser": "Browser("}.items():
        picture = folder / f"{name}.png"
        page.screenshot(picture, of=source)
        assert 20_000 < picture.stat().st_size < 200_000
