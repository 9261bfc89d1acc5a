"""Agents behind a server, a real one on the loopback: what they play, what is paid for, what is told of errors."""

from __future__ import annotations

import json
import logging
import math
import re
import socket
import time
import zlib
from threading import Barrier

import numpy as np
import pytest
from chat_server import cut_off, hang_up, other, serving, status
from hypothesis import given
from hypothesis import strategies as st

import sepo_kit as sk
from sepo_kit.engine.policy import NoDistribution, first_information

pytest.importorskip("openai", reason="the extra endpoints is not installed")

from sepo_kit.models import server as server_module
from sepo_kit.models.endpoint import LONGEST_KEPT, first_token_distribution
from sepo_kit.models.kept_replies import KeptReplies
from sepo_kit.models.server import EndpointError

KEY = "sk-SECRET0123456789"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(server_module, "FIRST_WAIT", 0.01)


@pytest.fixture
def server():
    with serving(lambda body: "I will pass.\nPASS") as made:
        yield made


@pytest.fixture
def make(server, tmp_path):
    """An agent of Kuhn poker behind ``server``; parameters as of ``sk.endpoint``."""

    def made(**how):
        game = how.pop("game", "kuhn")
        return sk.endpoint(server.url, "tiny", game, **{"kept": tmp_path / "replies", "timeout": 5.0, **how})

    return made


def first(game="kuhn"):
    return first_information(sk.get_game(game))


# --- what is asked, and what is played ------------------------------------------------------------


def test_a_decision_is_one_fresh_chat_of_two_messages(make, server):
    game, seen = sk.get_game("kuhn"), first()
    (decision,) = make(max_tokens=50, temperature=0.7).act([seen], [0.3])
    (body,) = server.bodies
    assert body["messages"] == [
        {"role": "system", "content": game.system_prompt("reasoned")},
        {"role": "user", "content": game.render(seen)},
    ]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("tiny", 50, 0.7)
    assert (decision.action, decision.reply, decision.fallback) == ("PASS", "I will pass.\nPASS", False)
    assert decision.log_prob is None


def test_the_draw_decides_the_seed_and_at_temperature_0_nothing_is_drawn(make, server):
    make().act([first()] * 3, [0.1, 0.2, 0.1])
    seeds = [body["seed"] for body in server.bodies]
    assert len(seeds) == len(set(seeds)) == 2  # equal questions are asked once
    server.bodies.clear()
    make(temperature=0).act([first()] * 3, [0.1, 0.2, 0.3])
    (body,) = server.bodies
    assert "seed" not in body and body["temperature"] == 0


def test_a_batch_goes_out_together_and_no_further_than_it_may(make, server):
    server.pause = 0.05  # in which a fifth would come
    together = Barrier(4, timeout=60)

    def reply(body):
        together.wait()
        return "PASS"

    server.reply = reply
    make(concurrency=4, timeout=120).act([first()] * 12, np.linspace(0, 0.9, 12))
    assert len(server.bodies) == 12 and server.most_at_once == 4


def test_decisions_stand_where_their_states_do(make, server):
    server.reply = lambda body: "BET" if "card: King" in body["messages"][1]["content"] else "PASS"
    episodes = sk.play("kuhn", make(), "nash", episodes=6)
    assert {d.action for e in episodes for d in e.decisions} >= {"BET", "PASS"}
    for episode in episodes:
        for decision in episode.decisions:
            if decision.action in ("BET", "PASS") and not decision.fallback:
                assert (decision.action == "BET") == decision.information.startswith("K")


def test_a_reply_that_cannot_be_read_is_asked_for_once_more_with_the_legal_actions(make, server):
    server.reply = lambda body: "PASS" if "must be one of" in body["messages"][1]["content"] else "Who knows?"
    agent = make()
    (decision,) = agent.act([first()], [0.9])
    once, again = (body["messages"] for body in server.bodies)
    assert len(once) == len(again) == 2 and "PASS, BET" in again[1]["content"].rpartition("\n\n")[2]
    assert (decision.action, decision.fallback, agent.usage.asked_again, agent.usage.fallbacks) == (
        "PASS", False, 1, 0,
    )  # fmt: skip


def test_what_cannot_be_read_twice_is_drawn_evenly_and_counted_as_a_fallback(make, server):
    server.reply = lambda body: "PASS or BET?"
    agent = make()
    uniforms = [0.1, 0.49, 0.5, 0.999]
    decisions = agent.act([first()] * 4, uniforms)
    legal = first().legal_actions
    assert [d.action for d in decisions] == [legal[0], legal[0], legal[1], legal[1]]
    assert all(d.fallback and d.reply == "PASS or BET?" and d.log_prob is None for d in decisions)
    assert len(server.bodies) == 8 and agent.usage.fallbacks == 4
    assert sk.evaluate(make(), "kuhn", episodes=1).fallback == 1.0


def test_a_reply_that_was_cut_off_is_not_read(make, server):
    server.faults = [cut_off, cut_off]
    (decision,) = make().act([first()], [0.7])
    assert decision.fallback and len(server.bodies) == 2


@pytest.mark.parametrize("content", [None, "", "\x00\ud83d", "<script>alert(1)</script>", "PASS " * 20_000])
def test_hostile_replies_are_fallbacks(make, server, content):
    server.reply = lambda body: content
    (decision,) = make().act([first()], [0.2])
    assert decision.fallback and len(decision.reply) < LONGEST_KEPT + 100


def test_a_reply_of_100_kB_is_read_by_its_last_line_and_kept_short(make, server):
    server.reply = lambda body: "blah blah " * 10_000 + "\nBET"
    (decision,) = make().act([first()], [0.2])
    assert decision.action == "BET" and not decision.fallback
    assert len(decision.reply) < LONGEST_KEPT + 100 and "80004 characters left out" in decision.reply


def test_it_plays_in_either_seat_and_against_itself(make):
    agent = make()
    episodes = sk.play("kuhn", agent, "self", episodes=2)
    assert all(d.reply for e in episodes for d in (*e.decisions, *e.answers))
    frame = sk.cross_play({"a": agent, "nash": sk.scripted("kuhn", "nash")}, "kuhn", episodes=2)
    assert len(frame) == 4


# --- what is kept ---------------------------------------------------------------------------------


def test_nothing_is_paid_for_twice_and_a_run_goes_on_where_it_was(make, server):
    first_run = sk.play("kuhn", make(), "nash", episodes=5)
    paid = len(server.bodies)
    agent = make()
    assert sk.play("kuhn", agent, "nash", episodes=5) == first_run
    assert len(server.bodies) == paid and agent.usage.asked == 0 and agent.usage.replies == paid
    sk.play("kuhn", make(), "nash", episodes=6)
    assert paid < len(server.bodies) < 2 * paid


def test_what_was_replied_before_an_error_is_kept(make, server):
    server.faults = [*[lambda handler: handler.answer({"model": "tiny"}, None)] * 3, *[status(500)] * 50]
    with pytest.raises(EndpointError, match="run the same again to go on"):
        make(concurrency=1, retries=1).act([first()] * 5, [0.1, 0.2, 0.3, 0.4, 0.5])
    server.faults, before = [], len(server.bodies)
    make().act([first()] * 5, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert len(server.bodies) - before == 2


@pytest.mark.parametrize(
    "change", [{"temperature": 0.5}, {"max_tokens": 9}, {"style": "direct", "log_probs": False}]
)
def test_another_question_is_another_reply(make, server, change):
    make().act([first()], [0.3])
    make(**change).act([first()], [0.3])
    assert len(server.bodies) == 2


def test_a_kept_file_that_is_broken_or_of_another_question_is_asked_for_again(make, server, tmp_path):
    make().act([first()], [0.3])
    (file,) = (tmp_path / "replies").rglob("*.json")
    whole = file.read_text()
    for broken in ("{", "[]", whole.replace('"text"', '"words"'), whole.replace("tiny", "other")):
        file.write_text(broken)
        before = len(server.bodies)
        make().act([first()], [0.3])
        assert len(server.bodies) == before + 1 and file.read_text() == whole
    assert [path.name for path in file.parent.iterdir()] == [file.name]  # nothing temporary is left


@pytest.mark.parametrize("kept", [None, False])
def test_with_no_folder_nothing_is_kept(make, server, kept):
    for _ in range(2):
        make(kept=kept).act([first()], [0.3])
    assert len(server.bodies) == 2


@pytest.mark.parametrize("style", ["reasoned", "direct"])
def test_another_version_of_a_model_is_asked_again(make, server, style):
    server.reply = lambda body: {"P": -0.7, "B": -0.7} if body.get("logprobs") else "PASS"
    for version, asked in (("", 1), ("step 200", 2), ("step 400", 3), ("", 3), ("step 200", 3)):
        make(style=style, version=version).act([first()], [0.3])
        assert len(server.bodies) == asked
    who = {make(style=style, version=version).identity() for version in ("", "step 200", "step 400")}
    assert len(who) == 3


def test_what_was_kept_of_an_endpoint_without_a_version_is_found(make, server, tmp_path):
    agent = make()
    question = {
        "url": server.url, "model": "tiny", "messages": agent.messages(first()), "temperature": 0.8, "max_tokens": 256,
        "seed": zlib.crc32(np.float64(0.3).tobytes()) & 0x7FFFFFFF, "log_probs": False,
    }  # fmt: skip
    reply = {"text": "BET", "finish": "stop", "prompt_tokens": 1, "completion_tokens": 1, "first_token": {}}
    KeptReplies(tmp_path / "replies").put(question, reply)
    assert agent.act([first()], [0.3])[0].action == "BET" and not server.bodies
    assert "version" not in agent.describe()


def test_tokens_and_cost_are_counted(make):
    agent = make(prices=(1.0, 10.0))
    agent.act([first()] * 2, [0.1, 0.2])
    before = agent.usage
    assert (before.prompt_tokens, before.completion_tokens, before.asked) == (200, 20, 2)
    assert before.cost == pytest.approx((200 * 1.0 + 20 * 10.0) / 1e6)
    again = make(prices=(1.0, 10.0))
    again.act([first()] * 2, [0.1, 0.2])
    assert (again.usage.cost, again.usage.prompt_tokens, again.usage.paid_prompt_tokens) == (0.0, 200, 0)
    assert "200 in" in str(again.usage) and agent.usage.since(before).asked == 0


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [status(429), status(500), status(503), status(408), hang_up])
def test_what_may_pass_is_tried_again(make, server, fault):
    server.faults = [fault, fault]
    agent = make(retries=2)
    (decision,) = agent.act([first()], [0.3])
    assert decision.action == "PASS" and agent.usage.retried == 2


def test_retry_after_is_honoured(make, server):
    server.faults = [status(429, "slow down", Retry_After="0.4")]
    started = time.monotonic()
    make().act([first()], [0.3])
    assert time.monotonic() - started >= 0.4


def fails(agent, uniforms=(0.3,)):
    with pytest.raises(EndpointError) as error:
        agent.act([first()] * len(uniforms), list(uniforms))
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


MISTAKES = {
    "always 429": (status(429, "quota is used up"), r"overloaded or broken \(429: quota is used up\) \(2 attempts\)"),
    "a long wait": (status(429, "come back", Retry_After="9000"), "asks to wait 9000 s"),
    "always 500": (status(500, "out of\nmemory"), r"\(500: out of memory\)"),
    "cut": (hang_up, "cut the connection"),
    "html": (other("<html>It works!</html>"), "another schema .*It works!"),
    "another object": (other({"response": "PASS", "done": True}), r"another schema \(an object with .*response"),
    "no choices": (other({"choices": []}), "another schema"),
    "choices of another kind": (other({"choices": ["PASS"]}), "another schema"),
    "parts in place of a text": (
        other({"choices": [{"message": {"content": [{"type": "text", "text": "PASS"}]}}]}), "another schema",
    ),
    "a list": (other(["PASS"]), "another schema"),
    "refused": (status(400, "context too long"), r"refuses what it is asked \(400: context too long\)"),
    "no temperature": (status(400, "temperature must be 1"), "does not take temperature"),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_fault_that_stays_is_one_clear_line_and_nothing_is_kept(make, server, tmp_path, fault, message):
    server.faults = [fault] * 20
    assert re.search(message, fails(make(retries=1)))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_slow_server_is_given_up_after_its_time(make, server):
    server.pause = 60
    started = time.monotonic()
    assert "did not reply within 0.1 s (2 attempts)" in fails(make(timeout=0.1, retries=1))
    assert time.monotonic() - started < 30


def test_a_server_that_is_not_there_is_said_so_at_once(monkeypatch):
    monkeypatch.setattr(server_module, "FIRST_WAIT", 30.0)
    started = time.monotonic()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and nobody listens, nor can another
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        agent = sk.endpoint(url, "tiny", "kuhn", kept=None)
        assert f"there is no server at {url}" in fails(agent, (0.1, 0.2, 0.3))
    assert time.monotonic() - started < 15


def test_an_unknown_model_is_named_with_those_there_are(make, server):
    server.models = ["other", "third"]
    assert "does not know 'tiny' (404: The model tiny does not exist); it has: other, third" in fails(make())


def test_one_failure_ends_a_batch_without_waiting_for_the_others(make, server, monkeypatch):
    monkeypatch.setattr(server_module, "FIRST_WAIT", 30.0)
    server.faults = [status(500), status(400, "no more"), *[status(500)] * 30]
    started = time.monotonic()
    fails(make(concurrency=2), (0.1, 0.2, 0.3, 0.4))
    assert time.monotonic() - started < 15 and len(server.bodies) < 8


def test_fields_that_a_server_does_not_take_are_left_out(make, server):
    server.faults = [
        status(422, "Unexpected fields in the request: {'seed'}"),
        status(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
    ]
    agent = make(concurrency=1)  # one request after the other: the last was sent knowing both
    agent.act([first()] * 2, [0.1, 0.2])
    last = server.bodies[-1]
    assert "seed" not in last and "max_tokens" not in last and last["max_completion_tokens"] == 256


NO_SYSTEM = {
    "vLLM, Gemma 2": status(400, "System role not supported"),
    "vLLM, Mistral": status(400, "Conversation roles must alternate user/assistant/user/assistant/..."),
    "a schema": status(422, "[{'loc': ['body', 'messages', 0, 'role'], 'msg': \"Input should be 'user'\"}]"),
    "hosted": status(400, "System message is not supported by this model"),
}


def in_one_message(game="kuhn"):
    made = sk.get_game(game)
    content = f"{made.system_prompt('reasoned')}\n\n{made.render(first(game))}"
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize("refusal", NO_SYSTEM.values(), ids=NO_SYSTEM)
def test_where_no_role_of_the_system_is_known_the_rules_stand_before_what_the_user_says(
    make, server, refusal
):
    server.no_system = refusal
    agent = make(concurrency=1)
    assert [d.action for d in agent.act([first()] * 2, [0.1, 0.2])] == ["PASS"] * 2
    assert [len(body["messages"]) for body in server.bodies] == [2, 1, 1]  # refused once, and remembered
    assert server.bodies[-1]["messages"] == in_one_message()
    server.reply = lambda body: "LOW"
    agent.asked_by(sk.get_game("auction")).act([first("auction")], [0.1])
    assert len(server.bodies) == 4 and server.bodies[-1]["messages"] == in_one_message("auction")


def test_replies_without_a_role_of_the_system_are_kept_under_what_was_sent(make, server, tmp_path):
    server.no_system = status(400, "System role not supported")
    played = sk.play("kuhn", make(), "nash", episodes=3)
    questions = [json.loads(path.read_text())["question"] for path in (tmp_path / "replies").rglob("*.json")]
    assert {len(question["messages"]) for question in questions} == {1}
    before = len(server.bodies)
    second = make()
    assert sk.play("kuhn", second, "nash", episodes=3) == played
    assert len(server.bodies) == before and second.usage.asked == 0  # not even to be refused
    assert sk.play("kuhn", second, "nash", episodes=4)[:3] == played
    assert sum(len(body["messages"]) == 2 for body in server.bodies[before:]) <= second.asking.concurrency


def test_log_probabilities_are_asked_for_without_a_role_of_the_system_too(make, server):
    server.no_system = status(400, "System role not supported")
    server.reply = lambda body: {"P": math.log(0.8), "B": math.log(0.2)}
    (p,) = make(style="direct", temperature=1.0).distributions([first()])
    assert p.tolist() == pytest.approx([0.8, 0.2]) and len(server.bodies) == 2


def test_a_server_that_refuses_the_one_message_too_is_one_line(make, server):
    server.faults = [status(400, "System role not supported")] * 2
    assert "refuses what it is asked (400: System role not supported)" in fails(make())
    assert len(server.bodies) == 2


# --- keys -----------------------------------------------------------------------------------------


@pytest.fixture
def with_key(monkeypatch, server):
    monkeypatch.setenv("MY_KEY", KEY + "\n")  # as "export MY_KEY=$(cat file)" may leave it
    server.key = KEY


def test_the_key_comes_from_the_environment_and_goes_to_the_server_alone(
    make, server, with_key, tmp_path, caplog, capfd
):
    caplog.set_level(logging.DEBUG)
    server.reply = lambda body: f"Your key is {KEY}\nPASS"
    agent = make(key_variable="MY_KEY")
    episodes = sk.play("kuhn", agent, "nash", episodes=2)
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    told = [repr(episodes)]
    for part in (agent, agent.asking, agent.server):
        told += [repr(part), str(vars(part))]
    told += [json.dumps(agent.describe()), str(agent.usage), caplog.text, *capfd.readouterr()]
    told += [path.read_text() for path in tmp_path.rglob("*.json")]
    assert len(told) > 10 and not [text for text in told if KEY in text]


@pytest.mark.parametrize(
    "fault", [status(401, f"bad key {KEY}"), status(500, f"bad key {KEY}"), other({"error": KEY}), other(KEY)]
)
def test_no_error_shows_the_key(make, server, with_key, fault):
    server.faults = [fault] * 9
    agent = make(key_variable="MY_KEY", retries=1)
    with pytest.raises(EndpointError) as error:
        agent.act([first()], [0.3])
    shown = error.getrepr(style="long", showlocals=False)
    assert KEY not in str(error.value) and KEY not in str(shown)
    assert error.value.__cause__ is None and error.value.__context__ is None


def test_a_refused_key_is_named_by_its_variable(make, server, with_key, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-wrong")
    text = fails(make(key_variable="MY_KEY"))
    assert "refuses the key in $MY_KEY (401: Incorrect API key provided: Bearer ***.)" in text
    assert "wants a key" in fails(make())


def test_the_users_own_openai_key_goes_to_nobody_unasked(make, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    make().act([first()], [0.3])
    assert KEY not in str(server.headers) and "org-mine" not in str(server.headers)


BAD = {
    "no address": ({"base_url": "localhost:8000"}, "base_url must be an address"),
    "a password in it": ({"base_url": f"http://me:{KEY}@host/v1"}, "must hold no user, password"),
    "a query": ({"base_url": f"http://host/v1?key={KEY}"}, "must hold no user, password"),
    "a key for a variable": ({"key_variable": KEY}, "must be the name of an environment variable"),
    "an unset variable": ({"key_variable": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
    "temperature": ({"temperature": -1}, "temperature must be a number >= 0"),
    "a huge temperature": ({"temperature": 10**400}, "temperature must be a number >= 0"),
    "timeout": ({"timeout": 0}, "timeout must be a number > 0"),
    "max_tokens": ({"max_tokens": 0}, "max_tokens must be a whole number >= 1"),
    "concurrency": ({"concurrency": 1.5}, "concurrency must be a whole number >= 1"),
    "retries": ({"retries": -1}, "retries must be a whole number >= 0"),
    "log_probs": ({"log_probs": "yes"}, "log_probs must be 'auto', True or False"),
    "log_probs of a text": ({"log_probs": True}, "log_probs=True needs style='direct'"),
    "style": ({"style": "loud"}, "reply style must be one of"),
    "styles": ({"style": ["direct"]}, "reply style must be one of"),
    "kept": ({"kept": True}, "kept must be a folder, .* or False for none"),
    "version": ({"version": 2}, "version must be a text such as '2', got 2"),
    "prices": ({"prices": 3}, "prices must be two numbers"),
    "a negative price": ({"prices": (1, -1)}, "prices must be a number >= 0"),
    "model": ({"model": ""}, "model must be the name"),
    "game": ({"game": "chess"}, "unknown game 'chess'"),
}


@pytest.mark.parametrize(("how", "message"), BAD.values(), ids=BAD)
def test_a_bad_parameter_is_one_clear_line_without_a_secret(how, message):
    given = {"base_url": "http://127.0.0.1:1/v1", "model": "tiny", "game": "kuhn", **how}
    with pytest.raises(ValueError, match=message) as error:
        sk.endpoint(**given)
    assert KEY not in str(error.value) and "\n" not in str(error.value)


def test_a_key_with_strange_signs_is_not_shown(monkeypatch):
    monkeypatch.setenv("MY_KEY", f"{KEY} {KEY}é")
    with pytest.raises(ValueError, match=r"the key in \$MY_KEY has signs") as error:
        sk.endpoint("http://127.0.0.1:1/v1", "tiny", "kuhn", key_variable="MY_KEY")
    assert KEY not in str(error.value)


# --- log-probabilities ----------------------------------------------------------------------------


def by_strategy(name: str):
    """A server's reply that plays Kuhn poker as the strategy does, by first tokens."""
    game = sk.get_game("kuhn")
    strategy = sk.scripted(game, name)
    known = {}
    for state in all_states():
        known[game.render(state)] = (state.legal_actions, strategy.distributions([state])[0])

    def reply(body):
        actions, p = known[body["messages"][1]["content"]]
        if not body.get("logprobs"):
            return actions[int(np.argmax(p))]
        # Some of the mass on tokens that begin no action; half of an action's on a shorter first token.
        found = {"I": math.log(0.5)}
        for action, chance in zip(actions, p, strict=True):
            if chance:
                found |= {action[:1]: math.log(chance / 4), f" {action}": math.log(chance / 4)}
        return found

    return reply


def all_states():
    seen, found = set(), []
    todo = [sk.get_game("kuhn").initial_state()]
    while todo:
        state = todo.pop()
        if state in seen or state.is_terminal or state.round > 1:
            continue
        seen.add(state)
        if outcomes := state.chance_outcomes():
            todo += [state.apply_chance(outcome) for outcome, _ in outcomes]
            continue
        (actor,) = state.actors
        information = state.information(actor)
        found.append(information)
        todo += [state.apply((action,)) for action in information.legal_actions]
    return list(dict.fromkeys(found))


def test_with_log_probabilities_kuhn_poker_is_enumerated_through_a_server(make, server):
    server.reply = by_strategy("nash")
    agent = make(style="direct", temperature=1.0)
    wanted = sk.evaluate(sk.scripted("kuhn", "nash"), "kuhn", exact=True)
    found = sk.evaluate(agent, "kuhn", exact=True)
    assert found.terms.payoff == pytest.approx(wanted.terms.payoff)
    assert sk.exact.worst_case("kuhn", agent).advantage == pytest.approx(0, abs=1e-9)
    assert {body["max_tokens"] for body in server.bodies} == {1} and all(b["logprobs"] for b in server.bodies)
    assert len(server.bodies) <= 12  # every information state once
    (decision,) = agent.act([first()], [0.0])
    assert decision.log_prob is not None and decision.reply == decision.action


def test_temperature_sharpens_what_the_server_states(make, server):
    server.reply = lambda body: {"P": math.log(0.8), "B": math.log(0.2)}
    (p,) = make(style="direct", temperature=0.5).distributions([first()])
    assert p.tolist() == pytest.approx([0.64 / 0.68, 0.04 / 0.68])
    (p,) = make(style="direct", temperature=0).distributions([first()])
    assert p.tolist() == [1.0, 0.0]


def test_a_server_without_log_probabilities_is_asked_in_words(make, server):
    server.reply = lambda body: "PASS"  # and says nothing of them
    agent = make(style="direct")
    decisions = agent.act([first()] * 2, [0.1, 0.2])
    assert [(d.action, d.log_prob) for d in decisions] == [("PASS", None)] * 2
    asked = len([body for body in server.bodies if body.get("logprobs")])
    agent.act([first()] * 2, [0.3, 0.4])
    assert len([body for body in server.bodies if body.get("logprobs")]) == asked == 1
    with pytest.raises(NoDistribution, match="gives no log-probabilities"):
        agent.distributions([first()])
    with pytest.raises(ValueError, match="gives no log-probabilities; use log_probs='auto'"):
        make(style="direct", log_probs=True).act([first()], [0.1])


def test_a_server_that_refuses_log_probabilities_is_asked_in_words(make, server):
    server.faults = [status(400, "logprobs is not supported")]
    (decision,) = make(style="direct").act([first()], [0.1])
    assert decision.action == "PASS" and "logprobs" not in server.bodies[-1]


def test_log_probs_false_never_asks_for_them(make, server):
    agent = make(style="direct", log_probs=False)
    agent.act([first()], [0.1])
    assert "logprobs" not in server.bodies[-1]
    with pytest.raises(NoDistribution, match="was told not to ask"):
        agent.distributions([first()])
    with pytest.raises(NoDistribution, match="answers in free text"):
        make().distributions([first()])


def test_actions_that_begin_alike_are_asked_in_words(make, server):
    seen = first("negotiation_v2")
    server.reply = lambda body: {"BO": -0.1} if body.get("logprobs") else seen.legal_actions[5]
    agent = make(game="negotiation_v2", style="direct")
    assert agent.act([seen], [0.1])[0].action == seen.legal_actions[5]
    agent.act([seen], [0.2])
    assert len([body for body in server.bodies if body.get("logprobs")]) == 1
    with pytest.raises(NoDistribution, match="do not tell"):
        agent.distributions([seen])


FILLERS = {f"x{i}": -17.0 - i / 400 for i in range(18)}
UNSEEN = {  # first tokens as a server lists them, and which of LOW, MEDIUM, HIGH may be played beside LOW
    "thinks first": {"<think>": -1e-6, "L": -17.0, **FILLERS},
    "thinks first, rounded": {"<think>": 0.0, "L": -17.0, **FILLERS},
    "the drawn token is the least": {
        "L": math.log(0.3),
        **dict.fromkeys(FILLERS, math.log(0.01)),
        "zz": -25.0,
    },
    "the drawn token alone": {"L": math.log(0.6)},
    "no action": {"<think>": -0.1},
}


@pytest.mark.parametrize("listed", UNSEEN.values(), ids=UNSEEN)
def test_an_action_that_is_not_listed_but_may_be_played_is_not_stated_as_impossible(make, server, listed):
    server.reply = lambda body: listed if body.get("logprobs") else "HIGH"
    seen, agent = first("auction"), make(game="auction", style="direct")
    with pytest.raises(
        NoDistribution, match=r"do not show how likely each of LOW, MEDIUM, HIGH is .*thinks first"
    ):
        agent.distributions([seen])
    with pytest.raises(NoDistribution, match="do not show"):
        sk.evaluate(agent, "auction", exact=True)
    (decision,) = agent.act([seen], [0.1])
    assert (decision.action, decision.log_prob) == ("HIGH", None)


def test_actions_that_are_all_listed_are_stated_however_unlikely(make, server):
    server.reply = lambda body: {"<think>": -1e-6, "L": -17.0, "M": -17.1, "H": -17.2}
    (p,) = make(game="auction", style="direct").distributions([first("auction")])
    assert p.tolist() == pytest.approx([0.376, 0.332, 0.293], abs=5e-4)


@pytest.mark.parametrize(
    ("listed", "temperature"),
    [({"L": -1e-5} | {name: -20.0 for name in FILLERS}, 0.8), ({"L": -0.1} | FILLERS, 0)],
)
def test_an_action_that_cannot_have_any_weight_is_not_listed_and_not_missed(
    make, server, listed, temperature
):
    server.reply = lambda body: listed
    agent = make(game="auction", style="direct", temperature=temperature)
    assert agent.distributions([first("auction")])[0].tolist() == [1.0, 0.0, 0.0]


@given(
    st.lists(st.floats(-30, 10), min_size=40, max_size=40),
    st.sampled_from([0.5, 0.8, 1.0, 2.0]),
    st.integers(0, 39),
)
def test_what_is_stated_of_a_part_of_the_tokens_is_what_all_of_them_give(logits, temperature, drawn):
    names = ["L", "M", "H", *(f"x{i}" for i in range(37))]
    log_p = dict(zip(names, (logits - np.logaddexp.reduce(logits)).tolist(), strict=True))
    top = sorted(names, key=log_p.get, reverse=True)[:20]
    listed = {name: log_p[name] for name in [*top, names[drawn]]}
    p, _ = first_token_distribution(listed, ("LOW", "MEDIUM", "HIGH"), temperature)
    whole, _ = first_token_distribution(log_p, ("LOW", "MEDIUM", "HIGH"), temperature)
    if p is not None:
        assert p == pytest.approx(whole, abs=2e-4)
    assert p is not None or not {"L", "M", "H"} <= set(listed)


@pytest.mark.parametrize(
    ("game", "listed", "why"),
    [
        ("negotiation_v2", {"BO": -0.1}, "do not tell"),
        ("auction", UNSEEN["thinks first"], "do not show"),
        ("auction", "HIGH", "gives no log-probabilities"),
    ],
)
def test_log_probs_true_is_an_error_where_they_give_no_distribution(make, server, game, listed, why):
    server.reply = lambda body: listed
    agent = make(game=game, style="direct", log_probs=True)
    for _ in range(2):
        with pytest.raises(ValueError, match=f"{why}.*; use log_probs='auto' to ask in words there"):
            agent.act([first(game)], [0.1])
