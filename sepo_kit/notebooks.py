"""One notebook, headless through papermill: its parameters checked, its error in one line.

The order of notebooks is in ``reproduce.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
NOTEBOOKS = PROJECT / "notebooks"


class NotebookFailed(RuntimeError):
    """A notebook ended with an error."""


def check_parameters(notebook: str, parameters: dict[str, Any]) -> None:
    """ValueError unless the notebook exists and has every parameter."""
    import papermill

    path = NOTEBOOKS / f"{notebook}.ipynb"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb")))
        raise ValueError(f"unknown notebook {notebook!r}; known: {known}")
    known = papermill.inspect_notebook(str(path))
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(
            f"notebook {notebook} has no parameter {', '.join(map(repr, unknown))}; it has: {', '.join(known)}"
        )


def run_notebook(notebook: str, parameters: dict[str, Any], output: Path) -> None:
    """Run one notebook in the foreground; its executed copy goes to ``output``, also where it fails.

    Raises
    ------
    ValueError
        Unknown notebook or parameter.
    NotebookFailed
        A cell ended with an error.
    """
    check_parameters(notebook, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    log = output.with_suffix(".log")
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command(notebook, parameters, output), stdout=file, stderr=file, cwd=PROJECT
        )
        if process.wait() != 0:
            raise NotebookFailed(f"{notebook} failed: {last_error(log)}\nits log: {log}")


def command(notebook: str, parameters: dict[str, Any], output: Path) -> list[str]:
    return [
        sys.executable, "-m", "papermill", str(NOTEBOOKS / f"{notebook}.ipynb"), str(output),
        "--parameters_yaml", json.dumps(parameters), "--no-progress-bar", "--log-output", "--cwd", str(PROJECT),
    ]  # fmt: skip


def last_error(log: Path) -> str:
    """The last line of the log that names an error."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    named = [
        line for line in lines if "Error" in line.split(":")[0] or line.startswith(("KeyboardInterrupt",))
    ]
    return (named or lines or ["no output"])[-1]
