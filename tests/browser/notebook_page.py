"""One notebook open in JupyterLab, driven as a person would: menus, mouse and keyboard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

from browser.server import JupyterServer

# What JupyterLab knows about every code cell that has something to run. Cells out of sight have no elements on
# the page, so their state is asked of the notebook's model.
CELLS = """() => {
    const notebook = window.jupyterapp?.shell.currentWidget?.content;
    if (!notebook?.model) return null;
    return [...notebook.model.cells].map((cell, number) => {
        if (cell.type !== 'code' || !cell.sharedModel.getSource().trim()) return null;
        const errors = cell.outputs.toJSON().filter(o => o.output_type === 'error');
        return {
            number, source: cell.sharedModel.getSource(), count: cell.executionCount,
            running: cell.executionState === 'running',
            figures: cell.outputs.toJSON().filter(o => o.data && 'image/png' in o.data).length,
            error: errors.length ? `${errors[0].ename}: ${errors[0].evalue}` : null,
        };
    }).filter(cell => cell !== null);
}"""
KERNEL = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
SAVE = "() => window.jupyterapp.commands.execute('docmanager:save')"
SHUT_DOWN = "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"
THEME = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
SHOW = """async number => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = number;
    await notebook.scrollToItem(number, 'start');
}"""
DECODED = "pictures => pictures.every(picture => picture.complete && picture.naturalWidth > 0)"


class NotebookPage:
    """A notebook in a window of ``width`` pixels.

    ``dialogs`` and ``errors`` collect what a page must never show: messages of ``alert``, uncaught errors.
    """

    def __init__(self, browser: Browser, server: JupyterServer, name: str, width: int = 1000) -> None:
        self.name = name
        self.server = server
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.set_default_navigation_timeout(180_000)  # JupyterLab is 17 MB
        self.dialogs: list[str] = []
        self.errors: list[str] = []
        self.page.on("dialog", self._dismiss)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self._open()
        self.page.keyboard.press("Control+b")  # the file browser's column is not needed

    def __enter__(self) -> NotebookPage:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            self.page.evaluate(SHUT_DOWN)
        finally:
            self.context.close()
        if error is None:
            assert self.dialogs == [], f"{self.name} opened a dialog"
            assert self.errors == [], f"{self.name} had errors on the page"

    def _open(self) -> None:
        self.page.goto(f"{self.server.url}/lab/tree/{self.name}?token={self.server.token}&reset")
        self._wait("the kernel", lambda: self.page.evaluate(KERNEL) == "idle", 300)

    def reopen(self) -> None:
        """Save, end the kernel, and open the notebook as someone would tomorrow."""
        self.page.evaluate(SAVE)
        self.page.evaluate(SHUT_DOWN)
        self._open()

    def _dismiss(self, dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _wait(self, what: str, ready: Callable[[], bool], patience: float) -> None:
        until = time.monotonic() + patience
        while not ready():
            if time.monotonic() > until:
                raise AssertionError(f"{self.name}: {what} was not ready in {patience:.0f} s")
            self.page.wait_for_timeout(50)

    def run_all(self, patience: float = 900) -> None:
        """Run > Run All Cells, and wait until the last cell has run; the failing or the slow one is named."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        until = time.monotonic() + patience
        while waiting := self._waiting():
            if time.monotonic() > until:
                raise AssertionError(f"{self.name}: after {patience:.0f} s still at {_cell(waiting[0])}")
            self.page.wait_for_timeout(50)

    def _waiting(self) -> list[dict]:
        """The code cells that have not run yet; AssertionError where one ended with an error."""
        cells = self.page.evaluate(CELLS)
        for cell in cells:
            if cell["error"]:
                raise AssertionError(f"{self.name}: {_cell(cell)} ended with {cell['error']}")
        return [cell for cell in cells if cell["count"] is None or cell["running"]]

    def show(self, source: str) -> Locator:
        """Scroll to the first code cell whose source has ``source`` in it, and return it."""
        return self._show(next(c["number"] for c in self.page.evaluate(CELLS) if source in c["source"]))

    def _show(self, number: int) -> Locator:
        self.page.evaluate(SHOW, number)
        cell = self.page.locator(f'.jp-Notebook-cell[data-windowed-list-index="{number}"]')
        cell.wait_for(state="visible")
        return cell

    @contextmanager
    def dark(self) -> Iterator[None]:
        """The dark theme while the block lasts."""
        for theme in ("JupyterLab Dark", "JupyterLab Light"):
            self.page.evaluate(THEME, theme)
            self.page.locator(f'body[data-jp-theme-name="{theme}"]').wait_for(state="attached")
            if theme == "JupyterLab Dark":
                yield

    def figures(self) -> Iterator[Locator]:
        """Every figure among the outputs, in order, scrolled to when its turn comes."""
        for cell in self.page.evaluate(CELLS):
            if cell["figures"]:
                yield from self.pictures(self._show(cell["number"]).locator("img"), cell["figures"]).all()

    def pictures(self, found: Locator, count: int) -> Locator:
        """``found``, as soon as it is so many pictures, with the sizes that they have when they are decoded."""
        expect(found).to_have_count(count)
        self._wait("a picture", lambda: found.evaluate_all(DECODED), 60)
        return found

    def screenshot(self, path: Path, of: str) -> None:
        """The window as PNG, scrolled to the code cell with ``of`` in its source."""
        cell = self.show(of)
        self._wait("a picture", lambda: cell.locator("img:visible").evaluate_all(DECODED), 60)
        cell.element_handle().wait_for_element_state("stable")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)


def _cell(cell: dict) -> str:
    first = next(line for line in cell["source"].splitlines() if line.strip())
    return f"cell {cell['number']} ({first.strip()!r})"
