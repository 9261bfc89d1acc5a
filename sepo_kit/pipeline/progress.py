"""How a batch stands, in one line: what is done, what runs and at which step, how long the rest may take.

Read from the files that nodes and trainings write, so that it works for those on other machines too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TextIO

from sepo_kit.pipeline.record import Task, log, standing
from sepo_kit.runs import PROGRESS, RunError, read_json

LIVE_SECONDS, LOGGED_SECONDS = 0.5, 15.0  # between two lines on a terminal, and elsewhere


class Progress:
    """Follows the tasks of one batch.

    Parameters
    ----------
    todo
        All tasks, those that are done already too.
    waiting
        Names of those that have to run.
    batch
        The batch's id.
    retries
        More attempts that a task gets.
    workers
        Notebooks at a time.
    cores
        That all of them share.
    stream
        Where lines go; on a terminal the last is written over.
    """

    def __init__(
        self,
        todo: Sequence[Task],
        waiting: Collection[str],
        root: Path,
        batch: str,
        retries: int,
        workers: int,
        cores: float,
        stream: TextIO,
    ) -> None:
        self.todo = list(todo)
        self.waiting = frozenset(waiting)
        self.root = root
        self.batch = batch
        self.retries = retries
        self.workers = workers
        self.cores = cores
        self.stream = stream
        self.live = stream.isatty() if hasattr(stream, "isatty") else False
        self.began = time.monotonic()
        self.last_line = float("-inf")
        self.stands: dict[str, dict[str, Any]] = {}
        self.since: dict[str, float] = {}  # when a task that runs was first seen to
        self.said: set[tuple[str, int]] = set()  # failed attempts

    def look(self) -> None:
        """Read how all tasks stand, and name those that failed since the last look."""
        for task in self.todo:
            if task.name not in self.waiting or self.state(task) == "done":
                continue
            try:
                now = read_json(standing(task, self.root))
            except RunError:
                continue
            if not isinstance(now, dict) or now.get("batch") != self.batch:
                continue
            if now["state"] == "running" and self.state(task) != "running":
                self.since[task.name] = time.monotonic()
            self.stands[task.name] = now
            for failed in [*now.get("failures", []), *([now] if now["state"] == "failed" else [])]:
                if (attempt := (task.name, failed["attempt"])) not in self.said:
                    self.said.add(attempt)
                    self.say(self._of_attempt(task, failed))

    def _of_attempt(self, task: Task, failed: dict[str, Any]) -> str:
        if failed["again"] and failed["attempt"] <= self.retries:
            return (
                f"{task.name} failed: {failed['error']}; it is started again "
                f"({failed['attempt'] + 1} of {self.retries + 1})"
            )
        return self.failure(task)

    def state(self, task: Task) -> str:
        """One of done, waiting, running, failed."""
        return self.stands.get(task.name, {}).get("state", "waiting" if task.name in self.waiting else "done")

    def seconds(self, task: Task) -> float:
        """That a task took in this batch; 0 where it did not run to its end."""
        return self.stands.get(task.name, {}).get("seconds", 0.0) if self.state(task) == "done" else 0.0

    def failure(self, task: Task) -> str:
        """Why a task failed, and where its log is."""
        error = self.stands[task.name].get("error") or "it was killed; out of memory?"
        return f"{task.name} failed: {error}\nits log: {log(task, self.root)}"

    def elapsed(self) -> float:
        """Seconds since the batch began."""
        return time.monotonic() - self.began

    def show(self) -> None:
        """Write the line, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self.last_line < (LIVE_SECONDS if self.live else LOGGED_SECONDS):
            return
        self.last_line = now
        line = self.line()
        if self.live:
            width = os.get_terminal_size(self.stream.fileno()).columns
            self.stream.write("\r\x1b[2K" + line[: width - 1])
            self.stream.flush()
        else:
            self.say(line)

    def line(self) -> str:
        """How the batch stands."""
        done = sum(self.state(task) == "done" for task in self.todo)
        running = [task for task in self.todo if self.state(task) == "running"]
        failed = sum(self.state(task) == "failed" for task in self.todo)
        return (
            f"[{clock(self.elapsed())}] {done}/{len(self.todo)} notebooks done, "
            + (f"{failed} failed, " if failed else "")
            + f"about {clock(self.seconds_left())} left | "
            + ("; ".join(f"{task.name}{self._detail(task)}" for task in running) or "nothing runs yet")
        )

    def seconds_left(self) -> float:
        """The longest chain, or all work over the workers or the cores, whichever is longest, at the pace seen so
        far."""
        worked = [task for task in self.todo if self.seconds(task) and self._worked(task)]
        expected = sum(task.minutes * 60 for task in worked)
        seen = sum(map(self.seconds, worked))
        pace = seen / expected if seen > 30 else 1.0
        left = {task.name: self._left(task, pace) for task in self.todo}
        chain: dict[str, float] = {}
        for task in self.todo:
            chain[task.name] = left[task.name] + max(
                (chain.get(name, 0.0) for name in task.after), default=0.0
            )
        shared = (
            sum(left.values()) / self.workers,
            sum(left[t.name] * t.threads for t in self.todo) / self.cores,
        )
        return max(*chain.values(), *shared, 0.0)

    def _left(self, task: Task, pace: float) -> float:
        """Seconds a task still needs, as far as can be told."""
        state = self.state(task)
        if state in ("done", "failed"):
            return 0.0
        whole = task.minutes * 60 * pace
        if state == "waiting":
            return whole
        return max(whole - (time.monotonic() - self.since[task.name]), 0.05 * whole)

    def _worked(self, task: Task) -> bool:
        """Whether a finished task had anything left to train: what it found done says nothing of the pace."""
        began, took = self.stands[task.name]["started"], self.seconds(task)
        return task.watched is None or any(began <= when <= began + took for when, _ in self._reports(task))

    def _detail(self, task: Task) -> str:
        """The newest progress report made since the task started."""
        when, said = max(self._reports(task), default=(float("-inf"), ""))
        return said if when >= self.stands[task.name]["started"] else ""

    def _reports(self, task: Task) -> list[tuple[float, str]]:
        """When each run that a task watches last reported, and what."""
        reports = []
        for file in task.watched.glob(f"*/{PROGRESS}") if task.watched else ():
            try:
                report = read_json(file, dict, {"time": float, "note": str, "step": int, "total": int})
            except (RunError, OSError):
                continue
            reports.append((report["time"], f" ({report['note']}, step {report['step']}/{report['total']})"))
        return reports

    def say(self, text: str) -> None:
        """Write a line that stays."""
        if self.live:
            self.stream.write("\r\x1b[2K")
        self.stream.write(text + "\n")
        self.stream.flush()


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as in 1:02:03.

    >>> clock(62.9), clock(3723)
    ('1:02', '1:02:03')
    """
    minutes, seconds = divmod(int(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    return f"{minutes}:{seconds:02d}"
