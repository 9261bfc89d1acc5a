"""The whole pipeline: the numbered notebooks, run headless by papermill in the order they need each other.

Every task is one notebook with parameters. Tasks that do not wait for each other run side by side, one process
each. A task that has run with the same parameters and the same code is not run again, so an interrupted
reproduction goes on where it stopped.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sepo_kit.evaluation.results import read_results, text_table
from sepo_kit.pipeline.children import Child, ended_by_sigterm
from sepo_kit.pipeline.launch import gpus, old_runs
from sepo_kit.pipeline.notebooks import (
    NotebookFailed,
    check_parameters,
    command,
)
from sepo_kit.pipeline.profiles import Profile
from sepo_kit.pipeline.tasks import (
    Task,
    fingerprint,
    log,
    longest_chain_first,
    marker,
    output,
    reasons,
    result_files,
    tasks,
    unfinished,
)
from sepo_kit.runs import PROGRESS, RunError, read_json, require_space, write_json
from sepo_kit.runs.project import PROJECT

NEEDED_BYTES = 2 * 2**30
ENVIRONMENT = {
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    # glibc hands the memory of every large tensor back to the system and asks for it again, page by page. Keeping it
    # makes a training step of SmolLM2 on a CPU about a sixth faster.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
# Whatever the user's own backend is: figures go into the executed notebooks.
DRAWING = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
# --- running --------------------------------------------------------------------------------------


def reproduce(
    profile: Profile,
    root: Path,
    figures: Path,
    results: Path,
    workers: int | None = None,
    stream=None,
    *,
    dry_run: bool = False,
) -> None:
    """Run all notebooks of ``profile``; print progress, every new row of results, and the table at the end.

    Parameters
    ----------
    dry_run
        Only say which would run, and why.

    Raises
    ------
    NotebookFailed
        A notebook failed; the message has its last error and where its log is. Those that did not need it have run.
    OSError
        Less than 2 GiB free where the runs go.
    """
    stream = stream or sys.stdout
    workers = workers or max(1, min(len(gpus()) or os.cpu_count() or 1, len(profile.plans)))
    todo = tasks(profile, Path(root), Path(figures), Path(results))
    for task in todo:
        check_parameters(task.notebook, task.parameters)
    if dry_run:
        waiting = reasons(todo, Path(root))
        width = max(map(len, waiting), default=0)
        stream.writelines(f"{name:<{width}}  {why}\n" for name, why in waiting.items())
        stream.write(f"{len(waiting)} of {len(todo)} notebooks would run\n")
        return
    require_space(root, NEEDED_BYTES)
    with _alone(Path(root)):
        Reproduction(profile, Path(root), todo, workers, stream).run()


class Reproduction:
    """Runs tasks side by side and says how it goes."""

    def __init__(self, profile: Profile, root: Path, todo: Sequence[Task], workers: int, stream) -> None:
        self.profile = profile
        self.root = root
        self.todo = list(todo)
        self.workers = workers
        self.stream = stream
        self.processes: dict[str, Child] = {}
        self.failures: list[str] = []
        self.gpus = gpus()
        self.shown: set[Path] = set()
        self.began = time.time()
        self.last_line = 0.0
        self.live = stream.isatty() if hasattr(stream, "isatty") else False

    def run(self) -> None:
        """Run until all tasks are done, or only those are left that wait for one that failed."""
        threads = self.threads = max(1, (os.cpu_count() or 1) // self.workers)
        self._say(
            f"profile {self.profile.name}: {len(self.todo)} notebooks, {self.workers} at a time, "
            f"{threads} thread{'s' if threads > 1 else ''} each, runs in {self.root}"
        )
        waiting = reasons(self.todo, self.root)
        for task in self.todo:
            task.state = "waiting" if task.name in waiting else "done"
        self._say_what_is_old()
        with ended_by_sigterm():
            try:
                while self._start_ready(threads) or self.processes:
                    self._collect()
                    self._show_new_results()
                    self._show_progress()
                    time.sleep(0.3)
            finally:
                self._stop_all()
        self._show_new_results()
        if self.failures:
            left = sum(task.state == "waiting" for task in self.todo)
            raise NotebookFailed(
                "\n".join(self.failures)
                + (f"\n{left} notebooks behind that wait" if left else "")
                + "\nmend the cause and run the same command again to go on"
            )
        self._finish()

    def _start_ready(self, threads: int) -> bool:
        """Start what can be; whether anything was."""
        started = False
        done = {task.name for task in self.todo if task.state == "done"}
        for task in longest_chain_first(self.todo):
            if len(self.processes) >= self.workers:
                break
            if task.state == "waiting" and set(task.after) <= done:
                self.processes[task.name] = _start(task, self.root, threads, self._free_gpu(task))
                task.state, task.started = "running", time.time()
                started = True
        return started

    def _collect(self) -> None:
        for task in self.todo:
            process = self.processes.get(task.name)
            if process is None or process.runs():
                continue
            del self.processes[task.name]
            task.seconds = time.time() - task.started
            if process.failed and not task.again and _kernel_was_late(task, self.root):
                task.again = True
                self.processes[task.name] = _start(task, self.root, self.threads, task.gpu)
                continue
            if process.failed:
                task.state = "failed"
                self.failures.append(
                    f"{task.name} failed: {process.error()}\nits log: {log(task, self.root)}"
                )
                self._say(self.failures[-1])
                continue
            unfinished(task, self.root).replace(output(task, self.root))
            write_json(
                marker(task.name, self.root),
                {"fingerprint": fingerprint(task, self.root), "seconds": task.seconds},
            )
            task.state = "done"

    def _free_gpu(self, task: Task) -> str | None:
        """The GPU of the fewest running tasks, for this one; None where there is none."""
        running = [other.gpu for other in self.todo if other.state == "running"]
        task.gpu = min(self.gpus, key=running.count, default=None)
        return task.gpu

    def _stop_all(self) -> None:
        for process in self.processes.values():
            process.interrupt()  # all at once: they end side by side
        for process in self.processes.values():
            process.stop()

    def _say_what_is_old(self) -> None:
        for line in old_runs(self.profile, self.root):
            self._say(line)

    # --- what is said -----------------------------------------------------------------------------

    def _show_progress(self) -> None:
        now = time.time()
        if now - self.last_line < (0.5 if self.live else 15):
            return
        self.last_line = now
        done = sum(task.state == "done" for task in self.todo)
        running = "; ".join(f"{t.name}{_detail(t)}" for t in self.todo if t.state == "running")
        line = (
            f"[{_clock(now - self.began)}] {done}/{len(self.todo)} notebooks done, about "
            f"{_clock(self._seconds_left())} left | {running}"
        )
        if self.live:
            width = os.get_terminal_size(self.stream.fileno()).columns
            self.stream.write("\r\x1b[2K" + line[: width - 1])
            self.stream.flush()
        else:
            self._say(line)

    def _seconds_left(self) -> float:
        """The longest chain, or all work over the workers, whichever is longer, at the pace seen so far."""
        expected = sum(t.minutes * 60 for t in self.todo if t.state == "done" and t.seconds)
        seen = sum(t.seconds for t in self.todo if t.state == "done")
        pace = seen / expected if seen > 30 else 1.0
        left = {t.name: _left(t, pace) for t in self.todo}
        chain: dict[str, float] = {}
        for task in self.todo:
            chain[task.name] = left[task.name] + max((chain[name] for name in task.after), default=0.0)
        return max(max(chain.values()), sum(left.values()) / self.workers)

    def _show_new_results(self) -> None:
        for file in result_files(self.profile, self.root):
            if file in self.shown:
                continue
            self.shown.add(file)
            results = read_results([file]).set_index("metric")["value"]
            label = read_json(file)["label"]
            numbers = ", ".join(
                f"{name} {results[metric]:.3f}"
                for metric, name in (("safety", "Safety"), ("payoff", "payoff"), ("exploit", "exploit"))
            )
            seed = "" if label["seed"] is None else f" seed {label['seed']}"
            self._say(f"result: {label['model']} on {label['game']}, {label['stage']}{seed}: {numbers}")

    def _finish(self) -> None:
        files = result_files(self.profile, self.root)
        self._say("\n" + text_table(read_results(files)))
        last = self.todo[-1]
        pictures = sorted(Path(last.parameters["figures"]).glob("*.png"))
        self._say(
            f"\n{len(pictures)} figures in {last.parameters['figures']}, tables in {last.parameters['results']}"
        )
        self._say(f"done in {_clock(time.time() - self.began)}")

    def _say(self, text: str) -> None:
        if self.live:
            self.stream.write("\r\x1b[2K")
        self.stream.write(text + "\n")
        self.stream.flush()


def _start(task: Task, root: Path, threads: int, gpu: str | None = None) -> Child:
    environment = {**ENVIRONMENT, **os.environ, **DRAWING, "OMP_NUM_THREADS": str(threads)}
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    line = command(task.notebook, task.parameters, unfinished(task, root))
    return Child(line, log(task, root), folder=PROJECT, environment=environment)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep a second reproduction out of ``root``; the lock goes when this process does, however it ends."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"another reproduction is running in {root}; wait for it, or choose another --runs"
            ) from None
        yield


def _kernel_was_late(task: Task, root: Path) -> bool:
    """Whether its kernel never answered: two kernels that start at once may pick the same port."""
    return "Kernel didn't respond" in log(task, root).read_text(errors="replace")


def _progress(task: Task) -> dict[str, Any] | None:
    """The newest progress report made since the task started."""
    if task.watched is None:
        return None
    reports = []
    for file in task.watched.glob(f"*/{PROGRESS}"):
        try:
            reports.append(read_json(file))
        except RunError:
            continue
    newest = max(reports, key=lambda report: report["time"], default=None)
    return newest if newest and newest["time"] >= task.started else None


def _detail(task: Task) -> str:
    report = _progress(task)
    return f" ({report['note']}, step {report['step']}/{report['total']})" if report else ""


def _left(task: Task, pace: float) -> float:
    """Seconds a task still needs, as far as can be told."""
    if task.state == "done":
        return 0.0
    whole = task.minutes * 60 * pace
    if task.state == "waiting":
        return whole
    return max(whole - (time.time() - task.started), 0.05 * whole)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
    )
