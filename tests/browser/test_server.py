"""The browser tests' own JupyterLab: when it counts as started."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from time import sleep
from types import SimpleNamespace

import pytest

from browser.server import JupyterServer


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass


@pytest.fixture
def starting(tmp_path):
    """A server of which a runtime folder, a log and a process are there, and nothing else yet."""
    server = JupyterServer(tmp_path)
    (tmp_path / "runtime").mkdir()
    server.log.write_text("said before it ended")
    server.process = SimpleNamespace(poll=lambda: None)
    return server


def test_it_is_asked_again_where_it_named_its_port_before_it_listened_or_hung_up(starting):
    with HTTPServer(("127.0.0.1", 0), Answer, bind_and_activate=False) as late:
        late.server_bind()  # connections are refused until server_activate

        def listen():
            sleep(0.5)
            late.server_activate()
            late.socket.accept()[0].close()
            late.handle_request()

        runtime = starting.folder / "runtime"
        (runtime / "jpserver-1.json").symlink_to(runtime / "gone")
        (runtime / "jpserver-2.json").write_text('{"por')
        (runtime / "jpserver-3.json").write_text(f'{{"port": {late.server_port}}}')
        listener = Thread(target=listen)
        listener.start()
        assert starting._address() == f"http://127.0.0.1:{late.server_port}"
        listener.join()


def test_one_that_ended_says_what_it_last_said(starting):
    starting.process = SimpleNamespace(poll=lambda: 1)
    with pytest.raises(RuntimeError, match="said before it ended"):
        starting._address()
