"""The games in verifiers: whole episodes by its own machinery against a server on the loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from every_game import EVERY_GAME, each_game

from sepo_kit import interop
from sepo_kit.engine.episode import Decision
from sepo_kit.engine.policy import StrategyPolicy, uniform
from sepo_kit.engine.rollout import play_matches
from sepo_kit.games import get_game
from sepo_kit.objective.credit import assign_credit, training_matches

vf = pytest.importorskip("verifiers.v1", reason="the extra verifiers is not installed")

from verifiers.v1.cli import validate
from verifiers.v1.configs.cli.validate import ValidateConfig

from sepo_kit.interop import verifiers_env


class Server:
    """Chat completions: what ``reply`` makes of a request's messages; ``requests`` has them all."""

    def __init__(self, reply) -> None:
        self.requests: list[list[dict]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(body["messages"])
                text = reply(body["messages"])
                message = {"role": "assistant", "content": text or ""}
                answer = {
                    "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                }  # fmt: skip
                data = json.dumps(answer).encode()
                self.send_response(400 if text is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Patient(ThreadingHTTPServer):
            request_queue_size = 256  # an episode asks for all its first moves at once; 5 would be refused

        self.http = Patient(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def serve():
    """``Server`` that ends with the test."""
    servers = []

    def started(reply) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield started
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def episode(env, server, number: int = 0):
    """One episode of verifiers: task ``number``."""

    async def run():
        client = vf.EvalClientConfig(base_url=f"http://127.0.0.1:{server.http.server_port}/v1")
        async with env.serving():
            (task,) = env.taskset.skip(number).take(1)
            return await env.run_episode(task, vf.ModelContext(model="some-model", client=client))

    return asyncio.run(run())


class FirstLegal(StrategyPolicy):
    """Plays the first legal action: what the server's ``first`` says, inside the kit."""

    def act(self, seen, uniforms):
        return [Decision(state.legal_actions[0], None) for state in seen]


def first_of(game):
    """A reply that names the first legal action. The server is told prompts only, so it looks them up."""
    prompts = {}
    render = game.render

    def noted(seen):
        prompts[render(seen)] = seen.legal_actions[0]
        return render(seen)

    return noted, lambda messages: f"It comes first.\n{prompts[messages[-1]['content']]}"


@each_game
def test_an_episode_is_a_training_step_of_the_kit(game, serve, monkeypatch):
    noted, reply = first_of(game)
    monkeypatch.setattr(game, "render", noted, raising=False)
    found = episode(interop.to_verifiers(game, rollouts=2), serve(reply), 1)
    assert found.ok and not found.errors and found.task.data.seed == 1
    todo = training_matches(game, "credited", 2)
    expected = play_matches(game, FirstLegal(uniform(game).strategy), todo, seed=1)
    credit = assign_credit(game.spec, expected)
    assert len(found.traces) == sum(len(e.decisions) for e in expected)
    # Traces end in any order; what they were paid is that of the kit's own record.
    paid = sorted((trace.reward, trace.metrics["advantage"]) for trace in found.traces)
    assert np.allclose(paid, sorted(zip(credit.reward, credit.advantage)))
    assert all(trace.metrics["fallback"] == 0 for trace in found.traces)


@pytest.mark.parametrize("game", EVERY_GAME[-2:], ids=lambda game: game.spec.id)
def test_a_decision_is_a_chat_of_two_messages_and_its_rewards_are_the_terms(game, serve, monkeypatch):
    noted, reply = first_of(game)
    monkeypatch.setattr(game, "render", noted, raising=False)
    server = serve(reply)
    found = episode(interop.to_verifiers(game, rollouts=1, style="direct"), server)
    assert {tuple(message["role"] for message in request) for request in server.requests} == {
        ("system", "user")
    }
    assert {request[0]["content"] for request in server.requests} == {game.system_prompt("direct")}
    weights = game.spec.weights
    for trace in found.traces:
        told = {name: reward.weight for name, reward in trace.rewards.items()}
        assert told == {
            "payoff": 1,
            "exploit": -weights.exploit,
            "collusion": -weights.collusion,
            "externality": -weights.externality,
        }


def test_every_trace_is_paid_for_its_own_decision():
    """Three episodes of 2, 1 and 2 decisions, played in lockstep."""
    episodes = [SimpleNamespace(decisions=[None] * count) for count in (2, 1, 2)]
    assert verifiers_env.in_order(episodes, [["a1", "b1", "c1"], ["a2", "c2"]]) == [
        "a1",
        "a2",
        "b1",
        "c1",
        "c2",
    ]


def test_advantages_stand_on_the_sampled_tokens():
    game = get_game("kuhn")
    episodes = play_matches(game, uniform(game), training_matches(game, "credited", 2), seed=0)
    count = sum(len(e.decisions) for e in episodes)

    def trace():
        message = vf.AssistantMessage(content="PASS")
        node = vf.MessageNode(message=message, sampled=True, token_ids=[1, 2, 3], mask=[False, True, True])
        seen = SimpleNamespace(nodes=[node], rewards={}, metrics={})
        seen.record_reward = lambda name, value, weight=1.0: seen.rewards.update({name: value * weight})
        seen.record_metric = lambda name, value: seen.metrics.update({name: value})
        return seen

    traces = [trace() for _ in range(count)]
    verifiers_env.pay(game, episodes, traces)
    credit = assign_credit(game.spec, episodes)
    assert [sum(t.rewards.values()) for t in traces] == pytest.approx(credit.reward.tolist())
    assert [t.nodes[0].advantages for t in traces] == [[a, a] for a in credit.advantage.tolist()]


def test_the_same_task_is_the_same_episode(serve):
    server = serve(lambda messages: "PASS or BET")
    env = interop.to_verifiers("kuhn", rollouts=1)
    told = [
        sorted((t.task.data.prompt, t.reward) for t in episode(env, server, task).traces)
        for task in (0, 0, 1)
    ]
    assert told[0] == told[1] != told[2]


def test_a_reply_that_cannot_be_read_is_counted(serve):
    found = episode(interop.to_verifiers("kuhn", rollouts=1), serve(lambda messages: "I would rather not."))
    assert found.ok and all(trace.metrics["fallback"] == 1 for trace in found.traces)


def test_a_server_that_fails_fails_the_episode(serve):
    found = episode(interop.to_verifiers("kuhn", rollouts=1), serve(lambda messages: None))
    assert not found.ok and "the agent failed at a decision" in found.errors[0].message


def test_what_it_records_is_read_again(serve):
    found = episode(interop.to_verifiers("kuhn", rollouts=1), serve(lambda messages: "PASS"))
    again = vf.WireEpisode.model_validate_json(found.model_dump_json())
    assert [trace.reward for trace in again.traces] == pytest.approx([trace.reward for trace in found.traces])


@each_game
def test_its_tasks_pass_verifiers_own_checks(game):
    env = interop.to_verifiers(game)
    config = ValidateConfig(taskset=env.taskset.config, runtime=vf.SubprocessConfig(), rich=False)
    for task in env.taskset.take(2):
        row = asyncio.run(validate._run_check(task, config, "setup"))
        assert row["reason"] == "valid", row
    first, second = env.taskset.take(2)
    assert first.key != second.key and first.data.system_prompt == game.system_prompt("reasoned")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rollouts": 0}, "rollouts must be a whole number >= 1, got 0"),
        ({"rollouts": True}, "rollouts must be a whole number >= 1, got True"),
        ({"style": "loud"}, "reply style must be one of direct, reasoned, got 'loud'"),
    ],
)
def test_what_is_not_there_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        interop.to_verifiers(EVERY_GAME[0], **options)
