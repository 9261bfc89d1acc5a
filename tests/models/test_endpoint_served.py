"""An agent behind ``transformers serve``, the server that comes with transformers, around a tiny model."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from batches import wait_for

import sepo_kit as sk
from sepo_kit.models.server import EndpointError

pytestmark = pytest.mark.slow
for package in ("openai", "fastapi", "uvicorn"):
    pytest.importorskip(package, reason=f"transformers serve needs {package}")


@pytest.fixture(scope="module")
def served(tiny_folder, tmp_path_factory):
    """The base URL of a server with the tiny model, whose name there is its folder's."""
    start = "from transformers.cli.transformers import main; main()"
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", start, "serve", str(tiny_folder), "--device", "cpu", "--host", "127.0.0.1",
             "--port", "0"],
            env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def listens():
        assert process.poll() is None, log.read_text()
        return re.search(r"Uvicorn running on (http://127\.0\.0\.1:\d+)", log.read_text())

    try:
        yield wait_for(listens, log, seconds=600)[1] + "/v1"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
