"""An agent behind ``transformers serve``, the server that comes with transformers, around a tiny model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

import sepo_kit as sk
from sepo_kit.models.server import EndpointError

pytestmark = pytest.mark.slow
for package in ("openai", "fastapi", "uvicorn"):
    pytest.importorskip(package, reason=f"transformers serve needs {package}")


@pytest.fixture(scope="module")
def served(tiny_folder, tmp_path_factory):
    """The base URL of a server with the tiny model, whose name there is its folder's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "from transformers.cli.transformers import main; main()"
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", start, "serve", str(tiny_folder), "--device", "cpu", "--host", "127.0.0.1",
             "--port", str(port)],
            env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail(f"the server never answered:\n{log.read_text()}")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def test_a_served_model_plays_and_what_it_said_is_kept(served, tiny_folder, tmp_path):
    def agent(**how):
        return sk.endpoint(
            served, str(tiny_folder), "kuhn", **{"max_tokens": 12, "kept": tmp_path, "name": "served", **how}
        )

    played = sk.evaluate(agent(), "kuhn", episodes=1)
    again = agent()
    assert sk.evaluate(again, "kuhn", episodes=1).episodes == played.episodes
    assert again.usage.asked == 0 < again.usage.replies and again.usage.prompt_tokens > 0
    with pytest.raises(ValueError, match="gives no log-probabilities"):
        sk.evaluate(agent(style="direct"), "kuhn", exact=True)


def test_a_model_that_is_not_served_is_one_line(served):
    agent = sk.endpoint(served, "another", "kuhn", kept=None)
    with pytest.raises(EndpointError, match="another") as error:
        sk.play("kuhn", agent, "nash", episodes=1)
    assert "\n" not in str(error.value)
