"""The run browser, driven through its widgets: what lies in folders, hostile text as text, bad folders as a line."""

import html
import re
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

import sepo_kit as sk
from sepo_kit.engine.episode import Decision
from sepo_kit.engine.policy import NoDistribution, Policy
from sepo_kit.engine.rollout import play_matches
from sepo_kit.evaluation import archive
from sepo_kit.games.base import Pools
from sepo_kit.objective.credit import assign_credit, training_matches
from sepo_kit.runs import Run, append_line
from sepo_kit.training.recording import record_episodes
from sepo_kit.widgets.browser import Browser, moves_html

HOSTILE = '</div><script>alert("x")</script><img src=x onerror=alert(1)><b>bold</b>'


def make_run(folder, game="kuhn", stage="sepo", seed=0, recorded=(2, 3)):
    """A finished run with curves and, for SEPO, recorded episodes."""
    run = Run(
        folder, {"stage": stage, "base": "pico", "game": game, "seed": seed, "settings": {}}, writes=True
    )
    for step in (1, 2, 3):
        row = {"step": step, "loss": 1.0 / step}
        append_line(folder / "metrics.jsonl", row | ({"sepo/safety": -1.0 / step} if stage == "sepo" else {}))
    for step in recorded if stage == "sepo" else ():
        rules = sk.get_game(game)
        episodes = play_matches(
            rules, sk.uniform(rules), training_matches(rules, "credited", 2), seed, step=step - 1
        )
        for decision in (d for e in episodes for d in e.decisions):
            decision.reply = decision.action
        record_episodes(folder, step, episodes, assign_credit(rules.spec, episodes))
    run.progress(3, 3)
    run.finish()
    return run


@pytest.fixture
def runs(tmp_path):
    for game in ("ipd", "kuhn"):
        plan = tmp_path / "runs" / "smoke" / "pico" / game
        make_run(plan / "sft-seed-0", game, "sft")
        make_run(plan / "sepo-seed-0", game)
    return tmp_path / "runs"


def listed(browser):
    return [label.split(":")[0] for label in browser.runs.options]


def shown(widget):
    """The text of an HTML widget, as a reader sees it."""
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", widget.value, flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


def column(browser, term):
    return [float(text) for text in re.findall(rf'data-term="{term}">([-+][\d.]+)<', browser.moves.value)]


def test_all_runs_are_there_and_those_of_sepo_are_drawn(runs):
    browser = Browser(runs)
    assert listed(browser) == [f"smoke/pico/{g}/{s}-seed-0" for g in ("ipd", "kuhn") for s in ("sepo", "sft")]
    chosen = browser.runs.value
    assert [path.split("/")[-1] for path in chosen] == ["sepo-seed-0"] * 2
    assert (
        'alt="Training curves of smoke/pico/ipd/sepo-seed-0, smoke/pico/kuhn/sepo-seed-0"'
        in browser.curves.value
    )
    assert "data:image/png;base64," in browser.curves.value and browser.line.value == ""


def test_filters_narrow_the_list_and_the_curves(runs):
    browser = Browser(runs)
    browser.filters["game"].value = "kuhn"
    assert listed(browser) == ["smoke/pico/kuhn/sepo-seed-0", "smoke/pico/kuhn/sft-seed-0"]
    assert browser.runs.value == (str(runs / "smoke/pico/kuhn/sepo-seed-0"),)
    assert "ipd" not in browser.curves.value[:200]
    browser.filters["stage"].value = "sft"
    assert listed(browser) == ["smoke/pico/kuhn/sft-seed-0"] and "sft-seed-0" in browser.curves.value[:200]
    assert browser.filters["profile"].options == {"all": "all", "smoke": "smoke"}
    browser.filters["game"].value = "all"
    assert len(listed(browser)) == 2


def test_choosing_runs_redraws_and_offers_their_matches(runs):
    browser = Browser(runs)
    before = browser.curves.value
    browser.runs.value = (str(runs / "smoke/pico/kuhn/sepo-seed-0"),)
    assert browser.curves.value != before
    assert list(browser.run.options) == ["smoke/pico/kuhn/sepo-seed-0"]
    assert list(browser.recording.options) == ["training, step 2", "training, step 3"]
    assert browser.recording.label == "training, step 3"
    assert browser.match.label.startswith("train: nash, group 0, rollout 0: earned ")


@pytest.mark.parametrize("game", ["ipd", "kuhn"])
def test_a_match_is_read_with_prompts_rewards_and_advantages(runs, game):
    browser = Browser(runs)
    browser.runs.value = (str(runs / f"smoke/pico/{game}/sepo-seed-0"),)
    frame = archive.read_episodes(browser.recording.value)
    for _ in range(len(browser.match.options)):
        wanted = archive.matches_of(frame).iloc[browser.match.index][archive.MATCH]
        moves = archive.read_match(frame, **wanted)
        for prompt in moves["prompt"]:
            assert " ".join(prompt.split()) in shown(browser.moves)
        mine = moves[moves["who"] == "agent"]
        assert column(browser, "advantage") == [round(value, 3) for value in mine["advantage"]]
        assert column(browser, "reward") == [round(value, 3) for value in mine["reward"]]
        assert " ".join(sk.get_game(game).system_prompt("direct").split()) in shown(browser.moves)
        assert browser.note.value == ""
        browser.after.click()
    assert browser.after.disabled and not browser.before.disabled
    browser.after.click()
    assert browser.match.index == len(browser.match.options) - 1
    browser.before.click()
    assert browser.match.index == len(browser.match.options) - 2


def test_prompts_open_and_fold(runs):
    browser = Browser(runs)
    assert "<details open" not in browser.moves.value and "<details><summary>" in browser.moves.value
    browser.prompts.value = True
    assert "<details open" in browser.moves.value


def test_looking_again_finds_new_runs_and_keeps_what_was_chosen(runs):
    browser = Browser(runs)
    browser.runs.value = (str(runs / "smoke/pico/kuhn/sft-seed-0"),)
    make_run(runs / "mine" / "safe", "kuhn")
    browser.again.click()
    assert "mine/safe" in listed(browser)
    assert browser.runs.value == (str(runs / "smoke/pico/kuhn/sft-seed-0"),)


class Talker(Policy):
    """Plays at random and says why: a model that reasons, without one."""

    name = "talker"

    def distributions(self, seen):
        raise NoDistribution("it only talks")

    def act(self, seen, uniforms):
        moves = [s.legal_actions[int(u * len(s.legal_actions))] for s, u in zip(seen, uniforms, strict=True)]
        return [Decision(move, reply=f"I like {number}.\n{move}") for number, move in enumerate(moves)]


@pytest.mark.parametrize("game", sk.GAMES)
def test_a_match_of_two_models_is_read_from_its_record_alone(tmp_path, game):
    """Nobody is asked again: the opponent's name is no strategy, and nothing can be loaded by it."""
    rules = sk.get_game(game)
    run = make_run(tmp_path / "mine", game, recorded=())
    todo = training_matches(rules, "credited", 2)
    opponents = {name: Talker() for _, name in rules.opponents[1:]}
    todo = [
        replace(match, opponent="self") if match.opponent == rules.opponents[0][1] else match
        for match in todo
    ]
    episodes = play_matches(
        rules, sk.uniform(rules), todo, 0, step=1, opponents={**opponents, "self": Talker()}
    )
    spec = replace(rules.spec, pools=_with_self(rules))
    record_episodes(run.path, 2, episodes, assign_credit(spec, episodes))
    browser = Browser(tmp_path)
    frame = archive.read_episodes(browser.recording.value)
    kept = {(e.pool, e.opponent, e.group, e.index): e for e in episodes}
    for number, match in enumerate(archive.matches_of(frame)[archive.MATCH].itertuples(index=False)):
        moves = archive.read_match(frame, *match)
        theirs, episode = moves[moves["who"] != "agent"], kept[tuple(match)]
        assert list(theirs["reply"]) == [d.reply for d in episode.answers]
        assert list(theirs["action"]) == [d.action for d in episode.answers]
        assert theirs["advantage"].isna().all() and (theirs["prompt"] != "").all()
        browser.match.index = number
        for text in (*theirs["prompt"], *theirs["reply"]):
            assert " ".join(text.split()) in shown(browser.moves)
    assert browser.note.value == ""
    assert "the rules, as the other model is told them" not in shown(
        browser.moves
    )  # both are read as reasoned


def _with_self(game):
    first = game.opponents[0][1]
    pools = {
        pool: tuple("self" if name == first else name for name in game.spec.pools[pool])
        for pool in ("train", "exploit", "collusive", "shift")
    }
    return Pools(**pools)


def test_two_models_of_two_styles_have_two_sets_of_rules(tmp_path):
    game = sk.get_game("kuhn")
    told = pd.DataFrame(
        {"round": [1, 1], "who": ["agent", "self"], "prompt": ["p", "q"], "reply": ["BET", "so\nCALL"],
         "action": ["BET", "CALL"], "reason": "", "own": [1.0, None], "fallback": False}
    )  # fmt: skip
    page = html.unescape(moves_html(told, game, False))
    for style in ("direct", "reasoned"):
        assert game.system_prompt(style) in page
    assert page.index("as the model is told") < page.index("as the other model is told")
    alone = html.unescape(moves_html(told.assign(reply=told["action"]), game, False))
    assert game.system_prompt("reasoned") not in alone


# --- bad input ------------------------------------------------------------------------------------


def test_no_runs_yet_is_a_line(tmp_path):
    for root in (tmp_path, tmp_path / "none"):
        browser = Browser(root)
        assert shown(browser.line).startswith(f"No runs in {root} yet.")
        assert browser.curves.value == browser.moves.value == "" and len(browser.match.options) == 0
    make_run(tmp_path / "first")
    browser = Browser(tmp_path)
    assert listed(browser) == ["first"] and browser.moves.value


@pytest.mark.parametrize("text", ["{", '{"format": 0, "status": "done", "request": {}}'])
def test_a_broken_or_older_run_is_a_line_and_the_others_stay(runs, text):
    (runs / "smoke/pico/ipd/sepo-seed-0/manifest.json").write_text(text)
    browser = Browser(runs)
    assert shown(browser.line).startswith("1 of 4 run folders cannot be read: ")
    assert len(listed(browser)) == 3 and browser.moves.value


def test_a_broken_log_is_a_line(runs):
    folder = runs / "smoke/pico/ipd/sepo-seed-0"
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    browser = Browser(runs)
    assert "metrics.jsonl, line 2 is not JSON" in shown(browser.line) and browser.curves.value == ""
    browser.runs.value = (str(runs / "smoke/pico/kuhn/sepo-seed-0"),)
    assert browser.line.value == "" and browser.curves.value


def test_missing_episodes_are_a_line(runs):
    folder = runs / "smoke/pico/kuhn/sepo-seed-0"
    for file in (folder / "episodes").iterdir():
        file.unlink()
    browser = Browser(folder)
    assert shown(browser.note).startswith("This run has no recorded episodes") and browser.moves.value == ""
    assert browser.before.disabled and browser.after.disabled


def test_broken_and_changed_episodes_are_a_line(runs):
    folder = runs / "smoke/pico/kuhn/sepo-seed-0"
    file = folder / "episodes" / "step-000003.parquet"
    whole = pd.read_parquet(file)
    file.write_bytes(b"PAR1")
    browser = Browser(folder)
    assert "cannot be read" in shown(browser.note) and len(browser.match.options) == 0
    whole.assign(own=whole["own"] + 1).to_parquet(file)
    browser = Browser(folder)
    assert "does not come out again" in shown(browser.note) and browser.moves.value == ""
    browser.recording.value = str(folder / "episodes" / "step-000002.parquet")
    assert browser.note.value == "" and browser.moves.value


def test_hostile_replies_are_text(runs):
    folder = runs / "smoke/pico/kuhn/sepo-seed-0"
    file = folder / "episodes" / "step-000003.parquet"
    frame = pd.read_parquet(file)
    frame.assign(reply=HOSTILE + "\n" + frame["action"], fallback=True).to_parquet(file)
    browser = Browser(folder)
    assert HOSTILE in html.unescape(browser.moves.value)
    assert "not readable: the action is a constrained decode" in shown(browser.moves)
    for tag in ("<script", "<img", "<b>"):
        assert tag not in browser.moves.value


def test_hostile_names_are_text(tmp_path):
    name = '"><img src=x onerror=alert(1)>'
    make_run(tmp_path / name)
    (tmp_path / "bad<b>").mkdir()
    (tmp_path / "bad<b>" / "manifest.json").write_text("{")
    browser = Browser(tmp_path)
    assert browser.curves.value.count("<img") == 1 and "&quot;&gt;&lt;img src=x" in browser.curves.value
    assert "<b>" not in browser.line.value and "bad<b>" in html.unescape(browser.line.value)


def test_browsing_needs_no_torch(runs):
    code = (
        "import sys; from sepo_kit.widgets.browser import Browser;"
        f"b = Browser({str(runs)!r}); assert b.moves.value; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
