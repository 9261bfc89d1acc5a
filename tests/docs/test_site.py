"""The site is built without a warning, and its pages of games say what the games are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sepo_kit.games import KIT_GAMES

ROOT = Path(__file__).parents[2]
PARTS = [
    "Rules",
    "Spec",
    "What is seen",
    "Actions and payoffs",
    "Strategies and pools",
    "Harms",
    "Exact anchors",
    "A match",
]
# By hand or from the literature: payoff, exploit, worst case, collusion, externality.
ANCHORS = {
    ("ipd", "tit-for-tat"): ("2.7891", "0.3125", "0.6250", "0.0000", "0.1667"),
    ("kuhn", "nash"): ("0.0278", "0.0000", "0.0000", "0.0000", "0.0000"),
    ("kuhn", "uniform"): ("-0.1875", "0.5417", "0.9167", "0.0000", "0.0000"),  # OpenSpiel: NashConv 11/12
    ("kuhn", "always-pass"): ("-0.2963", "1.2222", "2.0000", "0.0000", "0.0000"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(folder / "trees")]
    built = subprocess.run([*command, "docs", str(folder / "html")], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert not built.stderr.strip()
    return folder / "html"


def text_of(page: Path) -> str:
    """What a page shows, without its markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_every_game_has_a_page_of_one_form(site):
    for game in KIT_GAMES.values():
        page = (site / "games" / f"{game.spec.id}.html").read_text(encoding="utf-8")
        assert re.findall(r"<h2>(.*?)<a", page) == PARTS
        shown = text_of(site / "games" / f"{game.spec.id}.html")
        assert all(re.search(rf"{re.escape(name)} ", shown) for name in game.strategies)
        assert page.count('<svg class="match"') == 1 and page.count('class="payoff"') == game.spec.rounds


@pytest.mark.slow
def test_exact_anchors_are_those_of_the_literature(site):
    for (game, strategy), numbers in ANCHORS.items():
        assert f" {strategy} {' '.join(numbers)} " in text_of(site / "games" / f"{game}.html"), (
            game,
            strategy,
        )


@pytest.mark.slow
def test_pages_ask_nothing_of_the_network(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img)\b[^>]*?(?:src|href)=\"(https?:[^\"]+)", page.read_text(encoding="utf-8")
        )
        assert not loaded, page.name


@pytest.mark.slow
def test_the_published_numbers_stand_beside_ours(site):
    shown = text_of(site / "reproduction.html")
    assert "published kuhn gemma-4-E4B-it" in shown and "ours kuhn pico" in shown
