"""The whole pipeline: the numbered notebooks, run headless by papermill in the order they need each other.

Every task is one notebook with parameters. Tasks that do not wait for each other run side by side, one process
each. A task that has run with the same parameters and the same code is not run again, so an interrupted
reproduction goes on where it stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepo_kit.evaluation.results import STAGES, read_results, text_table
from sepo_kit.pipeline.children import Child, ended_by_sigterm
from sepo_kit.pipeline.launch import gpus, old_runs
from sepo_kit.pipeline.notebooks import (
    NOTEBOOKS,
    NotebookFailed,
    check_parameters,
    command,
)
from sepo_kit.pipeline.profiles import Plan, Profile
from sepo_kit.runs import MANIFEST, PROGRESS, RunError, read_json, require_space, write_json
from sepo_kit.runs.project import PACKAGE, PROJECT

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
# The notebooks of a plan, in their order, and how they share its minutes.
SHARES = {"04_sft_warm_start": 0.4, "05_sepo_training": 0.45, "06_evaluation": 0.15}


@dataclass
class Task:
    """One notebook run. ``after``: names of tasks that must be done; ``minutes``: a first guess of its time;
    ``watched``: folder under which its stages report progress; ``makes``: files without which it is not done."""

    name: str
    notebook: str
    parameters: dict[str, Any]
    after: tuple[str, ...] = ()
    minutes: float = 0.3
    watched: Path | None = None
    makes: tuple[Path, ...] = ()
    state: str = field(default="waiting", init=False)
    started: float = field(default=0.0, init=False)
    seconds: float = field(default=0.0, init=False)
    again: bool = field(default=False, init=False)  # whether it was started a second time
    gpu: str | None = field(default=None, init=False)  # the one it computes on


def tasks(profile: Profile, root: Path, figures: Path, results: Path) -> list[Task]:
    """The notebook runs of a profile, in an order in which each comes after what it needs."""
    common = {"profile": profile.name, "runs": str(root)}
    data = Task("03_sft_data", "03_sft_data", {**common, "data": str(results.parent / "sft")}, minutes=0.2)
    todo = [data]
    for plan in profile.plans:
        todo += _chain(plan, root, common, data.name)
    last = tuple(task.name for task in todo if task.notebook == "06_evaluation")
    # Nothing waits for these three: they fill the gaps.
    todo.append(Task("01_games", "01_games", common, minutes=0.7))
    todo.append(Task("02_penalties", "02_penalties", common, minutes=0.3))
    todo.append(Task("07_credit_ablation", "07_credit_ablation", common, minutes=0.8))
    todo.append(Task("09_penalty_lab", "09_penalty_lab", common, last, minutes=0.2))
    out = {"figures": str(figures), "results": str(results)}
    todo.append(Task("10_worst_case", "10_worst_case", {**common, **out}, last, minutes=0.6))
    table = results / f"{profile.name}.csv"
    todo.append(Task("08_figures", "08_figures", {**common, **out}, last, minutes=0.4, makes=(table,)))
    return todo


def _chain(plan: Plan, root: Path, common: dict[str, Any], data: str) -> list[Task]:
    chain: list[Task] = []
    for notebook, share in SHARES.items():
        chain.append(
            Task(
                f"{notebook} {plan.name}",
                notebook,
                {**common, "model": plan.model, "game": plan.game},
                (chain[-1].name if chain else data,),
                plan.minutes * share,
                plan.folder(root),
                _made(plan, root, notebook),
            )
        )
    return chain


def _made(plan: Plan, root: Path, notebook: str) -> tuple[Path, ...]:
    """What a notebook of the plan leaves behind: runs, or results."""
    if notebook == "06_evaluation":
        return tuple(_results(plan, root))
    stages = [stage for stage in plan.trained if (stage == "sft") == (notebook == "04_sft_warm_start")]
    return tuple(plan.stage_folder(root, stage, seed) / MANIFEST for stage in stages for seed in plan.seeds)


def longest_chain_first(todo: Sequence[Task]) -> list[Task]:
    """``todo`` by how long a task and all that must wait for it take one after the other, so that no long chain is
    left alone at the end; among equals the order stays."""
    chain = {task.name: 0.0 for task in todo}
    for task in reversed(todo):  # a task comes after what it needs
        chain[task.name] += task.minutes
        for name in task.after:
            chain[name] = max(chain[name], chain[task.name])
    return sorted(todo, key=lambda task: -chain[task.name])


# --- running --------------------------------------------------------------------------------------


def reproduce(
    profile: Profile,
    root: Path,
    figures: Path,
    results: Path,
    workers: int | None = None,
    stream=None,
) -> None:
    """Run all notebooks of ``profile``; print progress, every new row of results, and the table at the end.

    Raises
    ------
    NotebookFailed
        A notebook failed; the message has its last error and where its log is.
    OSError
        Less than 2 GiB free where the runs go.
    """
    stream = stream or sys.stdout
    workers = workers or max(1, min(len(gpus()) or os.cpu_count() or 1, len(profile.plans)))
    require_space(root, NEEDED_BYTES)
    todo = tasks(profile, Path(root), Path(figures), Path(results))
    for task in todo:
        check_parameters(task.notebook, task.parameters)
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
        self.gpus = gpus()
        self.shown: set[Path] = set()
        self.began = time.time()
        self.last_line = 0.0
        self.live = stream.isatty() if hasattr(stream, "isatty") else False

    def run(self) -> None:
        """Run until all tasks are done, or one fails."""
        threads = self.threads = max(1, (os.cpu_count() or 1) // self.workers)
        self._say(
            f"profile {self.profile.name}: {len(self.todo)} notebooks, {self.workers} at a time, "
            f"{threads} thread{'s' if threads > 1 else ''} each, runs in {self.root}"
        )
        done: set[str] = set()
        for task in self.todo:  # each comes after what it needs
            if set(task.after) <= done and _is_done(task, self.root):
                task.state = "done"
                done.add(task.name)
        self._say_what_is_old()
        with ended_by_sigterm():
            try:
                while any(task.state != "done" for task in self.todo):
                    self._start_ready(threads)
                    self._collect()
                    self._show_new_results()
                    self._show_progress()
                    time.sleep(0.3)
            finally:
                self._stop_all()
        self._show_new_results()
        self._finish()

    def _start_ready(self, threads: int) -> None:
        done = {task.name for task in self.todo if task.state == "done"}
        for task in longest_chain_first(self.todo):
            if len(self.processes) >= self.workers:
                return
            if task.state == "waiting" and set(task.after) <= done:
                self.processes[task.name] = _start(task, self.root, threads, self._free_gpu(task))
                task.state, task.started = "running", time.time()

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
                raise NotebookFailed(
                    f"{task.name} failed: {process.error()}\n"
                    f"its log: {_log(task, self.root)}; mend the cause and run the same command again to go on"
                )
            _unfinished(task, self.root).replace(_output(task, self.root))
            write_json(
                _marker(task.name, self.root),
                {"fingerprint": _fingerprint(task, self.root), "seconds": task.seconds},
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


def result_files(profile: Profile, root: Path | str) -> list[Path]:
    """The result files of a profile that exist, in the order of its plans and of the stages."""
    return [file for plan in profile.plans for file in _results(plan, root, STAGES) if file.exists()]


def _results(plan: Plan, root: Path | str, stages: Sequence[str] | None = None) -> list[Path]:
    """Where the results of a plan lie, of all its stages or of ``stages``."""
    found = []
    for stage in plan.stages if stages is None else stages:
        names = [stage] if stage == "base" else [f"{stage}-seed-{seed}" for seed in plan.seeds]
        found += [plan.folder(root) / "results" / f"{name}.json" for name in names]
    return found


# --- files and processes ----------------------------------------------------------------------------


def _start(task: Task, root: Path, threads: int, gpu: str | None = None) -> Child:
    environment = {**ENVIRONMENT, **os.environ, **DRAWING, "OMP_NUM_THREADS": str(threads)}
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    line = command(task.notebook, task.parameters, _unfinished(task, root))
    return Child(line, _log(task, root), folder=PROJECT, environment=environment)


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


def _slug(name: str) -> str:
    return name.replace(" ", "_").replace("/", "_")


def _output(task: Task, root: Path) -> Path:
    return root / "notebooks" / f"{_slug(task.name)}.ipynb"


def _unfinished(task: Task, root: Path) -> Path:
    return root / "notebooks" / f"{_slug(task.name)}.unfinished.ipynb"


def _log(task: Task, root: Path) -> Path:
    return root / "notebooks" / f"{_slug(task.name)}.log"


def _marker(name: str, root: Path) -> Path:
    return root / "notebooks" / f"{_slug(name)}.json"


def _kernel_was_late(task: Task, root: Path) -> bool:
    """Whether its kernel never answered: two kernels that start at once may pick the same port."""
    return "Kernel didn't respond" in _log(task, root).read_text(errors="replace")


def _fingerprint(task: Task, root: Path) -> str:
    """What a task's outcome depends on: its parameters, its notebook, the library's code, and that what it needs was
    done when it ran and has not been done again since."""
    digest = hashlib.sha256(json.dumps([task.name, task.parameters], sort_keys=True).encode())
    for file in [NOTEBOOKS / f"{task.notebook}.ipynb", *sorted(PACKAGE.rglob("*.py"))]:
        digest.update(file.read_bytes())
    for name in sorted(task.after):
        digest.update(_marker(name, root).read_bytes())
    return digest.hexdigest()


def _is_done(task: Task, root: Path) -> bool:
    try:
        marker = read_json(_marker(task.name, root))
        there = all(path.exists() for path in (_output(task, root), *task.makes))
        return there and marker["fingerprint"] == _fingerprint(task, root)
    except (OSError, RunError, KeyError, TypeError):
        return False


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
