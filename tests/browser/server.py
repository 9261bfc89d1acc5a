"""A JupyterLab of its own for the browser tests: loopback, free port, token, nothing of the user's."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from urllib.request import Request, urlopen

import nbformat
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from sepo_kit.pipeline.children import die_with_parent
from sepo_kit.pipeline.notebooks import NOTEBOOKS
from sepo_kit.runs.project import PROJECT

# Those of `make install`, of which nothing asks about news on the first visit or looks for updates.
SETTINGS = json.loads((PROJECT / "configs" / "jupyterlab" / "overrides.json").read_text())
OPTIONS = [
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port=0",  # any free one; which, the server writes into its runtime folder
    "--ServerApp.open_browser=False",
    "--ServerApp.allow_root=True",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
    "--expose-app-in-browser",  # so that a test can ask which cells have run
]


class JupyterServer:
    """JupyterLab on copies of the notebooks under ``folder``; ends with its kernels when the block ends.

    Kernels are the Python that runs the tests, with this checkout first on their path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notebooks = folder / "notebooks"
        self.token = secrets.token_hex(16)
        self.log = folder / "jupyter.log"

    def __enter__(self) -> JupyterServer:
        self.notebooks.mkdir(parents=True)
        self._write_settings()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *OPTIONS, f"--ServerApp.root_dir={self.notebooks}"],
                cwd=self.notebooks, env=self._environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=partial(die_with_parent, signal.SIGTERM),
            )  # fmt: skip
        try:
            self.url = self._address()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Asked to shut down, the server ends its kernels first; killed, they notice and end themselves."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _write_settings(self) -> None:
        for name, value in SETTINGS.items():
            path = self.folder / "settings" / f"{name.replace(':', '/')}.jupyterlab-settings"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(value))

    def _environment(self) -> dict[str, str]:
        own = {
            "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython",
        }  # fmt: skip
        return {
            **os.environ,
            **{name: str(self.folder / folder) for name, folder in own.items()},
            "JUPYTER_TOKEN": self.token,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
        }

    def _address(self, patience: float = 600) -> str:
        """The server's address, once it answers: it names its port in its runtime folder before it listens there."""
        until = time.monotonic() + patience
        while time.monotonic() < until and self.process.poll() is None:
            for path in (self.folder / "runtime").glob("jpserver-*.json"):
                # Half a file, or one that has gone; a port where nobody listens yet, or who listens hangs up.
                with suppress(json.JSONDecodeError, OSError):
                    url = f"http://127.0.0.1:{json.loads(path.read_text())['port']}"
                    with self._answer(f"{url}/api/status"):
                        return url
            time.sleep(0.1)
        raise RuntimeError(f"JupyterLab did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def add(self, name: str, **parameters: object) -> str:
        """Copy a notebook of the repository into a folder of its own, with ``parameters`` as papermill would set
        them; the copy's path for the server."""
        notebook = load_notebook_node(str(NOTEBOOKS / f"{name}.ipynb"))
        if parameters:
            notebook = parameterize_notebook(notebook, parameters)
        folder = f"{len(list(self.notebooks.iterdir()))}"
        (self.notebooks / folder).mkdir()
        nbformat.write(notebook, self.notebooks / folder / f"{name}.ipynb")
        return f"{folder}/{name}.ipynb"

    def _answer(self, url: str) -> HTTPResponse:
        return urlopen(Request(url, headers={"Authorization": f"token {self.token}"}), timeout=60)
