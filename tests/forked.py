"""Programs in processes that have the libraries already, forks of one that has read them: reading them takes a new
process ten seconds. For tests of what a program does; that it starts is seen where it is started in earnest."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing import forkserver
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


@cache
def context() -> multiprocessing.context.BaseContext:
    """What starts them, with its own way to the tests' modules and the benchmarks'."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["several"])
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(PROJECT), *(str(PROJECT / name) for name in ("tests", "benchmarks"))]
        patch.setenv("PYTHONPATH", os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]))
        forkserver.ensure_running()
    return context


class Program:
    """``target(*arguments)`` in a session of its own, both streams in ``log``; its status is what that returns. To be
    asked as a ``subprocess.Popen``."""

    def __init__(
        self,
        target: Callable[..., int | None],
        *arguments: object,
        log: Path,
        folder: Path = PROJECT,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        given = (target, arguments, log, folder, dict(environment))
        self._process = context().Process(target=_run, args=given)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self._process.exitcode


def _run(target, arguments, log: Path, folder: Path, environment: dict[str, str]) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with open(log, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.exit(target(*arguments))


def cli(*arguments: str) -> int:
    """``python -m sepo_kit`` with these."""
    from sepo_kit.cli import main

    return main(list(arguments))


def script(path: Path, *arguments: str) -> None:
    """``python path`` with these."""
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")
