"""The table, played through its widgets: the library's rules and scores, hostile text as text, bad input as a line."""

import html
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

import sepo_kit as sk
from sepo_kit.engine.episode import Decision
from sepo_kit.engine.policy import NoDistribution, Policy, StrategyPolicy
from sepo_kit.evaluation import match
from sepo_kit.evaluation.match import score, transcript
from sepo_kit.games.base import Strategy, surely
from sepo_kit.models.language_model import LanguageModel
from sepo_kit.runs import Run
from sepo_kit.widgets import table as module
from sepo_kit.widgets.table import Table

HOSTILE = '</td><script>alert("x")</script><img src=x onerror=alert(1)><b>bold</b>'


def press(table, action):
    (button,) = [b for b in table.actions.children if b.description == action]
    button.click()


def shown(widget):
    """The text of an HTML widget, as a reader sees it."""
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", widget.value, flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


def terms(table):
    """The numbers of the score on the page: (row, term) -> value."""
    found = {}
    for who, row in re.findall(r'<tr data-who="([^"]+)">(.*?)</tr>', table.score.value):
        for term, value in re.findall(r'data-term="(\w+)">(-?[\d.]+)<', row):
            found[html.unescape(who), term] = float(value)
    return found


def labels(table):
    return [child.description for child in table.actions.children]


def test_a_kuhn_hand_and_the_whole_match():
    table = Table(game="kuhn", seed=4)
    game = sk.get_game("kuhn")
    assert table.opponent.value == "nash" and labels(table) == ["PASS", "BET"]
    assert shown(table.prompt) == table.sitting.prompt
    first = table.sitting.seen
    press(table, "BET")
    assert len(table.sitting.rounds) >= 1
    outcome = table.sitting.rounds[0].outcome
    assert outcome.actions[0] == ("BET",) and outcome.private[0] == first.card
    told = transcript(table.sitting).iloc[0]
    assert f"1 BET {told['opponent']} {told['own']:g} {told['their']:g}" in shown(table.told)
    assert table.score.value == ""
    while not table.sitting.over:
        press(table, labels(table)[0])
    assert shown(table.prompt) == "The match is over after 6 hands." and table.actions.children == ()
    library = score(table.sitting).set_index("who")
    assert terms(table) == {
        (who, term): round(float(library.loc[who, term]), 3)
        for who in library.index
        for term in library.columns
    }
    assert library.loc["you", "payoff"] == -library.loc["nash", "payoff"]
    assert "payoff (chips per hand)" in shown(table.score) and game.spec.unit == "hand"


@pytest.mark.parametrize("game", sk.GAMES)
@pytest.mark.parametrize("seat", [0, 1])
def test_every_game_can_be_played_to_its_score(game, seat):
    table = Table(game=game)
    table.seat.value = seat
    while not table.sitting.over:
        children = table.actions.children
        assert labels(table) == list(table.sitting.legal_actions) or children[-1] is table.actions.submit
        children[-1].click()
    assert len(table.sitting.rounds) == sk.get_game(game).spec.rounds
    assert ("you", "collusion") in terms(table) and table.line.value == ""


def test_demands_are_chosen_item_by_item():
    table = Table(game="negotiation_v2", seed=1)
    pool = table.sitting.seen.pool
    books, hats, balls = table.actions.lists
    assert [len(chooser.options) for chooser in (books, hats, balls)] == [n + 1 for n in pool]
    hats.value = f"HATS={pool[1]}"
    assert table.actions.chosen == f"BOOKS=0 HATS={pool[1]} BALLS=0"
    table.actions.submit.click()
    assert table.sitting.turns[0].action == f"BOOKS=0 HATS={pool[1]} BALLS=0"
    assert hats.value == f"HATS={pool[1]}"  # what was chosen stays chosen


def test_keyboard_focus_stays_where_it_was():
    """A widget that is replaced loses the keyboard: the same buttons serve the whole match."""
    table = Table(game="kuhn", seed=0)
    before = table.actions.children
    while not table.sitting.over:
        assert table.actions.children == before
        before[0].click()


def test_probabilities_and_reasons_can_be_shown_and_hidden():
    table = Table(game="ipd")
    table.opponent.value = "tit-for-tat"
    press(table, "DEFECT")
    press(table, "DEFECT")
    reason = table.sitting.turns[-1].reason
    assert reason not in shown(table.told)
    table.reveal.value = True
    assert reason in shown(table.told) and "COOPERATE 0.00, DEFECT 1.00" in shown(table.told)
    table.reveal.value = False
    assert reason not in shown(table.told)


def test_a_new_match_has_new_chances_and_another_game_another_table():
    table = Table(game="kuhn", seed=0)
    cards = set()
    for _ in range(8):
        cards.add(shown(table.prompt))
        table.again.click()
        assert table.told.value == table.score.value == ""
    assert len(cards) > 1
    again = Table(game="kuhn", seed=0)
    assert shown(again.prompt) in cards
    table.game.value = "ipd"
    assert labels(table) == ["COOPERATE", "DEFECT"] and table.opponent.value == "tit-for-tat"
    table.game.value = "kuhn"
    assert labels(table) in (["PASS", "BET"], ["FOLD", "CALL"]) and table.opponent.value == "nash"


def test_a_trained_run_sits_opposite(tmp_path, tiny_folder):
    from sepo_kit.training.grpo import train_sepo
    from sepo_kit.training.settings import SEPOSettings

    settings = SEPOSettings(steps=1, rollouts=2, learning_rate=1e-3, beta=0.1, lora_r=4)
    train_sepo(tiny_folder, "kuhn", tmp_path / "runs" / "mine", settings)
    table = Table(tmp_path / "runs", game="kuhn")
    table.opponent.value = str(tmp_path / "runs" / "mine")
    assert isinstance(table.sitting.opponent, LanguageModel)
    table.reveal.value = True
    while not table.sitting.over:
        press(table, labels(table)[0])
    theirs = [turn for turn in table.sitting.turns if turn.seat == 1]
    assert match.stated(theirs[0].probabilities) in shown(table.told)
    assert ("mine", "payoff") in terms(table)


def test_the_reference_policy_sits_opposite():
    table = Table(game="kuhn")
    table.opponent.value = match.REFERENCE
    assert table.sitting.opponent.name == "reference policy (key)"
    press(table, labels(table)[0])
    assert table.sitting.turns


class Talker(Policy):
    """A model that says something nasty."""

    name = f"model {HOSTILE}"

    def distributions(self, seen):
        raise NoDistribution("it only talks")

    def act(self, seen, uniforms):
        return [
            Decision(state.legal_actions[0], None, reply=f"{HOSTILE}\n{state.legal_actions[0]}")
            for state in seen
        ]


def test_hostile_replies_are_text(monkeypatch):
    monkeypatch.setattr(module, "opponent", lambda game, name: Talker())
    table = Table(game="ipd")
    table.reveal.value = True
    while not table.sitting.over:
        press(table, "DEFECT")
    assert HOSTILE in shown_exactly(table.told) and HOSTILE in shown_exactly(table.score)
    for widget in (table.told, table.score, table.prompt, table.line):
        assert "<script" not in widget.value and "<img" not in widget.value and "<b>" not in widget.value


def shown_exactly(widget):
    return html.unescape(widget.value)


def test_hostile_reasons_of_a_users_strategy_are_text(monkeypatch):
    class Nasty(Strategy):
        id = "nasty"

        def distribution(self, seen):
            return surely(seen.legal_actions[0])

        def explain(self, seen, action):
            return HOSTILE

    monkeypatch.setattr(module, "opponent", lambda game, name: StrategyPolicy(Nasty()))
    table = Table(game="ipd")
    table.reveal.value = True
    press(table, "DEFECT")
    assert "<script" not in table.told.value and HOSTILE in shown_exactly(table.told)


def test_an_opponent_that_cannot_play_is_a_line(tmp_path):
    run = Run(
        tmp_path / "run",
        {"stage": "sepo", "base": "pico", "game": "kuhn", "seed": 0, "settings": {}},
        writes=True,
    )
    (run.path / "adapter").mkdir()
    (run.path / "adapter" / "adapter_model.safetensors").touch()
    run.finish()
    table = Table(tmp_path, game="kuhn")
    shutil.rmtree(run.path / "adapter")  # after it was offered
    table.opponent.value = str(tmp_path / "run")
    assert "trained no model, or its adapter was deleted" in shown(table.line)
    assert table.actions.children == () and table.prompt.value == ""
    table.opponent.value = "nash"
    assert table.line.value == "" and labels(table)


def test_a_press_that_comes_late_does_nothing(tmp_path):
    """A browser may send a press for a match that is being changed, or for an action that is no longer legal."""
    table = Table(game="kuhn", seed=4)
    (button, _) = table.actions.children
    before = list(table.sitting.turns)
    button.description = "CALL" if "CALL" not in table.sitting.legal_actions else "BET"
    button.click()
    assert table.sitting.turns == before and table.line.value == ""
    held = []
    table.line.observe(lambda _: held.append([b.disabled for b in table.actions.children]), "value")
    table.opponent.value = "always-bet"
    assert held[0] == [True, True]  # while the opponent is being seated
    assert not any(b.disabled for b in table.actions.children)
    table.sitting = None
    button.click()
    assert table.line.value == ""


def test_an_opponent_that_fails_is_a_line_and_the_match_stays(monkeypatch):
    table = Table(game="ipd")
    monkeypatch.setattr(
        table.sitting.opponent, "act", lambda *_: (_ for _ in ()).throw(FloatingPointError("not finite <b>"))
    )
    press(table, "DEFECT")
    assert shown(table.line) == "not finite <b>" and "<b>" not in table.line.value
    assert table.sitting.round == 0
    monkeypatch.undo()
    press(table, "DEFECT")
    assert table.sitting.round == 1 and table.line.value == ""


def test_no_runs_and_broken_runs_do_not_stop_play(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("{")
    for runs in (None, tmp_path / "none", tmp_path):
        table = Table(runs, game="kuhn")
        assert labels(table) and "bad" not in str(table.opponent.options)


def test_what_hides_opponents_is_said_beside_the_match(tmp_path, monkeypatch):
    """The match begins all the same, and does not wipe the line."""

    def unreadable(game, runs=None):
        if runs is not None:
            raise PermissionError(13, "Permission denied", str(runs))
        return match.opponents(game)

    monkeypatch.setattr(module, "opponents", unreadable)
    table = Table(tmp_path, game="kuhn")
    assert "Permission denied" in shown(table.line) and labels(table) and table.opponent.value == "nash"
    table.again.click()
    assert table.line.value == ""


def test_games_of_one_title_are_told_apart(monkeypatch):
    class Twin(type(sk.get_game("ipd"))):
        spec = replace(sk.get_game("ipd").spec, id="ipd-twin")

    monkeypatch.setitem(sk.GAMES._known, "ipd-twin", Twin())
    for game in ("ipd", "ipd-twin"):
        table = Table(game=game)
        assert table.game.value == game and table.sitting.game.spec.id == game
        assert table.game.label == f"{sk.get_game('ipd').spec.title} [{game}]"
    assert "Kuhn poker" in dict(table.game.options)


def test_unknown_game():
    with pytest.raises(ValueError, match="unknown game 'chess'"):
        Table(game="chess")


def test_sitting_down_needs_no_torch():
    code = (
        "import sys; from sepo_kit.widgets.table import Table; t = Table(game='kuhn');"
        "t.actions.children[0].click(); assert t.sitting.turns; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
