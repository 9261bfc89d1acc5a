"""Notebook 01 in the browser: who beats whom, and a match of Kuhn poker played by hand."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

import sepo_kit as sk
from sepo_kit.engine.sitting import Sitting
from sepo_kit.evaluation.match import opponent, opponents, score


@pytest.fixture(scope="module")
def page(open_notebook, tmp_path_factory):
    runs = tmp_path_factory.mktemp("no-runs")
    with open_notebook("01_games", games=["ipd", "kuhn"], episodes=20, runs=str(runs)) as page:
        page.run_all()
        yield page


def test_every_game_has_its_matrix(page):
    expect(page.show("cross_play(").locator("img")).to_have_count(2)


def test_a_match_of_kuhn_poker_is_played_by_keyboard_and_mouse(page, screenshots):
    """Hand by hand the page says what the same match says without a browser; the opponent's card stays hidden."""
    game = sk.get_game("kuhn")
    against = next(iter(opponents(game).values()))
    same = Sitting(game, opponent(game, against), 0, seed=0)
    table = page.show("Table(").locator(".sepo-table")
    while not same.over:
        prompt = table.locator(".sepo-prompt")
        expect(prompt).to_have_text(same.prompt)
        offered = table.locator("button.sepo-action:visible")
        expect(offered).to_have_text(list(same.legal_actions))
        action = same.legal_actions[same.round % 2]
        button = offered.get_by_text(action, exact=True)
        if same.round % 2:
            button.focus()
            page.page.keyboard.press("Enter")
        else:
            button.click()
        hand = same.round
        same.act(action)
        if same.round > hand:
            told = table.locator(f'.sepo-log tr[data-round="{hand + 1}"] .sepo-number')
            expect(told.nth(1)).to_have_text(f"{same.rounds[hand].outcome.payoffs[0]:g}")
        if same.round == 3:
            page.screenshot(screenshots / "table.png", of="Table(")
    expect(table.locator(".sepo-prompt")).to_have_text("The match is over after 6 hands.")
    for row in score(same).itertuples():
        shown = table.locator(f'.sepo-score tr[data-who="{row.who}"]')
        for term in ("payoff", "exploit", "collusion", "externality"):
            expect(shown.locator(f'[data-term="{term}"]')).to_have_text(f"{getattr(row, term):.3f}")


# The contrast of WCAG 2.2 between the colour of an element's text and the ground that it stands on.
CONTRAST = """element => {
    const parts = color => color.match(/[\\d.]+/g).map(Number);
    const light = color => parts(color).slice(0, 3).map(p => p / 255)
        .map(p => p <= 0.04045 ? p / 12.92 : ((p + 0.055) / 1.055) ** 2.4)
        .reduce((sum, p, i) => sum + p * [0.2126, 0.7152, 0.0722][i], 0);
    let ground = element;
    while (parts(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
    const both = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor].map(light).sort();
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
}"""


def test_both_seats_and_pictures_can_be_read_in_both_themes(page):
    """After the match above: its moves are on the page."""

    def readable(kept):
        table = page.show("Table(").locator(".sepo-log tbody")
        for seat in ("you", "other"):
            cells = table.locator(f".sepo-{seat}")
            expect(cells).to_have_count(6)
            assert min(cells.evaluate_all(f"cells => cells.map({CONTRAST})")) >= 4.5
        drawn = page.show("cross_play(").locator("img").first.evaluate("i => getComputedStyle(i).filter")
        assert (drawn == "none") == kept

    readable(kept=True)
    with page.dark():
        readable(kept=False)
