"""A real HTTP server on the loopback that speaks OpenAI's chat protocol, as well or as badly as a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Faults = list[Callable[["Handler"], None]]


class ChatServer(ThreadingHTTPServer):
    """``reply``: from the body of a request to a text, or to the first token's log-probabilities where these are asked
    for. ``faults`` are used up one a request, before any reply. ``bodies``, ``headers``: what was sent. ``no_system``:
    how it refuses a message of the system, if it does."""

    daemon_threads = True

    def __init__(self, reply: Callable[[dict], str | dict]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.faults: Faults = []
        self.bodies: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.models = ["tiny"]
        self.key: str | None = None
        self.no_system: Callable[[Handler], None] | None = None
        self.at_once = self.most_at_once = 0
        self.pause = 0.0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address) -> None:
        pass  # a client that has given up


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        self.send(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]}
        )

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.bodies.append(body)
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            fault = server.faults.pop(0) if server.faults else None
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            time.sleep(server.pause)
            self.answer(body, fault)
        finally:
            with server.lock:
                server.at_once -= 1

    def answer(self, body: dict, fault: Callable[[Handler], None] | None) -> None:
        server = self.server
        if fault is not None:
            fault(self)
        elif server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
            sent = self.headers.get("Authorization", "nothing")
            self.send({"error": {"message": f"Incorrect API key provided: {sent}."}}, 401)
        elif body["model"] not in server.models:
            self.send({"error": {"message": f"The model {body['model']} does not exist"}}, 404)
        elif server.no_system and any(message["role"] == "system" for message in body["messages"]):
            server.no_system(self)
        else:
            said = server.reply(body)
            choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            if isinstance(said, dict):
                tokens = [{"token": t, "logprob": p, "bytes": None} for t, p in said.items()]
                choice["message"]["content"] = tokens[0]["token"]
                choice["logprobs"] = {"content": [{**tokens[0], "top_logprobs": tokens}]}
            self.send_choice(choice)

    def send_choice(self, choice: dict) -> None:
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        about = {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny"}
        self.send({**about, "choices": [choice], "usage": usage})

    def send(self, value: object, status: int = 200, **headers: str) -> None:
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(value, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(data)


def status(number: int, message: str = "no", **headers: str) -> Callable[[Handler], None]:
    """A fault: this status instead of a reply."""
    return lambda handler: handler.send({"error": {"message": message}}, number, **headers)


def other(value: object) -> Callable[[Handler], None]:
    """A fault: this in place of a chat completion."""
    return lambda handler: handler.send(value)


def cut_off(handler: Handler) -> None:
    """A fault: a reply that stops at its limit of tokens."""
    handler.send_choice(
        {"index": 0, "message": {"role": "assistant", "content": "PASS"}, "finish_reason": "length"}
    )


def hang_up(handler: Handler) -> None:
    """A fault: half a reply, and the connection is cut."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"id": "1", "choi')
    handler.wfile.flush()
    handler.close_connection = True


@contextmanager
def serving(reply: Callable[[dict], str | dict]) -> Iterator[ChatServer]:
    """A server that runs as long as the block does."""
    server = ChatServer(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
