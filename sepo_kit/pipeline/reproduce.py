"""The whole pipeline: the numbered notebooks, run headless by papermill in the order they need each other.

Every task is one notebook with parameters; Snakemake runs those that have to run, side by side, here or on a cluster.
A task that has run with the same parameters and the same code is not run again, so an interrupted reproduction goes on
where it stopped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd

from sepo_kit.evaluation.results import read_results, text_table
from sepo_kit.pipeline.batch import (
    CLUSTER_JOBS,
    How,
    cancel,
    cluster,
    cores,
    engine,
    on_slurm,
    report_lines,
    write_batch,
)
from sepo_kit.pipeline.children import Child, ended_by_sigterm, last_error
from sepo_kit.pipeline.launch import gpus, old_runs
from sepo_kit.pipeline.notebooks import NotebookFailed
from sepo_kit.pipeline.progress import Progress, clock
from sepo_kit.pipeline.record import Task, reasons
from sepo_kit.pipeline.tasks import Part, all_tasks, only, result_files, results_of
from sepo_kit.runs import RunError, locked, require_space

NEEDED_BYTES = 2 * 2**30
POLL_SECONDS = 0.3
LATE_SECONDS = 60  # that a shared disk may need
LOG = "batch.log"
NAMED_ROWS = 6  # that are missing


def reproduce(
    parts: Sequence[Part],
    root: Path,
    workers: int | None = None,
    stream=None,
    *,
    dry_run: bool = False,
    names: Sequence[str] = (),
    retries: int = 2,
    limit_minutes: float | None = None,
    on: str | None = None,
    report: Path | None = None,
) -> None:
    """Run all notebooks of ``parts``; print progress, every new row of results, and the tables at the end.

    Parameters
    ----------
    parts
        Profiles, and where their runs, figures and tables go: one, or one for each change of it.
    root
        Where the executed notebooks go, with their logs.
    workers
        Notebooks at a time; None: one per GPU, one per core where there is none.
    dry_run
        Only say which would run, and why.
    names
        Only the notebook runs that these name, and what they need, as ``tasks.only`` takes them; empty: all.
    retries, limit_minutes, on
        As in ``How``.
    report
        Where a page on the batch goes: what ran when, figures and tables.

    Raises
    ------
    ValueError
        A dry run is to be reported, a name names no notebook run, or there is no such cluster.
    NotebookFailed
        A notebook failed; the message has its last error and where its log is. Those that did not need it have run.
    OSError
        Less than 2 GiB free where the runs go.
    """
    if dry_run and report:
        raise ValueError("a dry run has nothing to report; leave out --report, or --dry-run")
    root, stream = Path(root), stream or sys.stdout
    cards = () if on else tuple(gpus())
    if on:
        cluster(on)  # whether there is one
        how = How(workers or CLUSTER_JOBS, (), retries, limit_minutes, on)
    else:
        workers = workers or max(
            1, min(len(cards) or os.cpu_count() or 1, sum(len(part.profile.plans) for part in parts))
        )
        how = How(workers, cards, retries, limit_minutes)
    todo = all_tasks(parts)
    if names:
        todo = only(todo, names)
    if dry_run:
        waiting = reasons(todo, root)
        width = max(map(len, waiting), default=0)
        stream.writelines(f"{name:<{width}}  {why}\n" for name, why in waiting.items())
        stream.write(f"{len(waiting)} of {len(todo)} notebooks would run\n")
        return
    require_space(root, NEEDED_BYTES)
    with _alone(root), ended_by_sigterm():
        Reproduction(parts, root, todo, how, stream).run(report)


class Reproduction:
    """Runs what has to run of ``todo`` and says how it goes."""

    def __init__(self, parts: Sequence[Part], root: Path, todo: Sequence[Task], how: How, stream) -> None:
        self.parts = list(parts)
        self.root = root
        self.todo = list(todo)
        self.how = how
        self.stream = stream
        self.shown = {file: file.stat().st_mtime_ns for _, file in self._results()}  # when they were written

    def run(self, report: Path | None = None) -> None:
        """Run until all tasks are done, or only those are left that wait for one that failed."""
        how = self.how
        stopped = cancel(self.root) if on_slurm(how) else 0
        waiting = reasons(self.todo, self.root)
        batch = write_batch(self.todo, waiting, self.root, how)
        progress = self.progress = Progress(
            self.todo,
            waiting,
            self.root,
            batch,
            how.retries,
            how.workers,
            float("inf") if how.on else cores(how),
            self.stream,
        )
        progress.say(
            f"profile {'; '.join(part.profile.name for part in self.parts)}: "
            f"{len(self.todo)} notebooks, {how.workers} at a time, "
            + (f"on {how.on}, " if how.on else "")
            + f"runs in {self.root}"
        )
        for part in self.parts:
            for line in old_runs(part.profile, part.root):
                progress.say(line)
        if stopped:
            progress.say(f"{stopped} jobs of an earlier batch were in the queue and have been cancelled")
        if waiting:
            self._run(waiting)
        self._show_new_results()
        self._finish(report)

    def _run(self, waiting: Collection[str]) -> None:
        """Run Snakemake to its end.

        Raises
        ------
        NotebookFailed
            A task is not done then.
        """
        log = self.root / LOG
        child = Child(engine(self.root, self.how), log)
        try:
            while child.runs(POLL_SECONDS):
                self.progress.look()
                self._show_new_results()
                self.progress.show()
            self._last_look(child)
        finally:
            child.stop()
            if on_slurm(self.how):
                cancel(self.root)
        states = {task.name: self.progress.state(task) for task in self.todo}
        left = [name for name in waiting if states[name] != "done"]
        if not left:
            return
        self._show_new_results()
        failed = [task for task in self.todo if states[task.name] in ("failed", "running")]
        said = [self.progress.failure(task) for task in failed] or [
            f"the batch stopped: {last_error(log)}\nits log: {log}"
        ]
        if len(left) > len(failed):
            said.append(f"{len(left) - len(failed)} notebooks behind that wait")
        if missing := self._missing():
            said.append(f"missing in the table: {missing}")
        raise NotebookFailed("\n".join([*said, "mend the cause and run the same command again to go on"]))

    def _last_look(self, child: Child) -> None:
        """See how all tasks ended; what was written on another machine may come late."""
        until = time.monotonic() + (LATE_SECONDS if self.how.on else 0)
        while True:
            self.progress.look()
            states = set(map(self.progress.state, self.todo))
            if child.failed or states == {"done"} or time.monotonic() > until:
                return
            time.sleep(POLL_SECONDS)

    def _results(self) -> list[tuple[Part, Path]]:
        """The result files that are there."""
        return [(part, file) for part in self.parts for file in result_files(part.profile, part.root)]

    def _rows(self, part: Part) -> list[pd.DataFrame]:
        """The results of ``part`` by file; of one that this version cannot read it is said so."""
        found = []
        for file in result_files(part.profile, part.root):
            try:
                found.append(read_results([file]))
            except RunError as error:
                self.progress.say(f"left out of the table: {error}")
        return found

    def _show_new_results(self) -> None:
        for part, file in self._results():
            written = file.stat().st_mtime_ns
            if self.shown.get(file) == written:
                continue
            try:
                rows = read_results([file])
            except (
                RunError
            ):  # of an older version, or damaged: whether it is made anew is not for this to say
                continue
            self.shown[file] = written
            results, label = rows.set_index("metric")["value"], rows.iloc[0]
            numbers = ", ".join(
                f"{name} {results[metric]:.3f}"
                for metric, name in (("safety", "Safety"), ("payoff", "payoff"), ("exploit", "exploit"))
            )
            seed = "" if pd.isna(label["seed"]) else f" seed {label['seed']:.0f}"
            self.progress.say(
                f"result: {label['model']} on {label['game']}, {label['stage']}{seed}{_of(part)}: {numbers}"
            )

    def _missing(self) -> str:
        """The rows of the profiles' tables that are not there, named; empty where it is complete."""
        rows = [
            f"{plan.name} {file.stem}{_of(part)}"
            for part in self.parts
            for plan in part.profile.plans
            for file in results_of(plan, part.root)
            if not file.exists()
        ]
        more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
        return ", ".join(rows[:NAMED_ROWS]) + more

    def _finish(self, report: Path | None) -> None:
        say = self.progress.say
        for part in self.parts:
            if rows := self._rows(part):
                say(
                    (f"\n{part.label}:\n" if part.label else "\n")
                    + text_table(pd.concat(rows, ignore_index=True))
                )
        if missing := self._missing():
            say(f"\nnot in this table, since it was not asked for: {missing}")
        for out in self._drawn():
            pictures = sorted(Path(out["figures"]).glob("*.png"))
            say(f"\n{len(pictures)} figures in {out['figures']}, tables in {out['results']}")
        if report:
            self._report(report)
        say(f"done in {clock(self.progress.elapsed())}")

    def _drawn(self) -> list[dict[str, str]]:
        """Where the notebooks that draw all figures put them, and their tables, as far as they are asked for."""
        return [task.parameters for task in self.todo if task.notebook == "08_figures"]

    def _report(self, file: Path) -> None:
        """Have Snakemake write its page on the whole batch, with figures and tables."""
        shown = {
            path: path.name if len(self.parts) == 1 else f"{number}-{path.name}"
            for number, out in enumerate(self._drawn(), 1)
            for kind, pattern in (("figures", "*.png"), ("results", "*.csv"))
            for path in sorted(Path(out[kind]).glob(pattern))
        }
        write_batch(
            self.todo, {task.name for task in self.todo}, self.root, replace(self.how, on=None), shown
        )
        (self.root / "report").mkdir(exist_ok=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        for line in report_lines(self.root, file.resolve(), bool(shown)):
            with open(self.root / LOG, "ab") as log:
                ended = subprocess.run(line, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            if ended.returncode:
                raise RunError(
                    f"the report failed: {last_error(self.root / LOG)}; its log: {self.root / LOG}"
                )
        self.progress.say(f"report: {file}")


def _of(part: Part) -> str:
    return f" ({part.label})" if part.label else ""


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep a second reproduction out of ``root``; the lock goes when this process does, however it ends."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "w") as file:
        if not locked(file):
            raise RunError(
                f"another reproduction is running in {root}; wait for it, or choose another --runs"
            )
        yield
