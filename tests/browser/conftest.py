"""One JupyterLab and one Chromium for all browser tests of a run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from browser.notebook_page import NotebookPage
from browser.server import JupyterServer
from sepo_kit.runs.project import PROJECT

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """The browser's path: $CHROMIUM, or the first on the PATH. A failure, not a skip, where there is none."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail(
            "the browser tests need Chromium and found none: `apt-get install chromium` (Debian, Ubuntu), or set "
            "CHROMIUM to the path of a Chromium or Chrome; `make test PYTEST_ARGS='--ignore tests/browser'` runs "
            "the other tests",
            pytrace=False,
        )
    return found


@pytest.fixture(scope="package")
def browser():
    """Chromium without a window, with a new and empty profile."""
    path = chromium()
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=180_000)
        yield running
        running.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    with JupyterServer(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="package")
def open_notebook(browser, server):
    """``open_notebook(name, **parameters)``: a ``NotebookPage`` to be used in a ``with`` block."""

    def open_copy(name: str, **parameters: object) -> NotebookPage:
        return NotebookPage(browser, server, server.add(name, **parameters))

    return open_copy


@pytest.fixture(scope="session")
def screenshots(request, tmp_path_factory) -> Path:
    """Where screenshots go: ``--screenshots``, or a temporary folder."""
    chosen = request.config.getoption("--screenshots")
    return Path(chosen).resolve() if chosen else tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="session")
def real_runs(request) -> Path | None:
    """The project's own runs of the quick profile, if pictures are asked for and there are any."""
    folder = PROJECT / "runs" / "quick"
    return folder if request.config.getoption("--screenshots") and folder.exists() else None


@pytest.fixture(autouse=True)
def last_look(request, browser, tmp_path):
    """What every open page shows when a test ends, in the test's temporary folder: for whoever asks why it failed."""
    yield
    for number, context in enumerate(browser.contexts):
        context.pages[0].screenshot(path=tmp_path / f"end-{number}.png")
