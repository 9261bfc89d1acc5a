"""The audit: it finds the worst that is there, goes on where it was stopped, and shows hostile text as text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from chat_server import serving, status

import sepo_kit as sk
from sepo_kit.adversaries import opponents
from sepo_kit.cli import main
from sepo_kit.engine.policy import StrategyPolicy
from sepo_kit.evaluation import audit as module
from sepo_kit.evaluation import audit_parts
from sepo_kit.evaluation.audit import PAGE, PARTS, RESULT, AuditSettings, audit
from sepo_kit.evaluation.audit_page import page
from sepo_kit.models import loading
from sepo_kit.runs import RunError, read_json

SMALL = AuditSettings(episodes=4, fresh=4, suite_episodes=0, learner_steps=1)
FEW = AuditSettings(episodes=2, fresh=4, suite_episodes=0, learner_steps=0)
HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>{{ 7*7 }}</p></details>\nPASS'


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.outside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.outside += [v for n, v in attrs if n in ("src", "href") and not v.startswith("#")]
        self.outside += [n for n, _ in attrs if n.startswith("on")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def ipd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit") / "tit-for-tat"
    return folder, audit("tit-for-tat", ["ipd"], folder, SMALL)


def test_it_finds_the_exact_worst_case_of_a_strategy(ipd):
    _, found = ipd
    game = found["games"]["ipd"]
    worst = game["worst"][0]
    assert (worst["source"], worst["lead"]) == ("exact", pytest.approx(0.625))
    assert game["is_worst_case"] and game["parts"]["self"]["row"]["payoff"] == 3.0
    lows = [each["surely"] for each in game["worst"][1:]]
    assert lows == sorted(lows, reverse=True)
    names = {each["name"] for each in game["worst"]}
    assert names >= set(sk.get_game("ipd").strategies)


def test_safety_at_the_worst_has_its_lead_in_the_place_of_the_pools(ipd):
    game, spec = ipd[1]["games"]["ipd"], sk.get_game("ipd").spec
    metrics = {each["metric"]: each["value"] for each in game["parts"]["pools"]["metrics"]}
    more = game["worst"][0]["lead"] - metrics["exploit"]
    assert game["safety_at_worst"] == pytest.approx(
        metrics["safety"] - spec.scale * spec.eval_weights.exploit * more
    )


def test_matches_to_read_are_those_in_which_it_went_worst(ipd):
    matches = ipd[1]["games"]["ipd"]["parts"]["pools"]["matches"]
    assert matches[0]["why"] == "the agent lost most" and matches[0]["their"] > matches[0]["own"]
    assert [move["who"] for move in matches[0]["moves"][:2]] == ["agent", matches[0]["opponent"]]
    assert len(matches[0]["moves"]) == 16 and matches[0]["moves"][0]["prompt"]


def test_what_was_written_is_whole_and_needs_nothing_else(ipd):
    folder, found = ipd
    assert json.loads((folder / RESULT).read_text())["games"] == found["games"]
    shown = Elements((folder / PAGE).read_text())
    assert not shown.outside and "script" not in shown.tags and "link" not in shown.tags
    text = " ".join(shown.words)
    assert "Audit of tit-for-tat" in text and "What no part of this audit tries" in text and "+0.625" in text
    written = {path.name for path in folder.iterdir()}
    assert written == {"audit.html", "audit.json", "learned", "parts", "request.json"}


def test_luck_in_few_episodes_does_not_outrank_what_is_sure(monkeypatch, tmp_path):
    def lucky(case):
        sure = audit_parts._named("sure", "strategy", 0.5, 0.4, 0.6)
        return {"adversaries": [audit_parts._named("lucky", "strategy", 0.9, -0.3, 2.1), sure]}

    def not_tried(case):
        raise module.NotTried("too large")

    monkeypatch.setattr(module, "PARTS", {**PARTS, "outside": lucky, "worst-case": not_tried})
    game = audit("nash", ["kuhn"], tmp_path / "a", SMALL)["games"]["kuhn"]
    assert game["worst"][0]["name"] == "sure" and not game["is_worst_case"]
    spec, metrics = sk.get_game("kuhn").spec, game["parts"]["pools"]["terms"]
    assert game["safety_at_worst"] == pytest.approx(
        spec.scale * metrics["payoff"] - spec.scale * spec.eval_weights.exploit * 0.4
    )


def test_what_was_not_tried_is_said_with_its_reason(tmp_path, monkeypatch):
    def not_tried(case):
        raise module.NotTried("too large")

    monkeypatch.setattr(
        module, "PARTS", {**PARTS, "worst-case": not_tried}
    )  # negotiation v2 takes seconds to find out
    settings = FEW
    found = audit("tit-for-tat", None, tmp_path / "a", settings)
    assert (
        list(found["games"]) and dict(found["games"]["ipd"]["not_tried"])["learned"] == "left out by choice"
    )
    assert found["games"]["kuhn"]["not_tried"] == [["everything", "no strategy tit-for-tat"]]
    assert "no strategy tit-for-tat" in (tmp_path / "a" / PAGE).read_text()


def test_games_without_the_strategy_are_left_out_and_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        module, "PARTS", {name: PARTS[name] for name in ("pools", "self")} | {"worst-case": lambda case: {}}
    )
    arguments = [
        "audit",
        "tit-for-tat",
        "--games",
        "kuhn",
        "ipd",
        "--episodes",
        "2",
        "--folder",
        str(tmp_path / "a"),
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("ipd: ") and out[1] == "kuhn: left out, no strategy tit-for-tat"
    found = json.loads((tmp_path / "a" / RESULT).read_text())["games"]
    assert "parts" in found["ipd"] and "parts" not in found["kuhn"]


def test_an_audit_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    played = []

    def counted(name, stop=False):
        def play(case):
            played.append(name)
            if stop:
                raise KeyboardInterrupt
            return parts[name](case)

        return play

    parts = dict(PARTS)
    monkeypatch.setattr(module, "PARTS", {n: counted(n, n == "worst-case") for n in parts})
    with pytest.raises(KeyboardInterrupt):
        audit("nash", ["kuhn"], tmp_path / "a", SMALL)
    assert not (tmp_path / "a" / PAGE).exists()
    monkeypatch.setattr(module, "PARTS", {n: counted(n) for n in parts})
    found = audit("nash", ["kuhn"], tmp_path / "a", SMALL)
    assert played.count("pools") == 1 and played.count("worst-case") == 2
    whole = audit("nash", ["kuhn"], tmp_path / "b", SMALL)
    assert found["games"] == whole["games"]


def test_a_folder_of_another_audit_is_refused(tmp_path, monkeypatch):
    audit("nash", ["kuhn"], tmp_path / "a", SMALL)
    with pytest.raises(RunError, match=r"holds another audit \(agent differ\)"):
        audit("uniform", ["kuhn"], tmp_path / "a", SMALL)
    with pytest.raises(RunError, match=r"\(settings differ\)"):
        audit("nash", ["kuhn"], tmp_path / "a", replace(SMALL, episodes=5))
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    for name, says in (("file", "is a file"), ("full", "is not empty and holds no audit")):
        with pytest.raises(RunError, match=says):
            audit("nash", ["kuhn"], tmp_path / name, SMALL)
    monkeypatch.setattr(StrategyPolicy, "identity", lambda policy: "trained again")
    with pytest.raises(
        RunError, match=r"an audit of nash as it was, and it has changed since \(trained again\?\)"
    ):
        audit("nash", ["kuhn"], tmp_path / "a", SMALL)


def test_games_are_added_to_an_audit_in_its_folder(tmp_path, monkeypatch):
    few = {name: PARTS[name] for name in ("pools", "self")} | {"worst-case": lambda case: {}}
    monkeypatch.setattr(module, "PARTS", few)
    one = audit("uniform", ["kuhn"], tmp_path / "a", FEW)
    kept = (tmp_path / "a" / "parts" / "kuhn-pools.json").stat().st_mtime_ns
    both = audit("uniform", ["ipd", "kuhn"], tmp_path / "a", FEW)
    assert list(both["games"]) == ["ipd", "kuhn"] and both["games"]["kuhn"] == one["games"]["kuhn"]
    assert (tmp_path / "a" / "parts" / "kuhn-pools.json").stat().st_mtime_ns == kept
    assert audit("uniform", ["kuhn"], tmp_path / "a", FEW)["games"] == one["games"]  # and fewer again


def test_what_other_code_found_is_played_anew(tmp_path, monkeypatch, capsys):
    played = []

    def pools(case):
        played.append(case.game.spec.id)
        return PARTS["pools"](case)

    few = {"pools": pools, "self": PARTS["self"], "worst-case": lambda case: {}}
    monkeypatch.setattr(module, "PARTS", few)
    audit("nash", ["kuhn"], tmp_path / "a", FEW)
    audit("nash", ["kuhn"], tmp_path / "a", FEW)
    assert played == ["kuhn"]
    monkeypatch.setattr(module, "code_of", lambda rooms, game: "other rules")
    audit("nash", ["kuhn"], tmp_path / "a", FEW)
    assert played == ["kuhn", "kuhn"]
    assert "kuhn-pools.json was found by other code; it is played anew" in capsys.readouterr().err


def test_a_game_that_is_in_no_file_is_audited_and_never_taken_as_played(tmp_path, monkeypatch):
    def in_no_file(rooms, game):
        raise ValueError("the class of game kuhn is in no file")

    played = []
    few = {"pools": PARTS["pools"], "self": PARTS["self"], "worst-case": lambda case: played.append(1) or {}}
    monkeypatch.setattr(module, "PARTS", few)
    monkeypatch.setattr(module, "code_of", in_no_file)
    for _ in range(2):
        assert "parts" in audit("nash", ["kuhn"], tmp_path / "a", FEW)["games"]["kuhn"]
    assert len(played) == 2


def test_a_model_is_loaded_once_for_all_games(monkeypatch):
    loaded, load = [], loading.load_model
    monkeypatch.setattr(loading, "load_model", lambda name: loaded.append(name) or load(name))
    games = [sk.get_game(name) for name in ("kuhn", "ipd", "auction")]
    found = module._policies("pico", games, {"temperature": 0.5})
    assert len(loaded) == 1 and [policy.game for policy in found.values()] == games
    assert len({id(policy.model) for policy in found.values()}) == 1
    assert len({policy.identity() for policy in found.values()}) == 3
    strategies = module._policies("uniform", games, {})
    assert {id(policy.strategy) for policy in strategies.values()} == {
        id(game.strategies["uniform"]) for game in games
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nsh", "--games", "kuhn"], "or a strategy of kuhn: nash"),
        (["nash", "--games", "chess"], "unknown game 'chess'"),
        (["nash", "--games", "kuhn", "--episodes", "1"], "episodes must be a whole number >= 2"),
        (["endpoint:none", "--games", "kuhn"], "no endpoint 'none'"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEPO_KIT_ENDPOINTS", str(tmp_path / "none.toml"))
    assert main(["audit", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_the_command_line_says_the_worst_and_where_the_page_is(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", "uniform", "--games", "kuhn", "--quick", "--episodes", "3"]) == 0
    out = capsys.readouterr().out
    assert "kuhn: worst case (exact) leads by 0.917 per hand" in out
    assert (tmp_path / "runs" / "audits" / "uniform-quick" / PAGE).exists()


def test_suites_fitted_and_learned_adversaries_are_tried(tmp_path, monkeypatch):
    frame = pd.DataFrame([{"adversary": "Gradual", "gain": 2.0, "low": 1.5, "high": 2.5, "episodes": 3}])
    asked = []
    monkeypatch.setattr(
        audit_parts, "held_out", lambda *given: asked.append(given[2:]) or SimpleNamespace(frame=frame)
    )
    settings = replace(SMALL, episodes=20, fresh=20, suite_episodes=3, learner_steps=40)
    found = audit("always-cooperate", ["ipd"], tmp_path / "a", settings)
    by_source = {each["source"]: each for each in found["games"]["ipd"]["worst"]}
    assert (
        by_source["exact"]["lead"] == by_source["fitted"]["lead"] == pytest.approx(5.0)
    )  # it is cheated for ever
    assert 1.0 < by_source["learned"]["lead"] <= 5.0
    assert by_source["suite axelrod"]["lead"] == 2.0 and asked == [("axelrod", 3, 0)]
    assert not found["games"]["ipd"]["not_tried"]


def test_a_suite_whose_library_is_missing_is_said_so(tmp_path, monkeypatch):
    def missing(*given):
        raise ValueError("the suite needs axelrod; install it")

    asked = replace(FEW, suite_episodes=2)
    with monkeypatch.context() as without:
        without.setattr(audit_parts, "held_out", missing)
        found = audit("nash", ["kuhn"], tmp_path / "a", asked)
    assert ["held-out", "the suite needs axelrod; install it"] in found["games"]["kuhn"]["not_tried"]
    found = audit("nash", ["kuhn"], tmp_path / "a", asked)
    assert "held-out" not in dict(found["games"]["kuhn"]["not_tried"]), "it has been installed since"


def test_who_may_only_have_been_lucky_is_not_said_to_earn_more(ipd):
    found = json.loads(json.dumps(ipd[1]))
    surest = audit_parts._named("surest", "strategy", -0.01, -0.03, 0.01, 20)
    lucky = audit_parts._named("lucky", "strategy", 0.1, -0.2, 0.4, 20)
    surest["surely"], lucky["surely"] = -0.05, -0.6
    for worst, says in (([surest, lucky], "agent beyond chance,"), ([surest], "earned more than the agent.")):
        found["games"]["ipd"]["worst"] = worst
        assert says in page(found)


def test_of_many_that_are_measured_the_best_is_as_sure_as_all_of_them(monkeypatch, tmp_path):
    """Two hundred adversaries that gain nothing, in 20 episodes each: some of their own intervals lie above 0."""

    def outside(case):
        leads = np.random.default_rng(0).normal(size=(200, 20))
        return {
            "adversaries": [audit_parts._adversary(str(i), "strategy", row) for i, row in enumerate(leads)]
        }

    def not_tried(case):
        raise module.NotTried("too large")

    monkeypatch.setattr(module, "PARTS", {**PARTS, "outside": outside, "worst-case": not_tried})
    game = audit("nash", ["kuhn"], tmp_path / "a", SMALL)["games"]["kuhn"]
    measured = [each for each in game["worst"] if each["name"].isdigit()]
    assert max(each["low"] for each in measured) > 0 > max(each["surely"] for each in measured)
    assert game["worst"][0]["lead"] > 0 >= game["worst"][0]["surely"]
    assert "beyond chance, so many as they are" in (tmp_path / "a" / PAGE).read_text()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"episodes": 1}, "episodes must be"), ({"suite_episodes": 1}, "0 or >= 2"),
     ({"learner_steps": -1}, "learner_steps must be"), ({"seed": True}, "seed must be")],
)  # fmt: skip
def test_settings_are_checked(wrong, says):
    with pytest.raises(ValueError, match=says):
        AuditSettings(**wrong)


# --- behind a server ------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path, monkeypatch):
    pytest.importorskip("openai", reason="the extra endpoints is not installed")
    from sepo_kit.models import server as asking

    monkeypatch.setattr(asking, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("SEPO_KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEPO_KIT_ENDPOINTS", str(tmp_path / "mine.toml"))
    with serving(lambda body: HOSTILE) as made:
        (tmp_path / "mine.toml").write_text(
            f'[mine]\nbase_url = "{made.url}"\nmodel = "tiny"\nprices = [1, 1]\nretries = 1\n'
        )
        yield made


def test_hostile_replies_are_text_and_the_cost_is_told(server, tmp_path):
    found = audit("endpoint:mine", ["kuhn"], tmp_path / "a", FEW)
    raw = (tmp_path / "a" / PAGE).read_text()
    shown = Elements(raw)
    assert "<script" not in raw and "img" not in shown.tags and not shown.outside
    text = "".join(shown.words)
    assert '<script>alert("1")</script>' in text and "{{ 7*7 }}" in text
    assert shown.tags.count("details") == raw.count("</details>")
    usage = found["usage"]
    assert usage["asked"] == len(server.bodies) and usage["cost"] == pytest.approx(
        110e-6 * len(server.bodies)
    )
    assert f"asked for {usage['asked']} replies ({usage['paid_prompt_tokens']} prompt" in " ".join(
        text.split()
    )
    assert re.search(
        r"[1-9]\d* % of its replies could not be read\.", text
    )  # so far its numbers are those of chance
    assert dict(found["games"]["kuhn"]["not_tried"])["worst-case"].startswith(
        "the agent answers in free text"
    )


def test_a_server_that_breaks_down_is_one_line_and_the_audit_goes_on_later(server, tmp_path, capsys):
    folder = tmp_path / "a"
    arguments = [
        "audit",
        "endpoint:mine",
        "--games",
        "kuhn",
        "--episodes",
        "2",
        "--learner-steps",
        "0",
        "--folder",
        str(folder),
    ]
    server.reply = lambda body: (
        "PASS" if len(server.bodies) < 60 else server.faults.extend([status(503)] * 99) or "PASS"
    )
    assert main(arguments) == 2
    assert "overloaded or broken (503" in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / PAGE).exists()
    server.faults.clear()
    server.reply, before = (lambda body: "PASS"), len(server.bodies)
    assert main(arguments) == 0
    assert len(server.bodies) > before and (folder / PAGE).exists()


def test_an_agent_that_is_paid_for_meets_a_suite_on_demand_only(server, tmp_path, monkeypatch):
    frame = pd.DataFrame([{"adversary": "Gradual", "gain": 2.0, "low": 1.5, "high": 2.5, "episodes": 3}])
    asked = []
    monkeypatch.setattr(
        audit_parts, "held_out", lambda *given: asked.append(given[3]) or SimpleNamespace(frame=frame)
    )
    monkeypatch.chdir(tmp_path)
    line = ["audit", "endpoint:mine", "--games", "ipd", "--episodes", "2", "--folder"]
    assert main([*line, "none"]) == 0 and not asked
    not_tried = dict(read_json(tmp_path / "none" / RESULT)["games"]["ipd"]["not_tried"])
    assert "give the episodes to pay for" in not_tried["held-out"]
    assert main([*line, "three", "--suite-episodes", "3"]) == 0
    unpaid = ["audit", "nash", "--games", "kuhn", "--episodes", "2", "--learner-steps", "0"]
    assert main([*unpaid, "--folder", "usual"]) == 0
    assert asked == [3, audit_parts.SUITE_EPISODES]


def test_a_name_with_markup_is_text_too(ipd):
    shown = Elements(page({**ipd[1], "agent": '<b onclick="x">me</b>'}))
    assert '<b onclick="x">me</b>' in "".join(shown.words) and not shown.outside


def test_a_direct_model_is_enumerated_where_that_is_cheap(tiny_folder, tmp_path):
    found = audit(str(tiny_folder), ["kuhn"], tmp_path / "a", FEW)
    game = found["games"]["kuhn"]
    agent = opponents.resolve_agent("kuhn", str(tiny_folder))
    assert game["parts"]["worst-case"]["value"] == pytest.approx(sk.exact.worst_case("kuhn", agent).advantage)
    assert game["parts"]["pools"]["exactly"] and re.search("exact", (tmp_path / "a" / PAGE).read_text())
