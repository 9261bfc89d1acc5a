"""Endpoints by name: the user's file, which never holds a key, and the grammar of opponents."""

from __future__ import annotations

import pytest
from chat_server import serving

import sepo_kit as sk
from sepo_kit.adversaries.opponents import resolve, resolve_agent
from sepo_kit.cli import main
from sepo_kit.models.endpoints_file import endpoints_file, named_endpoint, read_endpoints

pytest.importorskip("openai", reason="the extra endpoints is not installed")

KEY = "sk-SECRET0123456789"


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPO_KIT_ENDPOINTS", str(tmp_path / "mine.toml"))
    return tmp_path / "mine.toml"


def test_where_the_file_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("SEPO_KIT_ENDPOINTS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert endpoints_file() == tmp_path / "sepo_kit" / "endpoints.toml"
    assert read_endpoints() == {}
    monkeypatch.setenv("SEPO_KIT_ENDPOINTS", str(tmp_path / "other.toml"))
    assert endpoints_file() == tmp_path / "other.toml"


def test_a_name_is_an_agent_and_an_opponent(file, capsys, monkeypatch, cache_folder):
    with serving(lambda body: "PASS") as server:
        file.write_text(
            f'[mine]\nbase_url = "{server.url}"\nmodel = "tiny"\ntemperature = 0.3\nprices = [1, 2.5]\nretries = 0\n'
        )
        agent = resolve_agent("kuhn", "endpoint:mine", style="direct")
        assert (agent.name, agent.temperature, agent.style, agent.asking.prices) == (
            "mine",
            0.3,
            "direct",
            (1.0, 2.5),
        )
        opponent = resolve("kuhn", "endpoint:mine")
        (episode,) = sk.play("kuhn", sk.scripted("kuhn", "nash"), opponent, episodes=1)
        assert all(answer.reply == "PASS" for answer in episode.answers) and server.bodies
        assert main(["evaluate", "kuhn", "endpoint:mine", "--episodes", "1", "--temperature", "0"]) == 0
        assert "tokens" in capsys.readouterr().err and server.bodies[-1]["temperature"] == 0


def test_a_file_can_name_a_version_and_say_that_nothing_is_kept(file):
    mine = '[mine]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "tiny"\n'
    file.write_text(mine + 'version = "step 200"\nkept = false\n')
    agent = named_endpoint("mine", "kuhn")
    assert agent.describe()["version"] == "step 200" and agent.asking.kept.folder is None
    file.write_text(mine)
    assert named_endpoint("mine", "kuhn").asking.kept.folder is not None


WRONG = {
    "broken": ("[mine", "is not TOML"),
    "no table": ('mine = "x"', "mine must be a table"),
    "a key": (f'[mine]\nbase_url = "http://h/v1"\nmodel = "m"\napi_key = "{KEY}"', r"must not hold a key \(api_key\)"),
    "a token": (f'[mine]\nbase_url = "http://h/v1"\nmodel = "m"\ntoken = "{KEY}"', r"must not hold a key \(token\)"),
    "a key for its variable": (
        f'[mine]\nbase_url = "http://h/v1"\nmodel = "m"\nkey_variable = "{KEY}"', "never the key itself",
    ),
    "a password": (f'[mine]\nbase_url = "http://me:{KEY}@h/v1"\nmodel = "m"', "must hold no user, password"),
    "unknown field": ('[mine]\nbase_url = "http://h/v1"\nmodel = "m"\nheat = 1', "unknown heat; known: base_url"),
    "no model": ('[mine]\nbase_url = "http://h/v1"', r"\[mine\] lacks model"),
    "another name": ('[other]\nbase_url = "http://h/v1"\nmodel = "m"', r"no endpoint 'mine' in .*; it has: other"),
    "a bad value": ('[mine]\nbase_url = "http://h/v1"\nmodel = "m"\nretries = "x"', "retries must be a whole number"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_wrong_is_one_line_without_a_secret(file, text, message):
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        named_endpoint("mine", "kuhn")
    assert KEY not in str(error.value) and "\n" not in str(error.value)


def test_without_a_file_the_line_says_where_it_belongs(file):
    with pytest.raises(ValueError, match="there is no such file") as error:
        resolve("kuhn", "endpoint:mine")
    assert str(file) in str(error.value)
